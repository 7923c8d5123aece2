"""Warns of queues that hold jobs and have no live worker: a typo, or a dead fleet."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from typing import Final, Self

from asyncjobs.errors import StoreError
from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.store.apart import apart
from asyncjobs.store.control import QueueControl, paused_wholly
from asyncjobs.store.inspect import QueueCounts, QueueInspection
from asyncjobs.worker.duties.duty import Duty, Site
from asyncjobs.worker.idle_queues import IdleQueues

__all__ = ["Unattended"]

logger = GuardedLog("asyncjobs.worker")

LOOK: Final = 200
"""How many queues one look asks about. A store may have ten thousand: to ask about all of them at
once would block it, and this loop, for half a second."""
NEXT_S: Final = 2.0
"""The pause between two looks of one round."""
TURN_MS: Final = 90_000
"""A worker that does not ask for so long loses its turn. Longer than the pause between rounds."""
MOST_LINES: Final = 10
"""How many queues one round names in the log. The others are only counted."""


class Unattended(Duty):
    """Looks at all queues, a few at a time, in one worker of the fleet.

    The other workers only ask whether it is their turn. What a round finds is also used to forget
    idle queues.
    `asker`: a name that no other worker has.
    `own`: the queues of this worker. They have a live worker, so they are not looked at.
    `control`: says which queues are paused; None for a store that cannot pause any.
    """

    def __init__(
        self,
        inspection: QueueInspection,
        asker: str,
        own: Collection[str],
        control: QueueControl | None = None,
    ) -> None:
        self._control = control
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
        backend = site.backend
        control = None
        if backend.capabilities.control:
            control = backend.control.queues
        return cls(backend.inspect.queues, spec.id, spec.queues, control)

    async def run(self) -> float:
        survey = await self._inspection.survey(self._asker, LOOK, TURN_MS)
        if not survey.is_turn:
            return random.uniform(20, 40)
        others = [queue for queue in survey.queues if queue not in self._own]
        # A queue that cannot be read must not hide the others.
        found = await apart(self._inspection.counts, others)
        counts = sorted(found.answers.values())
        paused = await self._paused(counts)
        for count in counts:
            self._judge(count, is_paused=count.queue in paused)
        self._tell_broken(found.refused, others)
        await self._idle.look(counts)
        if not survey.is_last:
            return NEXT_S
        self._end_round()
        return random.uniform(20, 40)

    async def _paused(self, counts: Sequence[QueueCounts]) -> set[str]:
        """Those of the queues without a worker that somebody has paused."""
        alone = [count.queue for count in counts if _is_alone(count)]
        if self._control is None or not alone:
            return set()
        return await paused_wholly(self._control, alone)

    def _judge(self, count: QueueCounts, *, is_paused: bool) -> None:
        waiting = sum(count.ready) + count.scheduled
        # What somebody has paused is meant to stand still. `asyncjobs check` names it.
        if is_paused or not _is_alone(count):
            # Should it lose its workers again, that is worth another line.
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
        """Log once for each queue that it cannot be read, until it can be read again."""
        self._told_broken -= set(asked) - refused.keys()
        for queue in refused.keys() - self._told_broken:
            self._told_broken.add(queue)
            logger.error("queue %r cannot be read: %s", queue, refused[queue])

    def _end_round(self) -> None:
        self._idle.end_round()
        if self._more:
            logger.warning(
                "%d more queues hold jobs and have no live worker; asyncjobs stats shows them",
                self._more,
            )
        self._lines = 0
        self._more = 0


def _is_alone(count: QueueCounts) -> bool:
    """Whether jobs wait, and no worker is there to run them."""
    return not count.workers and bool(sum(count.ready) + count.scheduled)
