"""The worker end to end, on every store."""
