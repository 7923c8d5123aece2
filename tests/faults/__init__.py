"""Faults of store, network and stored bytes, on real servers."""
