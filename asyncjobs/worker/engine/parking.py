"""How an idle worker sleeps: until a job ends, a queue signals, or a time has come.

An offer is an exchange that waits at the store right behind the wait for a signal. So a new job
needs no extra round trip.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Final

from asyncjobs.errors import StoreError
from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.guard.own import hide
from asyncjobs.model.demand import Demand
from asyncjobs.store.answers import Parked
from asyncjobs.store.lease import Offer
from asyncjobs.worker.engine.appetite import Appetite
from asyncjobs.worker.engine.steps import Park
from asyncjobs.worker.lease.session import Session

__all__ = ["Parking"]

logger = GuardedLog("asyncjobs.worker")

WAIT_S: Final = 5.0
"""How long one wait lasts. A lost signal costs that much, if heartbeats are rare."""
FALLBACK_S: Final = 5.0
"""The longest pause after a wait that has failed."""
BRIEF_S: Final = 0.005
"""How long a busy worker runs jobs before it listens for signals. Most jobs are over by then, and
the exchange that settles them asks for new ones. Then the worker is idle, and can make an offer."""
NEVER_S: Final = float("inf")
_NOBODY: Final = Parked((), None)


class Parking:
    """Owns the one wait at the store and the one timer. Tells the appetite how a wait has ended.

    A sleep ends, but its wait at the store goes on until a signal or `WAIT_S`: to cut it off would
    cost its connection. So a signal is heard even while the loop is busy.
    """

    def __init__(
        self, session: Session, appetite: Appetite, on_lull: Callable[[], None] | None = None
    ) -> None:
        """`on_lull`: called when a worker that ends by itself has nothing to start: what waits for
        more jobs need not wait."""
        self._on_lull = on_lull
        self._session = session
        self._appetite = appetite
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self.nudge: Final = self._changed.set
        """Wake the loop, so that it asks for the next step. Called for each job that ends."""
        self._wait: asyncio.Task[None] | None = None
        self._later: asyncio.TimerHandle | None = None
        """Begins the wait of a busy worker after `BRIEF_S`."""
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s = NEVER_S

    async def sleep(self, park: Park) -> None:
        """Return after a nudge, or when something happens that `park` names."""
        if self._on_lull is not None and self._appetite.burst.is_set:
            self._on_lull()
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
        offer = None
        if slots:
            offer = self._offer(slots)
        wait = hide(self._loop.create_task(self._wait_once(offer), name="asyncjobs-wait"))
        # An eager task factory may have run it to its end: then there is nothing to keep.
        if not wait.done():
            self._wait = wait

    def _offer(self, slots: int) -> Offer:
        queues = self._session.spec.queues
        offer = Offer(self._session.next_sequence(), dict.fromkeys(queues, Demand(slots)))
        self._appetite.offered(offer)
        return offer

    async def _wait_once(self, offer: Offer | None) -> None:
        """Wait once, and tell the appetite how that has ended. A callback of the task would come
        one turn of the loop later, and so would the jobs that an offer has brought."""
        has_failed = False
        parked = _NOBODY
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
            return await self._session.lease.park(WAIT_S, offer)
        except StoreError as error:
            self._appetite.park_failed(error)
            self._changed.set()
            # The exchange meets the same fault and reports it. Here a pause is enough: without
            # one the worker would wait and fail again at once. It is random, so that a fleet does
            # not come back to the store at one moment.
            logger.debug("waiting for signals failed: %s", error)
            await asyncio.sleep(random.uniform(0.1, FALLBACK_S))
            return _NOBODY

    def _set_timer(self, wake_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        # Kept here, because a timer handle of uvloop does not tell a time that has passed.
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
