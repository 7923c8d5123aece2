"""Decides what the loop does next. Does no I/O: events are passed in, and it never asks or waits.

Read `next` first: it looks for the most urgent step first. arrivals.py takes in what happens
between two steps. The clock is passed in, in monotonic seconds.
"""

from __future__ import annotations

import asyncio
from typing import Final

from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.model.settlement import Settlement
from asyncjobs.policy.fairness import QueueShares
from asyncjobs.worker.engine.appetite import Appetite
from asyncjobs.worker.engine.arrivals import Arrivals
from asyncjobs.worker.engine.doubt import Unanswered
from asyncjobs.worker.engine.holdings import Holdings
from asyncjobs.worker.engine.slots import Slots
from asyncjobs.worker.engine.steps import (
    DONE,
    AskAgain,
    Land,
    Park,
    Recover,
    Rejoin,
    Start,
    Step,
    Trade,
)
from asyncjobs.worker.engine.stuck import Again

__all__ = ["Intake"]

logger = GuardedLog("asyncjobs.worker")

MOST_LOOKS: Final = 8
"""Looks for one step. Each but the last one decides something that makes another one needed: at
the most, what is held back for queues in doubt, then that the worker becomes quiet."""
CUT_OFF: Final = asyncio.CancelledError()
"""Why an exchange has no reply when the worker was cancelled before it came."""


class Intake:
    """Compares what the worker holds with what it wants, and decides the next step.

    `can_offer`: whether the store may hand out jobs together with a signal.
    """

    def __init__(self, shares: QueueShares, slots: Slots, *, can_offer: bool = False) -> None:
        self.holdings = Holdings()
        self.appetite = Appetite(shares, slots, can_offer=can_offer)
        self.arrivals = Arrivals(self.holdings, self.appetite)
        self._doubt = self.holdings.doubt
        self._offer = self.appetite.offer
        self._signals = self.appetite.signals
        self._shares = shares
        self._slots = slots
        self._has_tried_stuck = False
        """True if no other settlements were sent since a stuck one was tried again."""

    # -- the next step -------------------------------------------------------------------

    def next(self, now_s: float, *, is_sure: bool) -> Step:
        """The next step. Carry it out before you ask again.

        `is_sure`: whether the lease is confirmed. If not, other workers may have our jobs, so
        nothing is taken or started.
        """
        self._slots.admit()
        for _ in range(MOST_LOOKS):
            step = self._look(now_s, is_sure=is_sure)
            if step is not None:
                return step
        # No plan that is known comes here. Whoever went on looking would hold up the event loop
        # and all its jobs; after a sleep there is something else to see.
        logger.error("no next step was found in %d looks; please report this", MOST_LOOKS)
        return self._park(0, now_s)

    def _look(self, now_s: float, *, is_sure: bool) -> Step | None:
        """The most urgent step; None when something was decided that asks for another look."""
        holdings, appetite, doubt = self.holdings, self.appetite, self._doubt
        if appetite.is_quiet and self._is_empty():
            return DONE
        if self._offer.landed is not None:
            return Land(self._offer.landed.exchange)
        if self._offer.broken is not None and doubt.exchange is None:
            doubt.fail(self._offer.broken)
        if doubt.exchange is not None:
            # rule:4 an offer is withdrawn before a resync
            self._offer.withdraw()
            return Recover(doubt.exchange.cause)
        if doubt.queues and (queues := self._to_ask_again(now_s)):
            return AskAgain(queues)
        if holdings.lost and not holdings.lost <= doubt.queues.keys():
            return Rejoin(sorted(holdings.lost.difference(doubt.queues)))
        if self._signals.wake_s <= now_s and self._signals.tick(now_s):
            self._shares.look = True
        if holdings.stuck:
            self._try_stuck(now_s)
        may_ask = not appetite.takes_nothing
        free = self._free() if may_ask and is_sure else 0
        has_news = holdings.unsettled or self._signals.signalled
        if has_news or (may_ask and appetite.wants_jobs(free, holdings.arrived)):
            # No trade: all of it was about queues in doubt and is kept for them now. Look again.
            return self._trade(free, now_s)
        if holdings.arrived and is_sure:
            return Start(holdings.take_arrived())
        if appetite.burst.is_set and self._moves_to_the_end(free, now_s):
            return None
        return self._park(free, now_s)

    def _is_empty(self) -> bool:
        # A signal that this worker keeps to itself reaches nobody: its job would wait for the
        # next look of another worker. And jobs that came with it must be given back.
        has_heard = self._signals.signalled or self._offer.landed is not None
        return self.holds_nothing() and self._doubt.exchange is None and not has_heard

    def _free(self) -> int:
        """How many jobs may come."""
        doubtful = self._doubt.queues
        if doubtful and len(doubtful) == len(self._shares.weights):
            return 0
        free = self.appetite.free(len(self.holdings.arrived), self.holdings.taken)
        if self.holdings.stuck:
            # Successes that wait for room in the store must not become more and more.
            free = max(free - self.holdings.stuck.slots, 0)
        return free

    def _to_ask_again(self, now_s: float) -> list[str]:
        """Queues in doubt whose pause is over."""
        lost = self.holdings.lost
        due = self._doubt.due(now_s, {*self.arrivals.unrenewed} - lost)
        if not due:
            return []
        # Without a lease there is nothing to ask about: `Rejoin` enters the queue again.
        self._doubt.resolve([queue for queue in due if queue in lost])
        self._shares.leave_out(self._doubt.queues)
        asked = [queue for queue in due if queue not in lost]
        if asked:
            # The question is a resync of this worker's only queue, which makes the offer void.
            self._offer.withdraw()
        return asked

    def _trade(self, free: int, now_s: float) -> Trade | None:
        """Settle what has ended, and ask for what can start; None when there is neither."""
        if self.holdings.unsettled.alone and (trade := self._trade_alone()) is not None:
            return trade
        signals = self._signals
        self._has_tried_stuck = False
        settlements = self.holdings.unsettled.take()
        if self._doubt.queues:
            settlements = self._doubt.hold_back(settlements, signals.signalled, signals.due)
        demand = self.appetite.demand(free, now_s, self.holdings.arrived)
        if not demand and not settlements:
            return None
        # The demand passes on the signals that were heard.
        signals.signalled = set()
        if free or self._offer.slots:
            signals.due = set()
        # Set before the request leaves: should this worker be cancelled meanwhile, its next step
        # is a resync, which finds out which of these settlements count.
        self._doubt.exchange = Unanswered(CUT_OFF, settlements)
        return Trade(settlements, demand)

    def _try_stuck(self, now_s: float) -> None:
        """Bring back one stuck settlement that is due, to be sent alone."""
        unsettled = self.holdings.unsettled
        # The others take turns with it: many that fail again would hold them up for long.
        if unsettled and (unsettled.alone or self._has_tried_stuck):
            return
        while (settlement := self.holdings.stuck.pop_due(now_s)) is not None:
            if self._doubt.hold_back([settlement]):
                unsettled.put_back([settlement])
                unsettled.alone = 1
                self._has_tried_stuck = True
                # It may cause other jobs.
                self._shares.look = True
                return

    def _trade_alone(self) -> Trade | None:
        """Settle one that may be a misfit; None when their queues are all in doubt.

        It asks for nothing: what is raised then is about this settlement.
        """
        unsettled = self.holdings.unsettled
        while unsettled.alone:
            settlements = self._doubt.hold_back(unsettled.take())
            if settlements:
                self._doubt.exchange = Unanswered(CUT_OFF, settlements)
                return Trade(settlements, {}, is_alone=True)
        return None

    def _moves_to_the_end(self, free: int, now_s: float) -> bool:
        """For a worker that ends by itself: whether it becomes quiet now, or looks into all
        queues once more."""
        if self.appetite.is_quiet or self._doubt.queues or self.holdings.stuck.has_hope():
            # A queue in doubt may still hold jobs, and so may the retry of a stuck settlement.
            return False
        self.appetite.is_quiet = self.appetite.is_over(free, now_s, self.holdings.taken)
        if self.appetite.is_quiet:
            return True
        # rule:12 a worker that ends by itself sleeps while it has no slot
        return free > 0 and self._shares.look

    def _park(self, free: int, now_s: float) -> Park:
        park = self.appetite.park(free, now_s, len(self.holdings.arrived))
        if self._doubt.queues:
            park = park._replace(wake_s=min(park.wake_s, self._doubt.wake_s(now_s)))
        if self.holdings.stuck:
            # rule:17 the loop wakes when a stuck settlement is due
            park = park._replace(wake_s=min(park.wake_s, self.holdings.stuck.wake_s()))
        return park

    # -- events --------------------------------------------------------------------------

    def sent(self, sequence: int) -> None:
        """The trade leaves under this number."""
        exchange = self._doubt.exchange
        assert exchange is not None
        exchange.sequence = sequence

    def failed(self, error: Exception) -> None:
        """The store has not answered a trade, a rejoin, or a question about single queues."""
        self._doubt.fail(error)

    def broke(self, fault: Exception) -> None:
        """The trade has met a fault that is no answer of the store. One of its settlements may be
        the cause, and the others must not share its fate."""
        exchange = self._doubt.exchange
        assert exchange is not None
        if exchange.again is None:
            # rule:17 the settlements of an exchange with a fault are sent again one by one
            self.holdings.unsettled.alone += len(exchange.settlements)
        self._doubt.fail(fault)

    def send_instead(self, settlement: Settlement, again: Again | None) -> None:
        """Settle the job of the trade that is alone in this way. `again`: when; None: at once."""
        exchange = self._doubt.exchange
        assert exchange is not None
        exchange.settlements = [settlement]
        exchange.again = again

    def ended(self, settlement: Settlement | None) -> None:
        """A job has ended here, after an attempt or without one. None: its end is not this worker's
        to record."""
        if settlement is not None:
            self.holdings.unsettled.append(settlement)
        self.appetite.burst.drained = False

    def holds_nothing(self) -> bool:
        """True when no job would be missed if this worker ended now."""
        return not self._slots.in_use() and self.holdings.is_empty()
