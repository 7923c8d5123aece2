"""Listens to events, and passes them on as traces, metrics and log fields."""
