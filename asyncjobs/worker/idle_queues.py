"""Forgets queues in which nothing is left and that nobody has served for a day."""

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
"""How long a queue must have been without a worker. A fleet that is scaled down to none over night
finds its queues as it has left them, and so do dashboards that show their depth."""
EVERY_S: Final = 3600.0
"""The pause between rounds in which queues are forgotten: a day passes slowly."""
MOST_NAMED: Final = 10


class IdleQueues:
    """Forgets idle queues, in some of the rounds of a duty that looks at all queues.

    Each known queue costs time in every round, and a queue once used keeps a few hundred bytes.
    Programs that make a queue for each customer or build would fill a store with them.
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
            names = ", ".join(self._forgotten[:MOST_NAMED])
            if len(self._forgotten) > MOST_NAMED:
                names += ", ..."
            logger.info(
                "forgotten, with no job left and no worker for a day: %d queues: %s",
                len(self._forgotten),
                names,
            )
            self._forgotten.clear()
        self._is_due = now_s - self._looked_s >= EVERY_S


def _is_empty(count: QueueCounts) -> bool:
    return not (any(count.ready) or count.running or count.scheduled or count.dead or count.workers)
