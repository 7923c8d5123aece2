"""Renewing the lease, from a thread where the store allows it.

A coroutine that blocks the event loop must not cost the lease: another worker would run
the same jobs again. So the heartbeat is a coroutine on a small loop of its own, with a
connection of its own. It stops by itself when the event loop has shown no sign of life
for longer than a limit, or a live thread beside a dead loop would hold jobs for ever.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Final

from asyncjobs.backends.base import Backend, Heartbeat, Lease
from asyncjobs.errors import StoreError
from asyncjobs.guarded import GuardedLog
from asyncjobs.worker.pulse import Pulse
from asyncjobs.worker.session import Session
from asyncjobs.worker.store_clock import StoreClock

__all__ = ["Heartbeats"]

logger = GuardedLog("asyncjobs.worker")

EVERY: Final = 0.3
"""A lease is renewed each time that this share of it has passed. Two heartbeats in a row
may be lost: the third is sent, and can be answered, before the lease ends. And less than
`Lease.grace_ms`, or a lone worker would be taken for a store that was away."""
ANSWERED_WITHIN: Final = 0.2
"""The share of a lease after which no answer is expected any more."""
AGAIN_AFTER: Final = 0.05
"""The share of a lease after which a heartbeat that failed is repeated."""


class Heartbeats:
    """Owns the thread or task that renews the lease of one session.

    silence_s: renew no more when the pulse is older; None renews for ever.
    """

    def __init__(
        self,
        backend: Backend,
        session: Session,
        listener: Callable[[Lease, Heartbeat], None],
        pulse: Pulse,
        *,
        silence_s: float | None,
    ) -> None:
        self._backend = backend
        self._session = session
        self._listener = listener
        self._pulse = pulse
        self._silence_s = silence_s
        self._clock = StoreClock()
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._thread: threading.Thread | None = None
        self._thread_loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self._backend.capabilities.threaded_heartbeat:
            self._thread = threading.Thread(
                target=self._run_thread, name="asyncjobs-lease", daemon=True
            )
            self._thread.start()
        else:
            self._task = asyncio.create_task(
                self._beat(self._backend, self._stop), name="asyncjobs-lease"
            )

    async def stop(self) -> None:
        """Returns when nothing beats any more."""
        self._stop.set()
        if self._thread is not None:
            loop = self._thread_loop
            if loop is not None and not loop.is_closed():
                loop.call_soon_threadsafe(self._thread_stop.set)
            await asyncio.to_thread(self._thread.join, 10)
        if self._task is not None:
            await self._task

    def _run_thread(self) -> None:
        try:
            asyncio.run(self._run_on_own_loop())
        except Exception:
            logger.exception("the lease thread failed; the lease will end")

    async def _run_on_own_loop(self) -> None:
        self._thread_stop = asyncio.Event()
        self._thread_loop = asyncio.get_running_loop()
        if self._stop.is_set():
            return
        twin = self._backend.for_thread()
        try:
            await self._beat(twin, self._thread_stop)
        finally:
            self._thread_loop = None
            await twin.close()

    async def _beat(self, backend: Backend, stop: asyncio.Event) -> None:
        lease_s = self._session.lease.duration_ms / 1000
        next_s = lease_s * EVERY
        while not stop.is_set():
            try:
                async with asyncio.timeout(next_s):
                    await stop.wait()
                return
            except TimeoutError:
                pass
            next_s = lease_s * (EVERY if await self._renew(backend) else AGAIN_AFTER)

    async def _renew(self, backend: Backend) -> bool:
        silent_s = time.monotonic() - self._pulse.mark_s
        if self._silence_s is not None and silent_s > self._silence_s:
            logger.error("the event loop is blocked for %.0f s: not renewing", silent_s)
            return True
        sent_s = time.monotonic()
        lease = self._session.lease
        lease_s = lease.duration_ms / 1000
        # A connection that never answers must not cost the lease: try another in time. When
        # that has passed, on a line that is slow to connect, nothing is won by haste.
        limit_s = lease_s * (ANSWERED_WITHIN if self._session.is_confirmed(sent_s) else 1)
        try:
            async with asyncio.timeout(limit_s):
                beat = await backend.heartbeat(lease)
        except (StoreError, TimeoutError) as error:
            logger.debug("heartbeat failed: %r", error)
            return False
        except Exception:
            # Whatever it was: without a next beat the worker would be a zombie.
            logger.exception("heartbeat failed")
            return False
        self._clock.watch(beat.now_ms, sent_s, time.monotonic())
        if not beat.lost:
            # Counted from when it was sent: the store cannot have renewed it earlier.
            self._session.confirmed_s = sent_s
        self._loop.call_soon_threadsafe(self._listener, lease, beat)
        return True
