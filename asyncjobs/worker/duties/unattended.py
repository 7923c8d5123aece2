"""Queues that hold jobs and have no live worker: a typo, or a dead fleet."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping
from typing import Final, Self

from asyncjobs.errors import StoreError
from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.store.apart import apart
from asyncjobs.store.inspect import QueueCounts, QueueInspection
from asyncjobs.worker.duties.duty import Duty, Site
from asyncjobs.worker.idle_queues import IdleQueues

__all__ = ["Unattended"]

logger = GuardedLog("asyncjobs.worker")

LOOK: Final = 200
"""Queues that one look asks about. A store may hold ten thousand: asked about in one go they
would keep it, and this loop, for half a second."""
NEXT_S: Final = 2.0
"""From one look to the next, until all queues have been asked about."""
TURN_MS: Final = 90_000
"""A worker that has not asked for so long has its turn no more; longer than between two rounds."""
MOST_LINES: Final = 10
"""Queues that one round names in the log; of the others it says how many they are."""


class Unattended(Duty):
    """Warns of them, in one worker of the fleet, which looks at a few queues at a time.

    Others only ask whether it is their turn. `asker`: a name that no other worker has.
    `own`: queues that this worker serves, so that they need not be asked about. What it sees of
    the others it shows to whoever forgets idle ones.
    """

    def __init__(self, inspection: QueueInspection, asker: str, own: Collection[str]) -> None:
        self._inspection = inspection
        self._asker = asker
        self._own = frozenset(own)
        self._idle = IdleQueues(inspection)
        self._told: set[str] = set()
        self._told_broken: set[str] = set()
        self._lines = 0
        self._more = 0

    @classmethod
    def of(cls, site: Site) -> Self:
        spec = site.session.spec
        return cls(site.backend.inspect.queues, spec.id, spec.queues)

    async def run(self) -> float:
        survey = await self._inspection.survey(self._asker, LOOK, TURN_MS)
        if not survey.is_turn:
            return random.uniform(20, 40)
        others = [queue for queue in survey.queues if queue not in self._own]
        # One that cannot be read must not hide the others, in this look or in any other.
        found = await apart(self._inspection.counts, others)
        counts = sorted(found.answers.values())
        for count in counts:
            self._judge(count)
        self._tell_broken(found.refused, others)
        await self._idle.look(counts)
        if not survey.is_last:
            return NEXT_S
        self._end_round()
        return random.uniform(20, 40)

    def _judge(self, count: QueueCounts) -> None:
        waiting = sum(count.ready) + count.scheduled
        if count.workers or not waiting:
            self._told.discard(count.queue)
            return
        if count.queue in self._told:
            return
        self._told.add(count.queue)
        if self._lines == MOST_LINES:
            self._more += 1
            return
        self._lines += 1
        logger.warning(
            "queue %r has no live worker; jobs waiting there: %d; start one with --queues %s",
            count.queue,
            waiting,
            count.queue,
        )

    def _tell_broken(self, refused: Mapping[str, StoreError], asked: Collection[str]) -> None:
        """Once for each queue, until it can be read again."""
        self._told_broken -= set(asked) - refused.keys()
        for queue in refused.keys() - self._told_broken:
            self._told_broken.add(queue)
            logger.error("queue %r cannot be looked at: %s", queue, refused[queue])

    def _end_round(self) -> None:
        self._idle.end_round()
        if self._more:
            logger.warning(
                "%d more queues hold jobs and have no live worker; asyncjobs stats shows them",
                self._more,
            )
        self._lines = 0
        self._more = 0
