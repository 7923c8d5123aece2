"""Stores behind one seam: seam.py says what a store must do. Each imports its own driver."""

from __future__ import annotations

import os
import re

from asyncjobs.errors import ConfigError
from asyncjobs.store import embedded
from asyncjobs.store.seam import Backend, StoreSettings

__all__ = ["SCHEMES", "URL_VARIABLE", "make_backend", "store_url"]

SCHEMES = (
    "redis://",
    "rediss://",
    "valkey://",
    "valkeys://",
    "unix://",
    "redis+sentinel://",
    "rediss+sentinel://",
    "valkey+sentinel://",
    "valkeys+sentinel://",
    "embedded:",
    "memory:",
)
URL_VARIABLE = "ASYNCJOBS_URL"
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,30}:(//|$)")


def store_url(url: str | None = None) -> str:
    """The URL of the store to use: `url`, else $ASYNCJOBS_URL, else `embedded:`.

    Raises ConfigError when none is given and the extra `embedded` is not installed.
    """
    found = url or os.environ.get(URL_VARIABLE)
    if found:
        return found
    if embedded.is_installed():
        return embedded.SCHEME
    raise ConfigError(
        f"no store: set {URL_VARIABLE}=redis://localhost:6379 or write "
        "AsyncJobs('redis://localhost:6379'); on Linux and macOS, "
        "pip install 'asyncjobs-framework[embedded]' brings a store for one machine"
    )


def make_backend(url: str, settings: StoreSettings) -> Backend:
    """The backend for a store URL. Its driver is imported only now.

    Raises ConfigError for an unknown scheme; the error names those that are known.
    """
    scheme = url.partition(":")[0].lower()
    if f"{scheme}://" in SCHEMES:
        # Only now, so that no other store needs the driver of this one.
        from asyncjobs.store.redis.backend import RedisBackend

        return RedisBackend(url, settings)
    if scheme == "embedded":
        return embedded.new_backend(url, settings)
    if scheme == "memory":
        from asyncjobs.store.memory import MemoryBackend

        return MemoryBackend(settings)
    said = "no known scheme"
    # Without a scheme the text may begin with a password, so the error does not repeat it.
    if _SCHEME.match(url):
        said = f"the unknown scheme {scheme!r}"
    raise ConfigError(f"the store URL has {said}; use one of {', '.join(SCHEMES)}")
