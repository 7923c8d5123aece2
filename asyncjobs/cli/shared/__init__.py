"""What several commands share: loading an app, opening a store, flags, tables and logs."""
