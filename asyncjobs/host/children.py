"""The processes that jobs have started end with their worker."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Final

__all__ = ["end_children"]

TERM_S: Final = 1.0
"""What they may take to end by themselves."""


def end_children(limit_s: float = TERM_S) -> None:
    """End what this process has started and what that has started; blocks for so long.

    A process with a session of its own (`start_new_session=True`, a daemon) stays: it was
    meant to. So does multiprocessing's tracker, which ends by itself when the others have,
    and removes the memory that they have shared.
    """
    found = _descendants()
    if not found:
        return
    _signal(found, signal.SIGTERM)
    end_s = time.monotonic() + limit_s
    while found and time.monotonic() < end_s:
        time.sleep(0.02)
        found = _descendants()
    _signal(found, getattr(signal, "SIGKILL", signal.SIGTERM))


def _signal(pids: list[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(pid, number)


def _descendants() -> list[int]:
    """Of this process, within its session, zombies left out. Empty where /proc is missing."""
    parents: dict[int, list[int]] = {}
    session = os.getsid(0) if hasattr(os, "getsid") else 0
    for folder in Path("/proc").glob("[0-9]*"):
        # One that ends while it is looked at is none any more.
        with contextlib.suppress(OSError, ValueError):
            # After the name, which may hold anything: state, parent, group, session.
            state, parent, _, of = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
            # rule:17 a daemon of a job outlives the worker, as it was meant to
            if state not in "ZX" and int(of) == session:
                parents.setdefault(int(parent), []).append(int(folder.name))
    found: list[int] = []
    new = parents.get(os.getpid(), [])
    while new:
        found += new
        new = [child for pid in new for child in parents.get(pid, [])]
    spared = _tracker()
    return [pid for pid in found if pid != spared]


def _tracker() -> int | None:
    # Not imported: without multiprocessing there is none.
    import sys

    module = sys.modules.get("multiprocessing.resource_tracker")
    return getattr(getattr(module, "_resource_tracker", None), "_pid", None)
