"""How the process of a worker ends."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["ExitCode"]


class ExitCode(IntEnum):
    """How `asyncjobs worker` ends; a third signal ends it with 128 + its number."""

    CLEAN = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    RELEASED = 4
