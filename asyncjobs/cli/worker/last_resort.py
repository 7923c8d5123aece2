"""Ends the process of a worker, even if a job or a thread in it never ends."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Final

from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.host.exits import ExitCode, exit_now, say_at_once
from asyncjobs.worker.lease.farewell import within

__all__ = ["STOP_S", "LastResort"]

logger = GuardedLog("asyncjobs.cli")

STOP_S: Final = 11.5
"""How long a stop may take beyond the grace: for `finally` blocks and a slow store."""
END_LIMIT_S: Final = 5.0
"""How long tasks and threads that jobs left behind may delay the end of the process."""
LEAVE_S: Final = 2.0
"""How long giving back the jobs may take."""
LOG_S: Final = 0.5
"""How long writing the log may take; its reader may have stopped."""


class LastResort:
    """Owns a thread that ends the process when a time limit is over. Made once per process.

    A job may block the loop, ignore its cancellation, or leave threads that the interpreter waits
    for. Nothing of this may delay a deployment for ever.
    """

    def __init__(self, leave: Callable[[float], None]) -> None:
        """`leave` gives the jobs back without using the loop, within the given seconds."""
        self._leave = leave
        # A signal handler puts into it, and may have interrupted another `put`. Any other kind of
        # queue could deadlock then; this one is reentrant.
        self._limits: SimpleQueue[float] = SimpleQueue()
        self._code: int | None = None
        threading.Thread(target=self._run, name="asyncjobs-end", daemon=True).start()

    def within(self, limit_s: float) -> None:
        """Let the process end in this many seconds at the latest. Safe in a signal handler."""
        self._limits.put(time.monotonic() + limit_s)

    def conclude(self, code: int) -> None:
        """The worker has ended with this exit code. Give whatever still runs a few seconds."""
        self._code = code
        self.within(END_LIMIT_S)

    def _run(self) -> None:
        end_s = math.inf
        while True:
            left_s = None
            if end_s != math.inf:
                left_s = max(end_s - time.monotonic(), 0.0)
            try:
                end_s = min(end_s, self._limits.get(timeout=left_s))
            except Empty:
                break
        if self._code is not None:
            say_at_once(b"asyncjobs: tasks or threads of jobs do not end; exit now\n")
            exit_now(self._code)
        text = "a job holds up the stop: all jobs are given back, and the process ends now"
        within(LOG_S, lambda: logger.critical(text))
        within(LEAVE_S + LOG_S, lambda: self._leave(LEAVE_S))
        exit_now(ExitCode.RELEASED)
