"""A file that is fresh while the worker is live, for probes that run a command."""

from __future__ import annotations

import os
from pathlib import Path

import orjson

from asyncjobs.errors import ConfigError
from asyncjobs.host.health.condition import Condition

__all__ = ["HealthFile"]


class HealthFile:
    """Owns one file. It is written again with each report while the worker is live, and removed at
    a clean end.

    A probe has to check its age, because a process that was killed leaves it behind.
    """

    def __init__(self, path: Path) -> None:
        """Raises ConfigError when it cannot be written."""
        self._path = path
        self._draft = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            self._write(Condition(ready=("the worker is starting",)))
        except OSError as error:
            raise ConfigError(
                f"--health-file {str(path)!r} cannot be written: {error.strerror or error}; name "
                "a file in a folder that exists and that this user may write to"
            ) from None

    def tell(self, condition: Condition) -> None:
        if not condition.live:
            self._write(condition)

    def close(self) -> None:
        self._path.unlink(missing_ok=True)

    def _write(self, condition: Condition) -> None:
        text = {"pid": os.getpid(), "ready": not condition.ready, "reasons": condition.ready}
        # Replaced as a whole, so that a probe never reads half of it.
        try:
            self._draft.write_bytes(orjson.dumps(text) + b"\n")
            self._draft.replace(self._path)
        except OSError:
            self._draft.unlink(missing_ok=True)
            raise
