"""What several commands need: opening the store, flags, tables, logs, and how an app is loaded."""
