"""Queues in which nothing is left and that nobody has served for a day: they are forgotten."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.store.apart import apart
from asyncjobs.store.inspect import Leftover, QueueCounts, QueueInspection

__all__ = ["IdleQueues"]

logger = GuardedLog("asyncjobs.worker")

IDLE_MS: Final = 86_400_000
"""How long no worker must have been heard of. A fleet that is scaled down to none over night
finds its queues as it left them, and so do those who watch their depth."""
EVERY_S: Final = 3600.0
"""From one round in which queues are forgotten to the next: a day passes slowly."""
MOST_NAMED: Final = 10


class IdleQueues:
    """Forgets them, in one round of whoever looks through all queues out of many.

    A name of a queue costs each look at all of them, and a queue once used keeps a few hundred
    bytes: programs that make a queue for each customer or build would fill a store with them.
    """

    def __init__(
        self, inspection: QueueInspection, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._inspection = inspection
        self._monotonic = monotonic
        self._is_due = True
        self._looked_s = monotonic()
        self._forgotten: list[str] = []

    async def look(self, counts: Sequence[QueueCounts]) -> None:
        """Forget those of these queues that are idle."""
        if not self._is_due:
            return
        empty = [count.queue for count in counts if _is_empty(count)]
        answers = (await apart(self._forget, empty)).answers.values()
        self._forgotten += [left.queue for left in answers if left.is_forgotten]

    async def _forget(self, queues: Sequence[str]) -> list[Leftover]:
        return await self._inspection.forget(queues, IDLE_MS)

    def end_round(self) -> None:
        """All queues have been looked at."""
        now_s = self._monotonic()
        if self._is_due:
            self._looked_s = now_s
        if self._forgotten:
            logger.info(
                "forgotten, with no job left and no worker for a day: %d queues: %s",
                len(self._forgotten),
                ", ".join(self._forgotten[:MOST_NAMED])
                + (", ..." if len(self._forgotten) > MOST_NAMED else ""),
            )
            self._forgotten.clear()
        self._is_due = now_s - self._looked_s >= EVERY_S


def _is_empty(count: QueueCounts) -> bool:
    return not (any(count.ready) or count.running or count.scheduled or count.dead or count.workers)
