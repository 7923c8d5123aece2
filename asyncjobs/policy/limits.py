"""How a worker's free slots are shared among its queues and priorities. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from asyncjobs.job import Demand

__all__ = ["GUARD_ONE_IN", "QueueShares"]

GUARD_ONE_IN: Final = 20
"""One slot in so many is offered from the least urgent priority upwards, so that low
priorities keep moving while higher ones never run dry."""

HOT_FACTOR: Final = 8
"""How much more often a queue that is known to hold ready jobs is asked than one that
was empty, when there are fewer slots than queues."""


class QueueShares:
    """Splits free slots over queues by weight, never handing out more than there are.

    Owns what is remembered between exchanges: which queues are hot (had more than was
    taken), whose turn it is when slots are scarce, and how many slots each queue was
    offered, for the guard.
    """

    def __init__(self, weights: Mapping[str, int]) -> None:
        self.weights = dict(weights)
        self.hot: set[str] = set()
        self._turn = dict.fromkeys(self.weights, 0)
        self._offered = dict.fromkeys(self.weights, 0)

    def demand(
        self, free: int, *, ask_all: bool, called: Collection[str] = ()
    ) -> dict[str, Demand]:
        """The demand on each queue that shall be asked; together at most `free` slots.

        `called` queues are asked in any case, with no slots if there are none: that
        passes their call on to another worker.
        """
        hot = [queue for queue in self.weights if queue in self.hot]
        asked = list(self.weights) if ask_all or not hot else hot
        if free <= 0:
            return {queue: Demand(0) for queue in called}
        slots = self._split(free, asked, hot)
        for queue in (*called, *asked):
            # Asked without a slot, a queue still says whether it holds ready jobs.
            slots.setdefault(queue, 0)
        return {queue: Demand(count, self._guard(queue, count)) for queue, count in slots.items()}

    def _split(self, free: int, asked: list[str], hot: list[str]) -> dict[str, int]:
        if len(asked) == 1:
            return {asked[0]: free}
        if free < len(asked):
            return self._in_turn(free, asked)
        slots = dict.fromkeys(asked, 1)
        left = free - len(asked)
        sharing = hot or asked
        total = sum(self.weights[queue] for queue in sharing)
        for queue in sharing:
            slots[queue] += left * self.weights[queue] // total
        rest = free - sum(slots.values())
        for queue in sharing[:rest]:
            slots[queue] += 1
        return slots

    def _in_turn(self, free: int, asked: list[str]) -> dict[str, int]:
        """Smooth weighted turns: each queue's credit grows by its weight, who is asked pays."""
        gain = {
            queue: self.weights[queue] * (HOT_FACTOR if queue in self.hot else 1) for queue in asked
        }
        total = sum(gain.values())
        slots: dict[str, int] = {}
        for _ in range(free):
            for queue in asked:
                self._turn[queue] += gain[queue]
            best = max(asked, key=lambda queue: self._turn[queue])
            self._turn[best] -= total
            slots[best] = slots.get(best, 0) + 1
        return slots

    def _guard(self, queue: str, slots: int) -> int:
        before = self._offered[queue]
        self._offered[queue] = before + slots
        return (before + slots) // GUARD_ONE_IN - before // GUARD_ONE_IN

    def learn(self, asked: Collection[str], left_ready: Collection[str]) -> None:
        """After an exchange: which of the queues asked still hold ready jobs."""
        self.hot.difference_update(asked)
        self.hot.update(queue for queue in left_ready if queue in self.weights)
