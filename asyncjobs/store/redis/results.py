"""Waiting for outcomes: any number of waiters share one subscribed connection.

In a queue that is marked as awaited, a settlement announces the outcome on a channel with the
name of the result key. The board subscribes first. Then it looks at the store, and the same
script sets the mark. So no outcome in between is missed. After a lost connection it subscribes
and looks again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from asyncjobs.errors import StoreError, StoreUnavailable
from asyncjobs.guard.own import hide
from asyncjobs.model.backoff import Pauses
from asyncjobs.model.batches import pieces
from asyncjobs.model.codec import BadRecord
from asyncjobs.model.job import JobRecord
from asyncjobs.model.outcome import Outcome
from asyncjobs.model.refs import JobRef
from asyncjobs.store.redis.keys import StoreKeys
from asyncjobs.store.redis.link import Link

__all__ = ["ResultBoard"]

Look = Callable[
    [Sequence[JobRef]], Awaitable[tuple[list[JobRecord | None], Mapping[str, StoreError]]]
]
"""Records, and the errors of the queues that have not answered."""

LOOK_AGAIN_S = 3.0
"""Keeps the mark of awaited queues alive, which expires after 10 s. It also bounds the delay when
an announcement is lost with its server."""
IDLE_S = 10.0
"""How long the connection stays open without a waiter. Waits often follow each other."""
SUBSCRIBE_STEP = 1000


class _Waiter:
    __slots__ = ("future", "ref")

    def __init__(self, ref: JobRef, future: asyncio.Future[JobRecord | None]) -> None:
        self.ref = ref
        self.future = future


class ResultBoard:
    """Owns the subscribed connection, and the two tasks on it while anybody waits."""

    def __init__(self, link: Link, keys: StoreKeys, look: Look) -> None:
        self._link = link
        self._keys = keys
        self._look = look
        self._waiting: dict[bytes, list[_Waiter]] = {}
        self._new: list[_Waiter] = []
        self._stale: set[bytes] = set()
        self._subscribed: set[bytes] = set()
        self._confirmed = asyncio.Event()
        self._arrived = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def wait(self, ref: JobRef, timeout_s: float | None) -> JobRecord | None:
        """The record of the job once it is final or unknown. None after `timeout_s`."""
        waiter = _Waiter(ref, asyncio.get_running_loop().create_future())
        channel = self._keys.result(ref)
        self._waiting.setdefault(channel, []).append(waiter)
        self._new.append(waiter)
        # Wakes `_serve`, which may be waiting for its next look.
        self._arrived.set()
        if self._task is None or self._task.done():
            self._task = hide(asyncio.create_task(self._run(), name="asyncjobs-results"))
        try:
            async with asyncio.timeout(timeout_s):
                return await waiter.future
        except TimeoutError:
            return None
        finally:
            self._forget(channel, waiter)

    def _forget(self, channel: bytes, waiter: _Waiter) -> None:
        waiters = self._waiting.get(channel)
        if waiters is None:
            return
        if waiter in waiters:
            waiters.remove(waiter)
        if not waiters:
            del self._waiting[channel]
            # It is unsubscribed later, together with others: another waiter may come at once.
            self._stale.add(channel)

    async def close(self) -> None:
        task = self._task
        self._task = None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self._link.close()
        for waiters in self._waiting.values():
            for waiter in waiters:
                waiter.future.cancel()
        self._waiting.clear()

    async def _run(self) -> None:
        """Serve until nobody waits, and connect again after a fault: the store comes back, and
        the waiters have time-outs of their own."""
        pauses = Pauses(0.05, 2.0)
        while self._waiting:
            try:
                async with asyncio.TaskGroup() as tasks:
                    await self._link.connect()
                    reader = hide(tasks.create_task(self._read()))
                    await self._serve()
                    reader.cancel()
            except* (StoreError, TimeoutError):
                await asyncio.sleep(pauses.next_s())
            except* Exception as fault:
                # Trying again would not mend it, so the waiters must hear of it.
                self._fail(fault.exceptions[0])
            finally:
                # A new connection has no channels.
                self._subscribed.clear()
                await self._link.close()
            # Outcomes may have been announced meanwhile, so everybody needs a new look.
            self._new = [waiter for waiters in self._waiting.values() for waiter in waiters]

    def _fail(self, error: Exception) -> None:
        for waiters in self._waiting.values():
            for waiter in waiters:
                if not waiter.future.done():
                    waiter.future.set_exception(error)
        self._waiting.clear()

    async def _serve(self) -> None:
        """Serve until nobody has waited for IDLE_S."""
        loop = asyncio.get_running_loop()
        next_look_s = loop.time() + LOOK_AGAIN_S
        while True:
            self._arrived.clear()
            new = [waiter for waiter in self._new if not waiter.future.done()]
            self._new = []
            # In this order: an outcome between the two is announced, so none is missed.
            await self._subscribe(new)
            await self._look_at(new)
            await self._drop_stale()
            if self._waiting and loop.time() >= next_look_s:
                await self._look_at([w for waiters in self._waiting.values() for w in waiters])
                next_look_s = loop.time() + LOOK_AGAIN_S
            limit_s = IDLE_S
            if self._waiting:
                limit_s = max(next_look_s - loop.time(), 0.0)
            try:
                async with asyncio.timeout(limit_s):
                    await self._arrived.wait()
            except TimeoutError:
                if not self._waiting:
                    return

    async def _subscribe(self, new: Sequence[_Waiter]) -> None:
        channels = {self._keys.result(waiter.ref) for waiter in new} - self._subscribed
        for part in pieces(sorted(channels), SUBSCRIBE_STEP):
            await self._link.push((b"SUBSCRIBE", *part))
        # A look before the server has confirmed the channels could miss an announcement.
        async with asyncio.timeout(self._link.timeout_s):
            while not channels <= self._subscribed:
                self._confirmed.clear()
                await self._confirmed.wait()

    async def _look_at(self, waiters: Sequence[_Waiter]) -> None:
        refs = list({waiter.ref: None for waiter in waiters})
        for part in pieces(refs, SUBSCRIBE_STEP):
            records, away = await self._look(part)
            for ref, record in zip(part, records, strict=True):
                if ref.queue in away:
                    # rule:10 a queue that cannot be read holds up no waiter of another one
                    self._refuse(ref, away[ref.queue])
                elif record is None or record.state.is_final:
                    self._resolve(self._keys.result(ref), record)

    def _refuse(self, ref: JobRef, error: StoreError) -> None:
        """Tell the waiters of a queue that has not answered, and no others."""
        if isinstance(error, StoreUnavailable):
            # Rights are missing for now. The next look may succeed, as after an outage.
            return
        channel = self._keys.result(ref)
        for waiter in self._waiting.pop(channel, ()):
            if not waiter.future.done():
                waiter.future.set_exception(type(error)(f"queue {ref.queue!r}: {error}"))
        self._stale.add(channel)

    async def _drop_stale(self) -> None:
        stale = [c for c in self._stale & self._subscribed if c not in self._waiting]
        self._stale.clear()
        if stale:
            self._subscribed.difference_update(stale)
            await self._link.push((b"UNSUBSCRIBE", *stale))

    async def _read(self) -> None:
        while True:
            kind, channel, data = await self._link.next_message()
            if kind == b"subscribe":
                self._subscribed.add(channel)
                self._confirmed.set()
            elif kind == b"message" and channel in self._waiting:
                try:
                    state = Outcome.decode(data).state
                except BadRecord:
                    # The job has ended without an outcome. The store says how.
                    self._new += self._waiting[channel]
                    self._arrived.set()
                    continue
                ref = self._waiting[channel][0].ref
                self._resolve(channel, JobRecord(ref, state, outcome=data))

    def _resolve(self, channel: bytes, record: JobRecord | None) -> None:
        for waiter in self._waiting.pop(channel, ()):
            if not waiter.future.done():
                waiter.future.set_result(record)
        self._stale.add(channel)
        self._arrived.set()
