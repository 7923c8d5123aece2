"""The command line, mostly as a process of its own on a real store."""
