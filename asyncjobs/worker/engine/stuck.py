"""Settlements that a fault keeps from being sent, and when each is tried again. Does no I/O."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from heapq import heapify, heappop, heappush
from typing import Final, NamedTuple

from asyncjobs.model.job import TakenJob
from asyncjobs.model.settlement import Settlement

__all__ = ["Again", "Stuck"]

NEVER_S: Final = float("inf")


class Again(NamedTuple):
    """When to try a settlement again, in monotonic seconds.

    `is_hopeless`: a worker that ends by itself need not wait for it. `holds_slot`: no other job is
    taken in its place, so that they cannot become more and more.
    """

    at_s: float
    is_hopeless: bool = False
    holds_slot: bool = False


class Stuck:
    """Owns these settlements. They keep no stop waiting: when the worker ends, the store gives
    their jobs to another one."""

    __slots__ = ("_added", "_waiting")

    def __init__(self) -> None:
        self._added = 0
        # The number keeps the heap from comparing settlements.
        self._waiting: list[tuple[Again, int, Settlement]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, settlements: Sequence[Settlement], again: Again) -> None:
        """Keep these until they are tried again."""
        for settlement in settlements:
            self._added += 1
            heappush(self._waiting, (again, self._added, settlement))

    def wake_s(self) -> float:
        """When the next one is due; infinity when there is none."""
        if not self._waiting:
            return NEVER_S
        return self._waiting[0][0].at_s

    def pop_due(self, now_s: float) -> Settlement | None:
        """One that is due now, out of here."""
        if self.wake_s() > now_s:
            return None
        return heappop(self._waiting)[2]

    def has_hope(self) -> bool:
        """Whether a worker that ends by itself waits for one of them."""
        return any(not again.is_hopeless for again, _, _ in self._waiting)

    @property
    def slots(self) -> int:
        """How many slots they hold."""
        return sum(again.holds_slot for again, _, _ in self._waiting)

    def drop(self, queues: Collection[str]) -> None:
        """Forget those of queues whose jobs belong to others now."""
        self._waiting = [each for each in self._waiting if each[2].job.queue not in queues]
        heapify(self._waiting)

    def jobs(self) -> list[TakenJob]:
        """The jobs that these settlements are for."""
        return [settlement.job for _, _, settlement in self._waiting]
