"""This process, as the system sees it: what it dies with, and what it may take."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from pathlib import Path
from typing import Final

__all__ = ["be_killed_first", "die_with_parent", "is_for_attempts", "lift_memory", "limit_memory"]

is_for_attempts = False
"""True in a fork server and its children. No worker starts there."""
LINUX: Final = sys.platform == "linux"
_PR_SET_PDEATHSIG: Final = 1
_KILLED_FIRST: Final = "500"
_DATA: Final = re.compile(r"^VmData:\s+(\d+) kB$", re.MULTILINE)


def die_with_parent(number: int, parent: int) -> None:
    """Get this signal when the parent is gone, however it has ended. On Linux; elsewhere the end
    of the line to the parent has to do.

    `parent`: the process that has to be alive. If it is gone already, this one ends.
    """
    if LINUX:
        # Not imported where it is not needed.
        import ctypes

        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
    # The parent may have died before the system was asked.
    if os.getppid() != parent:
        os._exit(0)


def be_killed_first() -> None:
    """Let a system without memory end this process rather than the worker."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_KILLED_FIRST)


def limit_memory(most: int) -> bool:
    """Let this process take so many bytes more than it has now. False where no system call keeps
    such a limit: macOS ignores it."""
    if not LINUX:
        return False
    import resource

    held = _DATA.search(Path("/proc/self/status").read_text())
    if held is None:
        return False
    # What is shared with the fork server counts as well. So the limit counts from here.
    limit = int(held[1]) * 1024 + most
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    # rule:27 an attempt has a limit of memory
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    return True


def lift_memory() -> None:
    """Take the limit back, to tell what has happened."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))
