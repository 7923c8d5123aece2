"""How a worker's free slots are shared among its queues and priorities. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, NamedTuple

from asyncjobs.job import Demand

__all__ = ["GUARD_ONE_IN", "MOST_SUSPECTS", "QueueShares", "Suspects"]

GUARD_ONE_IN: Final = 20
"""One slot in so many is offered to a less urgent priority first, so that all of them
keep moving while higher ones never run dry."""

GUARD_LEVELS: Final = (3, 2, 1)
"""Where guarded slots start in turn: from the least urgent alone, those in between would
never run."""

MOST_SUSPECTS: Final = 32
"""Suspects that one worker runs at a time: a death then blames that many at the most."""

ASK_ALL_EVERY: Final = 16
ASK_ALL_S: Final = 1.0
"""While some queue is hot, the others are asked too: every so many exchanges, and in the
first one after so long."""

HOT_FACTOR: Final = 8
"""How much more often a queue that is known to hold ready jobs is asked than one that
was empty, when there are fewer slots than queues."""


class Suspects(NamedTuple):
    """How many suspects may still be taken, and whether none is running."""

    left: int = MOST_SUSPECTS
    none_running: bool = True
    lone_crashes: int = 2

    @classmethod
    def of(cls, crashes: Collection[int], max_crashes: int) -> Suspects:
        """From the crashes of the suspects that run, and what makes a job dead.

        The last crash before death is risked alone, so that a death condemns nobody else.
        """
        lone_crashes = max(max_crashes - 1, 1)
        is_lone = any(count >= lone_crashes for count in crashes)
        left = 0 if is_lone else max(MOST_SUSPECTS - len(crashes), 0)
        return cls(left, not crashes, lone_crashes)


class QueueShares:
    """Splits free slots over queues by weight, never handing out more than there are.

    Owns what is remembered between exchanges: which queues are hot (had more than was
    taken), when all were asked, whose turn it is when slots are scarce, how many slots each
    queue was offered, for the guard, and which may hold
    suspects that have not had their turn. `now_s` is any monotonic clock.
    """

    def __init__(self, weights: Mapping[str, int]) -> None:
        self.weights = dict(weights)
        self.hot: set[str] = set()
        self._turn = dict.fromkeys(self.weights, 0)
        self._offered = dict.fromkeys(self.weights, 0)
        self._waiting: dict[str, None] = {}
        self._lone_trip = dict.fromkeys(self.weights, 0)
        self._trips = 0
        self._asked_all_s = float("-inf")
        self.look = True
        """True when every queue has to be asked next time."""
        self.asked_all = False
        """Whether the last demand was on every queue."""

    def demand(
        self,
        free: int,
        now_s: float,
        *,
        called: Collection[str] = (),
        most: Mapping[str, int] | None = None,
        suspects: Suspects | None = None,
    ) -> dict[str, Demand]:
        """The demand on each queue that shall be asked; together at most `free` slots.

        `called` queues are asked in any case, with no slots if there are none: that
        passes their call on to another worker. `most` bounds what single queues may
        hand out; what they leave is not given to others, for it is soon free again.
        """
        hot = [queue for queue in self.weights if queue in self.hot]
        # Given as a set: unsorted, the hash seed of a process would decide whose turn it is.
        called = sorted(called)
        self._trips += 1
        self.asked_all = free > 0 and (
            self.look
            or not hot
            or self._trips % ASK_ALL_EVERY == 0
            or now_s - self._asked_all_s >= ASK_ALL_S
        )
        if free <= 0:
            return {queue: Demand(0) for queue in called}
        if self.asked_all:
            self.look, self._asked_all_s = False, now_s
        asked = list(self.weights) if self.asked_all else hot
        slots = self._split(free, asked, hot)
        for queue in (*called, *asked):
            # Asked without a slot, a queue still says whether it holds ready jobs.
            slots.setdefault(queue, 0)
        for queue, bound in (most or {}).items():
            if queue in slots:
                slots[queue] = min(slots[queue], bound)
        return self._demands(slots, suspects or Suspects(), called)

    def look_closely(self) -> None:
        """Ask every queue next time, and go on until each has had its turn for suspects."""
        self.look = True
        self._waiting.update(dict.fromkeys(self.weights))

    def _demands(
        self, slots: dict[str, int], suspects: Suspects, called: Collection[str]
    ) -> dict[str, Demand]:
        """Guard and suspects are shared out as well."""
        shares, lone = self._share_suspects(slots, suspects, called)
        return {
            queue: Demand(
                count,
                self._guard(queue, count),
                GUARD_LEVELS[self._trips % len(GUARD_LEVELS)],
                shares.get(queue, 0),
                queue == lone,
                suspects.lone_crashes,
            )
            for queue, count in slots.items()
        }

    def _share_suspects(
        self, slots: dict[str, int], suspects: Suspects, called: Collection[str]
    ) -> tuple[dict[str, int], str | None]:
        """Suspects for each queue, and the one that may hand out a job that has to be alone.

        While none is running, one queue has its turn and the others give out none: nobody
        knows yet whether it holds such a job, and nothing may be blamed together with it.
        """
        self._waiting.update(dict.fromkeys(called))
        if not suspects.none_running:
            each, rest = divmod(suspects.left, len(slots))
            order = sorted(slots, key=self._lone_trip.__getitem__)
            self._lone_trip.update(dict.fromkeys(order[:rest], self._trips))
            return {queue: each + (place < rest) for place, queue in enumerate(order)}, None
        open_to = [queue for queue, count in slots.items() if count] or [*slots]
        waiting = [queue for queue in self._waiting if queue in open_to]
        # By age and not by the number of the trip, which the trips that ask all share.
        lone = waiting[0] if waiting else min(open_to, key=self._lone_trip.__getitem__)
        self._lone_trip[lone] = self._trips
        # A queue asked without a slot says that it still holds ready jobs, and becomes hot.
        self._waiting = {
            queue: None for queue in self._waiting if queue != lone and slots.get(queue) != 0
        }
        self.look = self.look or bool(self._waiting)
        return {lone: suspects.left}, lone

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

    def learn(
        self,
        asked: Collection[str],
        left_ready: Collection[str],
        gave_suspects: Collection[str] = (),
    ) -> None:
        """After an exchange: which of the queues asked still hold ready jobs, and which have
        given out suspects: there may be more of them, which would not count as ready."""
        self.hot.difference_update(asked)
        self.hot.update(queue for queue in left_ready if queue in self.weights)
        self._waiting.update(dict.fromkeys(gave_suspects))
