"""Watches the event loop and the process: who blocks the loop, and how much memory is held."""
