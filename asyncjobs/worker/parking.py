"""How an idle worker sleeps: until a job ends, a queue calls, or a scheduled job is due.

With an offer, an exchange waits at the store right behind the wait for a call, and what
calls comes at once.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection
from typing import Final, NamedTuple

from asyncjobs.backends.base import Demand, Exchange, Lease, Offer, Parked, StaleSequence
from asyncjobs.errors import StoreError
from asyncjobs.guarded import GuardedLog
from asyncjobs.own import hide
from asyncjobs.worker.session import Session

__all__ = ["Parking", "offer_for"]

logger = GuardedLog("asyncjobs.worker")

CALL_TIMEOUT_S: Final = 5.0
"""An idle worker looks by itself this often: what a lost wake-up costs."""
FALLBACK_S: Final = 5.0
MOST_OFFERED: Final = 8
"""Jobs that a call may bring; for more there is the next exchange."""
BRIEF_S: Final = 0.005
"""A worker that runs jobs listens for calls only when that takes longer: most jobs are over
by then, and their settlement asks for new ones. And what is idle can make an offer."""
# rule:1 a worker whose heartbeats are rare looks by itself
BEATS_WITHIN_S: Final = 6.0
"""While heartbeats come at least this often, they are the look; with a lease of more than
20 s and more they do not."""


def offer_for(session: Session, slots: int) -> Offer | None:
    """Some of these slots, to a worker's one queue: signals may come from any of several.

    Not all of them: a process that is stopped, or a machine that has lost its power,
    is handed what was offered, and keeps it until its lease is over.
    """
    queues = session.spec.queues
    if len(queues) > 1:
        return None
    demand = Demand(min(slots, MOST_OFFERED))
    return Offer(session.next_sequence(), dict.fromkeys(queues, demand))


class Landed(NamedTuple):
    """What an offer has come to."""

    called: Collection[str]
    offer: Offer
    exchange: Exchange


_NOBODY: Final = Parked((), None)


class Parking:
    """Owns the one pending wait, the offer behind it, and the one timer.

    The wait outlives a nap: cutting it off would cost its connection. A call that
    arrives while the worker is busy is kept in `called`, to be passed on by an exchange.
    """

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._wait: asyncio.Task[None] | None = None
        self._offer: Offer | None = None
        self._unheard: Offer | None = None
        """The offer that had no answer when a heartbeat last said that there is work."""
        self._later: asyncio.TimerHandle | None = None
        self.landed: Landed | None = None
        """What the exchange behind a call has brought, and nobody has taken in yet."""
        self.broken: StoreError | StaleSequence | None = None
        """Why an offer has no answer: what it brought may be held by this worker."""
        self._due: dict[str, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s: float | None = None
        self._look_s: float | None = None
        self.called: set[str] = set()
        self.due: set[str] = set()
        self.look = False
        """True when it is time to look into all queues, called or not."""
        self.always_looks = False
        """True to look after each wait, whatever heartbeats say: for a worker that shall end."""
        self._beat_s = self._gap_s = float("-inf")

    def nudge(self) -> None:
        """Something has changed: whoever sleeps here wakes and looks."""
        self._changed.set()

    def call(self, queues: Collection[str]) -> None:
        """There may be work in these queues, whoever else was called for it."""
        self.called.update(queues)
        self._changed.set()

    def hear_beat(self, ready: Collection[str]) -> None:
        """The store has renewed the lease and said which queues hold work: that finds what
        nobody was called for, so that an idle worker need not ask each queue once more."""
        now_s = self._loop.time()
        self._gap_s, self._beat_s = now_s - self._beat_s, now_s
        if ready and self._offer is not None and self._unheard is self._offer:
            # The slots that it keeps would do: perhaps its connection is broken.
            self._offer, self.broken = None, StaleSequence("an offer has no answer")
        self._unheard = self._offer if ready else None
        # rule:1 a worker that no token reaches looks by itself
        self.call(ready)

    @property
    def offered(self) -> int:
        """Slots that are kept for what a call may bring."""
        offer = self._offer
        return 0 if offer is None else sum(demand.slots for demand in offer.demand.values())

    def is_sure(self) -> bool:
        """False while jobs may be on their way here."""
        return self._offer is None and self.landed is None and self.broken is None

    def note_broken(self, error: StoreError) -> None:
        """The store did not answer somebody else: ask it what it knows of us."""
        if self.broken is None:
            self._offer, self.broken = None, error
            self._changed.set()

    def withdraw(self) -> None:
        """Whatever the offer brings is found by a resync, or belongs to others by now."""
        self._offer = self.landed = self.broken = None

    async def sleep(
        self,
        *,
        listen: bool,
        limit_s: float | None = None,
        is_busy: bool = False,
        offer: Callable[[], Offer | None] | None = None,
    ) -> None:
        """Until a nudge or `limit_s`; with `listen` also until a queue calls or a job is due.

        After `limit_s` it is time to look into all queues; nudges do not put that off. While
        the worker `is_busy` nothing is offered: a job that blocks the loop would hold up
        what comes.
        """
        if limit_s is None:
            self._look_s = None
        elif self._look_s is None:
            self._look_s = self._loop.time() + limit_s
        if not (listen and is_busy):
            self._forget_later()
        if listen and self._wait is None:
            if not is_busy:
                self._start_wait(offer)
            elif self._later is None:
                self._later = self._loop.call_later(BRIEF_S, self._start_wait, None)
        if self._look_s is None:
            await self._changed.wait()
        else:
            try:
                async with asyncio.timeout_at(self._look_s):
                    await self._changed.wait()
            except TimeoutError:
                self.look, self._look_s = True, None
        self._changed.clear()

    def _start_wait(self, offer: Callable[[], Offer | None] | None) -> None:
        self._later = None
        if self._wait is None:
            self._offer = offer() if offer is not None else None
            waiting = self._wait_once(self._offer)
            wait = hide(self._loop.create_task(waiting, name="asyncjobs-wait"))
            # Of an eager task factory it may be over by now: then it has told all.
            self._wait = None if wait.done() else wait

    def _forget_later(self) -> None:
        if self._later is not None:
            self._later.cancel()
            self._later = None

    async def _wait_once(self, offer: Offer | None) -> None:
        """One wait, up to what it has come to: told here, for a callback of the task would
        come a turn of the loop later, and what is called for would start later."""
        has_failed, parked = False, _NOBODY
        try:
            parked = await self._listen(offer)
        except Exception:
            has_failed = True
            logger.exception("waiting for calls failed")
        self._heard(parked, has_failed=has_failed)

    async def _listen(self, offer: Offer | None) -> Parked:
        try:
            return await self._lease.park(CALL_TIMEOUT_S, offer)
        except StoreError as error:
            if self._offer is not None:
                self._offer, self.broken = None, error
                self._changed.set()
            # The exchange meets the same fault and reports it; here it must only not spin.
            logger.debug("waiting for calls failed: %s", error)
            await asyncio.sleep(random.uniform(0.1, FALLBACK_S))
            return _NOBODY

    def _heard(self, parked: Parked, *, has_failed: bool) -> None:
        called, exchange = parked
        offer, self._offer, self._wait = self._offer, None, None
        if offer is not None and exchange is not None:
            # A look into the worker's one queue, whether anybody called or not.
            self.landed = Landed(called, offer, exchange)
        else:
            if offer is not None:
                # Not withdrawn, and yet not above the last one: a copy of it has taken effect.
                self.broken = StaleSequence(f"the offer {offer.sequence} was refused")
            self.called.update(called)
            is_told = max(self._loop.time() - self._beat_s, self._gap_s) <= BEATS_WITHIN_S
            if called or has_failed or self.always_looks or not is_told:
                self.look = True
        self._changed.set()

    def note_due(self, exchange: Exchange) -> None:
        """Set the timer by the store's clock: both times come from the exchange."""
        now_s = self._loop.time()
        for queue, due_ms in exchange.next_due_ms.items():
            if due_ms is None:
                self._due.pop(queue, None)
            else:
                self._due[queue] = now_s + max(due_ms - exchange.now_ms, 0) / 1000
        self._set_timer()

    def _set_timer(self) -> None:
        # The time is kept here: uvloop's handle of a time that is past does not tell it.
        earliest_s = min(self._due.values(), default=None)
        if earliest_s == self._timer_s:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_s = earliest_s
        if earliest_s is not None:
            # rule:1 the worker's own timer at the next due time
            self._timer = self._loop.call_at(earliest_s, self._is_due)

    def _is_due(self) -> None:
        self._timer = self._timer_s = None
        now_s = self._loop.time()
        self.due.update(queue for queue, due_s in self._due.items() if due_s <= now_s)
        for queue in self.due:
            self._due.pop(queue, None)
        self._set_timer()
        self._changed.set()

    def next_due_in_s(self) -> float | None:
        """Seconds until the earliest scheduled job known of."""
        earliest_s = min(self._due.values(), default=None)
        return None if earliest_s is None else earliest_s - self._loop.time()

    async def close(self) -> None:
        self._forget_later()
        if self._timer is not None:
            self._timer.cancel()
        if self._wait is not None:
            self._wait.cancel()
            await asyncio.gather(self._wait, return_exceptions=True)
