"""Stores behind one seam. See base.py for the seam; each backend imports its driver."""

from __future__ import annotations

from asyncjobs.backends.base import Backend, StoreSettings
from asyncjobs.errors import ConfigError

__all__ = ["SCHEMES", "make_backend"]

SCHEMES = ("redis://", "rediss://", "unix://", "memory:")


def make_backend(url: str, settings: StoreSettings) -> Backend:
    """The backend for a store URL; its driver is imported only now.

    Raises ConfigError naming the schemes for one that is not known.
    """
    scheme = url.partition(":")[0].lower()
    if scheme in ("redis", "rediss", "unix"):
        from asyncjobs.backends.redis.backend import RedisBackend

        return RedisBackend(url, settings)
    if scheme == "memory":
        from asyncjobs.backends.memory import MemoryBackend

        return MemoryBackend(settings)
    raise ConfigError(
        f"the store URL has the unknown scheme {scheme!r}; use one of {', '.join(SCHEMES)}"
    )
