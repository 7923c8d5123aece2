"""A store in this process's memory: for tests, examples and local runs."""

from asyncjobs.backends.memory.backend import MemoryBackend

__all__ = ["MemoryBackend"]
