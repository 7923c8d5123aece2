"""Watches the event loop and the process from outside: who blocks it, and what it costs."""
