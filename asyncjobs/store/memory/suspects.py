"""Which of the ready jobs in memory may be handed out: suspects only as far as there is room."""

from __future__ import annotations

from collections.abc import Iterator

from asyncjobs.model.demand import Demand
from asyncjobs.store.memory.pauses import Pauses
from asyncjobs.store.memory.stored import StoredJob
from asyncjobs.store.memory.structures import ReadyList

__all__ = ["SuspectRoom", "in_turn"]


class SuspectRoom:
    """How many jobs that were running when a worker died an exchange may still hand out.

    Jobs that are handed out together are blamed together. So the one of them with the most
    crashes decides how many they may be.
    """

    __slots__ = ("_by_crashes", "_most", "given")

    def __init__(self, demand: Demand) -> None:
        self._by_crashes = demand.suspects or (0,)
        self._most = self._by_crashes[0]
        self.given = 0

    def left(self, crashes: int) -> int:
        """For suspects with so many crashes."""
        return min(self._most, self._bound(crashes)) - self.given

    def give(self, crashes: int) -> None:
        """One with so many crashes is handed out."""
        # rule:7 of the suspects the one with the most crashes decides, in memory
        self._most = min(self._most, self._bound(crashes))
        self.given += 1

    def _bound(self, crashes: int) -> int:
        return self._by_crashes[min(crashes, len(self._by_crashes)) - 1]


def in_turn(ready: ReadyList[StoredJob], room: SuspectRoom, pauses: Pauses) -> Iterator[StoredJob]:
    """Takes jobs of one priority: first those that were given back, fewest crashes first.

    So most suspects are done before the likely culprits run. Jobs of paused functions are set
    aside.
    """
    for crashes in ready.crashes():
        # rule:7 no more suspects than there is room for, in memory
        while (not crashes or room.left(crashes) > 0) and (job := ready.take_returned(crashes)):
            if name := pauses.paused_function(job.envelope):
                ready.set_aside(job, name)
                continue
            if crashes:
                room.give(crashes)
            yield job
    while (job := ready.take_new()) is not None:
        if name := pauses.paused_function(job.envelope):
            ready.set_aside(job, name)
        else:
            yield job
