"""A store without room for the jobs that a success causes: when that success is sent again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.model.backoff import Pauses
from asyncjobs.model.settlement import Settlement
from asyncjobs.worker.engine.stuck import Again

__all__ = ["Room"]

logger = GuardedLog("asyncjobs.worker")

FIRST_S: Final = 0.5
MOST_S: Final = 30.0
"""The shortest and the longest pause between two tries."""
QUIET_S: Final = 60.0
"""After so long without a refusal, the next one is a first one."""


class Room:
    """Decides it. Does no I/O; times are monotonic seconds."""

    def __init__(self) -> None:
        self._pauses = Pauses(FIRST_S, MOST_S)
        self._last_s = float("-inf")

    def again(self, refused: Sequence[Settlement], now_s: float) -> Again:
        """When these are sent again. Logs the first refusal."""
        if now_s - self._last_s > QUIET_S:
            self._pauses.reset()
            logger.error(
                "the store is full: the success of %s cannot be recorded together with the jobs "
                "that it enqueues, and is sent again until there is room; raise its memory limit, "
                "or drop dead letters",
                refused[0].job.ref,
            )
        self._last_s = now_s
        return Again(now_s + self._pauses.next_s(), holds_slot=True)
