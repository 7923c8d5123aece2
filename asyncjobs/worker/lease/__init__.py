"""A worker's right to its jobs: the session, its heartbeats, cancels, and how it ends."""
