"""The commands about events that jobs wait for."""
