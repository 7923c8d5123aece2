"""The process around a worker: its parent, its signals, its exit, its health."""
