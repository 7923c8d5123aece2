"""How an idle worker sleeps: until a job ends, a queue signals, or a time has come.

With an offer, an exchange waits at the store right behind the wait for a signal, so that new
work needs no trip of its own.
"""

from __future__ import annotations

import asyncio
import random
from typing import Final

from asyncjobs.errors import StoreError
from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.guard.own import hide
from asyncjobs.model.job import Demand
from asyncjobs.store.answers import Parked
from asyncjobs.store.lease import Offer
from asyncjobs.worker.engine.appetite import Appetite
from asyncjobs.worker.engine.steps import Park
from asyncjobs.worker.lease.session import Session

__all__ = ["Parking"]

logger = GuardedLog("asyncjobs.worker")

CALL_TIMEOUT_S: Final = 5.0
"""How long one wait lasts: what a lost wake-up costs a worker whose heartbeats are rare."""
FALLBACK_S: Final = 5.0
"""How long a wait that has failed is put off, at the most."""
BRIEF_S: Final = 0.005
"""A worker that runs jobs listens for signals only when that takes longer: most jobs are over
by then, and their settlement asks for new ones. And an idle worker can make an offer."""
NEVER_S: Final = float("inf")
_NOBODY: Final = Parked((), None)


class Parking:
    """Owns the one wait at the store, and the one timer. Tells the appetite what came of a wait.

    The wait outlives a nap: cutting it off would cost its connection.
    """

    def __init__(self, session: Session, appetite: Appetite) -> None:
        self._session = session
        self._appetite = appetite
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self.nudge: Final = self._changed.set
        """Something has changed: whoever sleeps here wakes and asks what is next. Called for each
        job that ends."""
        self._wait: asyncio.Task[None] | None = None
        self._later: asyncio.TimerHandle | None = None
        """Begins the wait of a busy worker."""
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s = NEVER_S

    async def sleep(self, park: Park) -> None:
        """Until a nudge, or what `park` names."""
        if not (park.listens and park.is_busy):
            self._forget_later()
        if park.listens and self._wait is None:
            if not park.is_busy:
                self._start_wait(park.slots)
            elif self._later is None:
                self._later = self._loop.call_later(BRIEF_S, self._start_wait, 0)
        if park.wake_s != self._timer_s:
            self._set_timer(park.wake_s)
        await self._changed.wait()
        self._changed.clear()

    def _start_wait(self, slots: int) -> None:
        self._later = None
        if self._wait is not None:
            return
        offer = self._offer(slots) if slots else None
        wait = hide(self._loop.create_task(self._wait_once(offer), name="asyncjobs-wait"))
        # Of an eager task factory it may be over by now: then it has told all.
        self._wait = None if wait.done() else wait

    def _offer(self, slots: int) -> Offer:
        queues = self._session.spec.queues
        offer = Offer(self._session.next_sequence(), dict.fromkeys(queues, Demand(slots)))
        self._appetite.offered(offer)
        return offer

    async def _wait_once(self, offer: Offer | None) -> None:
        """One wait, up to what it has come to. That is told here: a callback of the task would
        come a turn of the loop later, and what it brings would start later."""
        has_failed, parked = False, _NOBODY
        try:
            parked = await self._listen(offer)
        except Exception:
            has_failed = True
            logger.exception("waiting for signals failed")
        self._wait = None
        now_s = self._loop.time()
        self._appetite.parked(parked.signalled, parked.exchange, now_s, has_failed=has_failed)
        self._changed.set()

    async def _listen(self, offer: Offer | None) -> Parked:
        try:
            return await self._session.lease.park(CALL_TIMEOUT_S, offer)
        except StoreError as error:
            self._appetite.park_failed(error)
            self._changed.set()
            # The exchange meets the same fault and reports it; here it must only not spin.
            logger.debug("waiting for signals failed: %s", error)
            await asyncio.sleep(random.uniform(0.1, FALLBACK_S))
            return _NOBODY

    def _set_timer(self, wake_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        # The time is kept here: uvloop's handle of a time that is past does not tell it.
        self._timer_s = wake_s
        if wake_s != NEVER_S:
            # rule:1 the worker's own timer at the next due time
            self._timer = self._loop.call_at(wake_s, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._timer_s = NEVER_S
        self._changed.set()

    def _forget_later(self) -> None:
        if self._later is not None:
            self._later.cancel()
            self._later = None

    async def close(self) -> None:
        """Let go of the wait and of the timer."""
        self._forget_later()
        if self._timer is not None:
            self._timer.cancel()
        if self._wait is not None:
            self._wait.cancel()
            await asyncio.gather(self._wait, return_exceptions=True)
