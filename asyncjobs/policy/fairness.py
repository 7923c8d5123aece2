"""Shares a worker's free slots among its queues and priorities. Does no I/O."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from asyncjobs.model.demand import Demand

__all__ = ["GUARD_ONE_IN", "QueueShares"]

GUARD_ONE_IN: Final = 20
"""One slot in 20 is offered to a less urgent priority first. Otherwise low priorities would never
run while higher ones always have jobs."""

GUARD_LEVELS: Final = (3, 2, 1)
"""The priorities with which these slots start, in turn. If they always started with the least
urgent one, the priorities in between would never run."""

ASK_ALL_EVERY: Final = 16
ASK_ALL_S: Final = 1.0
"""While some queue is hot, the other queues are asked every 16 exchanges, and in the first
exchange after this time."""

HOT_FACTOR: Final = 8
"""With fewer slots than queues, a queue that is known to hold ready jobs is asked this much more
often than one that was empty."""


class QueueShares:
    """Splits free slots over queues by weight. Never hands out more than there are.

    Owns what has to be remembered between exchanges: which queues are hot (they had more than was
    taken), when all queues were asked, whose turn it is when slots are scarce, how many slots each
    queue was offered, and which queues hold suspects. `now_s` is any monotonic clock.
    """

    def __init__(self, weights: Mapping[str, int]) -> None:
        self.weights = dict(weights)
        self.hot: set[str] = set()
        self._turn = dict.fromkeys(self.weights, 0)
        self._offered = dict.fromkeys(self.weights, 0)
        self.suspects: dict[str, int] = {}
        """Queues in which suspects wait, in turn, with the smallest number of crashes among the
        suspects there."""
        self._trips = 0
        self._asked_all_s = float("-inf")
        self.look = True
        """Whether the next demand has to include every queue."""
        self.asked_all = False
        """Whether the last demand included every queue that is not left out."""
        self._left_out: frozenset[str] = frozenset()

    def demand(
        self,
        free: int,
        now_s: float,
        *,
        signalled: Collection[str] = (),
        most: Mapping[str, int] | None = None,
        room: tuple[int, ...] = (),
    ) -> dict[str, Demand]:
        """The demand on each queue to ask. Together they ask for at most `free` slots.

        `signalled` queues are asked in any case, even without a slot: that passes their signal on
        to another worker. `most` bounds single queues. Slots that such a queue leaves are not given
        to others, because they are soon needed again. `room` is the room for suspects (see
        `Demand`); one queue at a time may hand out suspects.
        """
        most = most or {}
        suspected: list[str] = []
        if self.suspects:
            suspected = self.with_suspects(room, [queue for queue in most if not most[queue]])
        hot = [queue for queue in self.weights if queue in self.hot or queue in suspected]
        # It comes as a set. Unsorted, the process's hash seed would decide whose turn it is.
        signalled = sorted(signalled)
        if self._left_out:
            hot = [queue for queue in hot if queue not in self._left_out]
            signalled = [queue for queue in signalled if queue not in self._left_out]
        self._trips += 1
        self.asked_all = free > 0 and (
            self.look
            or not hot
            or self._trips % ASK_ALL_EVERY == 0
            or now_s - self._asked_all_s >= ASK_ALL_S
        )
        if free <= 0:
            return {queue: Demand(0, suspects=room) for queue in signalled}
        if self.asked_all:
            self.look = False
            self._asked_all_s = now_s
        asked = hot
        if self.asked_all:
            asked = [queue for queue in self.weights if queue not in self._left_out]
        slots = self._split(free, asked, hot)
        for queue in (*signalled, *asked):
            # A queue that is asked without a slot still reports whether it holds ready jobs.
            slots.setdefault(queue, 0)
        for queue, bound in most.items():
            if queue in slots:
                slots[queue] = min(slots[queue], bound)
        return self._demands(slots, suspected, room)

    def reweigh(self, weights: Mapping[str, int]) -> None:
        """Change the weights of queues that are shared here; others are left out."""
        for queue in self.weights.keys() & weights.keys():
            self.weights[queue] = weights[queue]
        # Under a large weight the others gather credit for thousands of turns. They would all be
        # served first, and a queue whose weight was lowered would not be asked for as long.
        # rule:22 other weights begin with even turns
        self._turn = dict.fromkeys(self.weights, 0)

    def wanting(self) -> set[str]:
        """Queues that are known to hold jobs which nobody has taken yet."""
        return self.hot | self.suspects.keys()

    def with_suspects(self, room: tuple[int, ...], without: Collection[str] = ()) -> list[str]:
        """Queues with suspects for which there is room: those with the fewest crashes, in turn."""
        if not self.suspects or not room:
            return []
        fewest = min(
            (crashes for queue, crashes in self.suspects.items() if queue not in without), default=0
        )
        if not fewest or room[min(fewest, len(room)) - 1] <= 0:
            return []
        return [
            queue
            for queue, crashes in self.suspects.items()
            if crashes == fewest and queue not in without
        ]

    def leave_out(self, queues: Collection[str]) -> None:
        """Leave these queues out until the next call. Queues that come back are asked next time."""
        back = self._left_out.difference(queues)
        self._left_out = frozenset(queues)
        self.hot -= self._left_out
        for queue in self._left_out:
            self.suspects.pop(queue, None)
        if back:
            self.look = True

    def _demands(
        self, slots: dict[str, int], suspected: list[str], room: tuple[int, ...]
    ) -> dict[str, Demand]:
        level = GUARD_LEVELS[self._trips % len(GUARD_LEVELS)]
        demands = {
            queue: Demand(count, self._guard(queue, count), level) for queue, count in slots.items()
        }
        if not suspected:
            return demands
        turn = next((queue for queue in suspected if slots[queue] > 0), None)
        if turn is not None:
            # One queue at a time: no other suspect may be blamed together with one that has to run
            # alone. Only a share of the room: otherwise the other jobs would wait for a whole run.
            share = -(-room[0] // len(suspected))
            suspects = tuple(min(places, share) for places in room)
            # rule:7 one queue at a time hands out suspects
            demands[turn] = demands[turn]._replace(suspects=suspects)
            self.suspects[turn] = self.suspects.pop(turn)
        return demands

    def _split(self, free: int, asked: list[str], hot: list[str]) -> dict[str, int]:
        if len(asked) == 1:
            return {asked[0]: free}
        if free < len(asked):
            return self._in_turn(free, asked)
        # One slot each, so that new jobs are found. The others go to the queues that are known to
        # hold jobs.
        slots = dict.fromkeys(asked, 1)
        # rule:12 several queues share one budget
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
        """Smooth weighted turns: credit grows by weight, and a queue that is asked pays."""
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
        """Remember, after an exchange, which of the asked queues still hold ready jobs."""
        # A queue that was not asked may still be hot: the exchange says nothing about it.
        self.hot.difference_update(asked)
        self.hot.update(queue for queue in left_ready if queue in self.weights)

    def learn_suspects(self, answered: Collection[str], suspects: Mapping[str, int]) -> None:
        """Remember, after an exchange, which of the queues that answered hold suspects."""
        for queue in answered:
            if queue in suspects:
                self.suspects[queue] = suspects[queue]
            else:
                self.suspects.pop(queue, None)
