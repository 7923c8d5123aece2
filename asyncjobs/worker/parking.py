"""How an idle worker sleeps: until a job ends, a queue calls, or a scheduled job is due."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Collection
from typing import Final

from asyncjobs.backends.base import Backend, Exchange, Lease
from asyncjobs.errors import StoreError

__all__ = ["Parking"]

logger = logging.getLogger("asyncjobs.worker")

CALL_TIMEOUT_S: Final = 5.0
"""An idle worker looks by itself this often: what a lost wake-up costs."""
FALLBACK_S: Final = 5.0
BEATS_WITHIN_S: Final = 6.0
"""While heartbeats come at least this often, they are the look; with a lease of more than
20 s and more they do not."""


class Parking:
    """Owns the one pending wait and the one timer; takes nothing from the store.

    The wait outlives a nap: cutting it off would cost its connection. A call that
    arrives while the worker is busy is kept in `called`, to be passed on by an exchange.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._wait: asyncio.Task[Collection[str]] | None = None
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
        self.call(ready)

    async def sleep(self, lease: Lease, *, listen: bool, limit_s: float | None = None) -> None:
        """Until a nudge or `limit_s`; with `listen` also until a queue calls or a job is due.

        After `limit_s` it is time to look into all queues; nudges do not put that off.
        """
        if limit_s is None:
            self._look_s = None
        elif self._look_s is None:
            self._look_s = self._loop.time() + limit_s
        if listen and self._wait is None:
            self._wait = asyncio.create_task(self._listen(lease), name="asyncjobs-wait")
            self._wait.add_done_callback(self._heard)
        try:
            async with asyncio.timeout_at(self._look_s):
                await self._changed.wait()
        except TimeoutError:
            self.look, self._look_s = True, None
        self._changed.clear()

    async def _listen(self, lease: Lease) -> Collection[str]:
        try:
            return await self._backend.wait(lease, CALL_TIMEOUT_S)
        except StoreError as error:
            # The exchange meets the same fault and reports it; here it must only not spin.
            logger.debug("waiting for calls failed: %s", error)
            await asyncio.sleep(random.uniform(0.1, FALLBACK_S))
            return ()

    def _heard(self, task: asyncio.Task[Collection[str]]) -> None:
        self._wait = None
        if task.cancelled():
            return
        if error := task.exception():
            logger.error("waiting for calls failed", exc_info=error)
        called = () if error else task.result()
        self.called.update(called)
        is_told = max(self._loop.time() - self._beat_s, self._gap_s) <= BEATS_WITHIN_S
        if called or error or self.always_looks or not is_told:
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
        if self._timer is not None:
            self._timer.cancel()
        if self._wait is not None:
            self._wait.cancel()
            await asyncio.gather(self._wait, return_exceptions=True)
