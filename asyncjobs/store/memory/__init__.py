"""A store in this process's memory: for tests, examples and local runs."""

from asyncjobs.store.memory.backend import MemoryBackend

__all__ = ["MemoryBackend"]
