"""Ends the processes that jobs have started, together with their worker."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Final

__all__ = ["end_children"]

TERM_S: Final = 1.0
"""How long they may take to end by themselves."""


def end_children(limit_s: float = TERM_S) -> None:
    """End all descendants of this process. Blocks for up to `limit_s`, then kills the rest.

    A process with a session of its own (`start_new_session=True`, a daemon) stays, as it was meant
    to. The tracker of multiprocessing stays, too: it ends by itself after the others, and removes
    the memory that they have shared.
    """
    found = _descendants()
    if not found:
        return
    _signal(found, signal.SIGTERM)
    end_s = time.monotonic() + limit_s
    while found and time.monotonic() < end_s:
        # The process ends here, so no event loop is held up. Nobody can wait for a grandchild: it
        # is looked for again.
        time.sleep(0.02)
        found = _descendants()
    _signal(found, getattr(signal, "SIGKILL", signal.SIGTERM))


def _signal(pids: list[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(pid, number)


def _descendants() -> list[int]:
    """The descendants of this process within its session, without zombies. Empty where there is no
    /proc."""
    parents: dict[int, list[int]] = {}
    session = 0
    if hasattr(os, "getsid"):
        session = os.getsid(0)
    for folder in Path("/proc").glob("[0-9]*"):
        # An error: the process has ended during the look.
        with contextlib.suppress(OSError, ValueError):
            # Behind the name, which may hold anything, stand state, parent, group and session.
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
    # Not imported here: a process that does not use multiprocessing has no tracker.
    import sys

    module = sys.modules.get("multiprocessing.resource_tracker")
    return getattr(getattr(module, "_resource_tracker", None), "_pid", None)
