"""The end of a worker's process although something in it does not end."""

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
"""What a stop may take beyond the grace: `finally` blocks, a store that is slow to answer."""
END_LIMIT_S: Final = 5.0
"""How long what jobs leave behind may hold up the end of the process."""
LEAVE_S: Final = 2.0
LOG_S: Final = 0.5


class LastResort:
    """Owns a thread that ends the process when a limit is over. Made once a process.

    A job may block the loop, swallow what stops it, or leave threads that the interpreter
    waits for: none of that may hold up a deploy for ever.
    """

    def __init__(self, leave: Callable[[float], None]) -> None:
        """`leave` gives the jobs back without the loop, within so many seconds."""
        self._leave = leave
        # The only kind of queue that a signal handler may put into.
        self._limits: SimpleQueue[float] = SimpleQueue()
        self._code: int | None = None
        threading.Thread(target=self._run, name="asyncjobs-end", daemon=True).start()

    def within(self, limit_s: float) -> None:
        """The process ends in so many seconds at the latest. From a signal handler, too."""
        self._limits.put(time.monotonic() + limit_s)

    def conclude(self, code: int) -> None:
        """The worker has ended, with this exit code; what is left has a few seconds."""
        self._code = code
        self.within(END_LIMIT_S)

    def _run(self) -> None:
        end_s = math.inf
        while True:
            left_s = None if end_s == math.inf else max(end_s - time.monotonic(), 0.0)
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
