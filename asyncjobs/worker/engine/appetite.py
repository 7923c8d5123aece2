"""How many jobs a worker wants, of which queues, and how it waits when it wants none. Does no
I/O; the clock is passed in."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from asyncjobs.errors import StoreError
from asyncjobs.model.demand import Demand
from asyncjobs.model.job import TakenJob
from asyncjobs.policy.fairness import QueueShares
from asyncjobs.store.answers import Exchange
from asyncjobs.store.lease import Offer
from asyncjobs.worker.engine.burst import Burst
from asyncjobs.worker.engine.offer import MOST_OFFERED, StandingOffer
from asyncjobs.worker.engine.signals import Signals
from asyncjobs.worker.engine.slots import Slots
from asyncjobs.worker.engine.steps import Park

__all__ = ["Appetite"]

TAKE_LIMIT: Final = 256
"""The most jobs of one exchange. Enough that the round trip costs little for each, and few enough
that the server answers others in between."""

LOOK_S: Final = 1.0
"""How long a worker sleeps at the most while jobs of its queues wait for a thread."""


class Appetite:
    """Weighs free slots against hints of work. Times are monotonic seconds.

    `can_offer`: whether the store may hand out jobs together with a signal.
    `arrived`: jobs that have come and were not started. They will need slots and threads, too.
    """

    __slots__ = ("_can_offer", "_slots", "burst", "is_quiet", "offer", "rests", "shares", "signals")

    def __init__(self, shares: QueueShares, slots: Slots, *, can_offer: bool) -> None:
        self.shares = shares
        self.signals = Signals()
        self.offer = StandingOffer()
        self.burst = Burst()
        self.is_quiet = False
        """True when no more jobs are asked for, and the worker ends when it holds none."""
        self.rests = False
        """True while an operator wants it to take no jobs. It stays."""
        self._slots = slots
        self._can_offer = can_offer

    @property
    def takes_nothing(self) -> bool:
        """Whether no jobs are asked for at present."""
        return self.is_quiet or self.rests

    def end(self) -> None:
        """Ask for no more jobs, whatever a burst has in mind."""
        self.is_quiet = True
        self.burst.encore = None

    def begin_again(self) -> None:
        """A burst that had come to its end looks into all queues once more."""
        self.is_quiet = False
        self.burst.drained = False
        self.shares.look = True

    def rest(self, *, is_on: bool) -> None:
        """Take no jobs until told otherwise, or take them again."""
        self.rests = is_on
        if not is_on:
            # Signals that came meanwhile were passed on to other workers.
            self.shares.look = True

    def free(self, arrived: int, taken: int) -> int:
        """How many jobs may come now. `taken`: how many have come since the worker's start."""
        # rule:12 never more than there are free slots
        # rule:12 jobs that are taken and not started count
        # rule:12 slots that are offered behind a wait count
        # rule:38 a slot that was given away is free
        used = self._slots.in_use() - self._slots.away() + arrived + self.offer.slots
        free = self._slots.concurrency - used
        if free <= 0:
            return 0
        return self.burst.cap(min(free, TAKE_LIMIT), taken)

    def wants_jobs(self, free: int, arrived: Collection[TakenJob]) -> bool:
        """Whether there may be jobs to ask for."""
        shares = self.shares
        is_hinted = bool(shares.look or self.signals.due)
        if free <= 0:
            # All free slots are offered. What is due comes by the offer, once it is signalled.
            return is_hinted and self.offer.slots > 0
        if is_hinted or (shares.hot and shares.hot - self._full(len(arrived))):
            return True
        if not shares.suspects:
            return False
        room = self._slots.room(arrived)
        return bool(shares.with_suspects(room, self._full(len(arrived))))

    def demand(self, free: int, now_s: float, arrived: Collection[TakenJob]) -> dict[str, Demand]:
        """What to ask of which queue; empty when there is nothing to ask."""
        shares = self.shares
        signals = self.signals
        offer = self.offer
        if not free and offer.slots and (signals.due or shares.look):
            # An exchange without slots makes the store signal, and the signal releases the offer.
            signals.signalled.update(signals.due or shares.weights)
            shares.look = False
        if signals.signalled or signals.due:
            shares.hot.update(signals.signalled, signals.due)
        return shares.demand(
            free,
            now_s,
            signalled=signals.signalled,
            most=self._slots.most(len(arrived)),
            room=self._slots.room(arrived),
        )

    def learn(
        self, asked: Collection[str], exchange: Exchange, now_s: float, *, is_offer: bool = False
    ) -> None:
        """What an exchange says of the queues that were asked."""
        shares = self.shares
        shares.learn(asked, exchange.left_ready)
        self.signals.note_due(exchange, now_s)
        if is_offer:
            # An offer brings no suspects and looks into one queue only, so it says nothing of
            # the others.
            return
        if exchange.suspects or shares.suspects:
            shares.learn_suspects(exchange.next_due_ms, exchange.suspects)
        is_drained = shares.asked_all and not (exchange.jobs or shares.hot or shares.suspects)
        self.burst.learn(exchange, now_s, drained=is_drained)

    def park(self, free: int, now_s: float, arrived: int) -> Park:
        """How to sleep. Asked with nothing to trade and nothing to start."""
        signals = self.signals
        # Jobs that wait for a thread stay in their queue, which signals them again and again.
        # A worker that listened would ask in vain each time.
        is_blocked = self._is_blocked(arrived)
        signals.look_within(LOOK_S if is_blocked else None, now_s)
        listens = free > 0 and not is_blocked
        slots = 0
        # What a signal brings must be able to start at once. So no offer where jobs may wait for
        # a thread, and none by a worker that ends by itself.
        if listens and self._can_offer and not (self.burst.is_set or self._slots.has_places):
            slots = min(free, MOST_OFFERED)
        return Park(listens, self._slots.in_use() > 0, slots, signals.wake_s)

    def is_over(self, free: int, now_s: float, taken: int) -> bool:
        """Whether a worker that ends by itself has come to its end. May decide to look once more
        into all queues before. Asked with nothing to trade and nothing to start."""
        burst = self.burst
        if burst.is_reached(taken):
            return True
        # Blocked with no slot in use: threads that were left behind still hold all places.
        if not burst.is_burst or self._slots.in_use() or not free or self._is_blocked(0):
            return False
        if not burst.drained:
            # A job may have enqueued others since all queues were last looked into.
            self.shares.look = True
            return False
        return burst.is_drained(now_s, self.signals.next_due_in_s(now_s))

    # -- events: the parked wait ----------------------------------------------------------

    def offered(self, offer: Offer) -> None:
        """A wait begins, and these slots are offered behind it."""
        self.offer.make(offer)

    def parked(
        self,
        signalled: Collection[str],
        exchange: Exchange | None,
        now_s: float,
        *,
        has_failed: bool = False,
    ) -> None:
        """The wait has ended, by a signal of these queues or by time. `exchange`: what the offer
        behind it has brought."""
        if self.offer.answer(signalled, exchange):
            # The offer has looked into the worker's only queue, with or without a signal.
            return
        if self.signals.hear_wait(signalled, now_s, has_failed=has_failed):
            self.shares.look = True

    def park_failed(self, error: StoreError) -> None:
        """The store has not answered the wait."""
        self.offer.fail(error)

    def hear_fault(self, error: StoreError) -> None:
        """Heartbeats fail, and the lease may be over. Ask the store what it knows: a busy worker
        may have nothing else to ask it for long, and nobody would find out that it is away."""
        self.offer.give_up(error)

    def hear_signal(self, queues: Collection[str]) -> None:
        """There may be work in these queues, even if another worker was signalled for it."""
        self.signals.signalled.update(queues)

    # -- threads ------------------------------------------------------------------------

    def _full(self, arrived: int) -> set[str]:
        """Queues from which nothing may be taken, because its jobs would wait for a thread."""
        most = self._slots.most(arrived)
        return {queue for queue in most if not most[queue]}

    def _is_blocked(self, arrived: int) -> bool:
        """Whether jobs are known of that would wait for a thread."""
        shares = self.shares
        if not (shares.hot or shares.suspects):
            return False
        return bool(shares.wanting() & self._full(arrived))
