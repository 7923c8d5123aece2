"""Plain values that travel between the rooms. Nothing here decides, stores or waits."""
