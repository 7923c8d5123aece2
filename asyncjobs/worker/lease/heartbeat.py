"""Renews the lease, in a thread where the store allows it.

A coroutine that blocks the event loop must not cost the lease: another worker would run the same
jobs again. So heartbeats are sent by a coroutine on a small loop of its own, with a connection of
its own. They end by themselves when the worker's loop was stopped, or has not turned for longer
than a limit. Otherwise a live thread beside a dead loop would hold the jobs for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from typing import Final

from asyncjobs.errors import StoreError, StoreUnavailable
from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.guard.own import hide, in_own_thread
from asyncjobs.host.pulse import Pulse
from asyncjobs.store.answers import Heartbeat
from asyncjobs.store.lease import LeaseSpec
from asyncjobs.store.seam import Backend
from asyncjobs.worker.lease.session import Session
from asyncjobs.worker.lease.store_clock import StoreClock

__all__ = ["Heartbeats"]

logger = GuardedLog("asyncjobs.worker")

EVERY: Final = 0.3
"""A lease is renewed when this share of it has passed. So two heartbeats in a row may be lost: the
third one can be answered before the lease ends. It is also less than `LeaseSpec.grace_ms`. If not,
the heartbeats of a lone worker would look like those after an outage of the store."""
ANSWERED_WITHIN: Final = 0.2
"""The share of a lease that an answer may take."""
AGAIN_AFTER: Final = 0.05
"""The share of a lease after which a failed heartbeat is repeated."""
STOP_S: Final = 3.0
"""How long the thread may take to close its connection and end."""


class Heartbeats:
    """Owns the thread or task that renews the lease of one session.

    silence_s: stop to renew when the pulse is older than that; None renews for ever.
    on_failed: called on the worker's loop for each failed renewal once the lease may have ended.
    """

    def __init__(
        self,
        backend: Backend,
        session: Session,
        listener: Callable[[LeaseSpec, Heartbeat], None],
        pulse: Pulse,
        *,
        silence_s: float | None,
        on_failed: Callable[[StoreError], None] = lambda error: None,
    ) -> None:
        self._backend = backend
        self._session = session
        self._listener = listener
        self._pulse = pulse
        self._silence_s = silence_s
        self._on_failed = on_failed
        self._clock = StoreClock()
        self._loop = asyncio.get_running_loop()
        self._is_over = False
        self._thread: threading.Thread | None = None
        self._thread_loop: asyncio.AbstractEventLoop | None = None
        self._beating: asyncio.Task[None] | None = None
        """The task that sends heartbeats, on the loop of the thread or on the worker's own."""
        self._bell: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None
        """The loop that sends heartbeats, and the event that makes it send one now."""

    def start(self) -> None:
        if self._backend.capabilities.threaded_heartbeat:
            self._thread = threading.Thread(
                target=self._run_thread, name="asyncjobs-lease", daemon=True
            )
            self._thread.start()
        else:
            self._beating = hide(
                asyncio.create_task(self._beat(self._backend), name="asyncjobs-lease")
            )

    async def stop(self) -> None:
        """Returns when no heartbeat is sent any more.

        Does not wait for one that is under way: after the farewell it renews nothing.
        """
        self._is_over = True
        if self._thread is None:
            self._end_beating()
            if self._beating is not None:
                await asyncio.wait({self._beating})
            return
        loop = self._thread_loop
        if loop is not None:
            # A RuntimeError: the loop is closed, since the thread has ended by itself.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._end_beating)
        await in_own_thread(self._thread.join, STOP_S)

    def _end_beating(self) -> None:
        if self._beating is not None:
            self._beating.cancel()

    def hasten(self) -> None:
        """Send a heartbeat now. From any thread, and from a signal handler."""
        if self._bell is not None:
            loop, bell = self._bell
            # A RuntimeError: the loop is closed, and no heartbeat will be sent.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(bell.set)

    def _run_thread(self) -> None:
        try:
            asyncio.run(self._run_on_own_loop())
        except Exception:
            logger.exception("the lease thread failed; the lease will end")

    async def _run_on_own_loop(self) -> None:
        twin = self._backend.for_thread()
        self._beating = asyncio.create_task(self._beat(twin))
        self._thread_loop = asyncio.get_running_loop()
        if self._is_over:
            # `stop` has come before there was a loop on which it could cancel.
            self._beating.cancel()
        try:
            await asyncio.wait({self._beating})
            if not self._beating.cancelled():
                self._beating.result()
                await self._leave_for_good(twin)
        finally:
            await twin.close()

    async def _leave_for_good(self, backend: Backend) -> None:
        """The worker's loop was closed while it ran. Nobody else will give its jobs back."""
        logger.error("the event loop was closed while a worker ran on it: giving back its jobs")
        try:
            async with asyncio.timeout(STOP_S):
                await backend.attach(self._session.spec).leave()
        except (StoreError, TimeoutError) as error:
            logger.error("the lease could not be given back, it will end: %s", error)

    async def _beat(self, backend: Backend) -> None:
        """Until cancelled, or until the worker's loop is closed."""
        bell = asyncio.Event()
        self._bell = (asyncio.get_running_loop(), bell)
        lease_s = self._session.spec.duration_ms / 1000
        next_s = lease_s * EVERY
        while not self._loop.is_closed():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(next_s):
                    await bell.wait()
            bell.clear()
            share = AGAIN_AFTER
            if await self._renew(backend):
                share = EVERY
            next_s = lease_s * share

    async def _renew(self, backend: Backend) -> bool:
        """Send one heartbeat. False if it has failed and is to be repeated soon."""
        if self._thread is not None and not self._loop.is_running():
            # The loop was stopped, perhaps for good. Nothing runs there that needs a lease.
            return False
        silent_s = time.monotonic() - self._pulse.mark_s
        if self._silence_s is not None and silent_s > self._silence_s:
            logger.error("the event loop is blocked for %.0f s: not renewing", silent_s)
            return True
        sent_s = time.monotonic()
        # Read each time: the worker may have entered a queue again since the last heartbeat.
        spec = self._session.spec
        lease_s = spec.duration_ms / 1000
        # A connection that never answers must not cost the lease, so another one is tried in time.
        # Once the lease may have ended, haste wins nothing, and a slow line needs the time.
        limit_s = lease_s
        if self._session.is_confirmed(sent_s):
            limit_s = lease_s * ANSWERED_WITHIN
        try:
            async with asyncio.timeout(limit_s):
                session = self._session
                beat = await backend.attach(spec).beat(leaves=session.leaves, info=session.info)
        except (StoreError, TimeoutError) as error:
            logger.debug("heartbeat failed: %r", error)
            # rule:10 a busy worker finds out by its heartbeats that the store is away
            self._tell_failed(error)
            return False
        except Exception:
            # Whatever has failed: without a next heartbeat the worker would run without a lease.
            logger.exception("heartbeat failed")
            return False
        session.unrenewed = frozenset(beat.away)
        # rule:2 a queue that fails keeps no other one from being renewed
        if len(beat.away) < len(spec.queues):
            self._clock.watch(beat.now_ms, sent_s, time.monotonic())
            # Losses in queues that the worker has not entered do not count: it runs no jobs of
            # theirs.
            if session.outside.issuperset(beat.lost):
                # Counted from when it was sent: the store cannot have renewed it earlier.
                session.confirmed_s = sent_s
        # A RuntimeError: the worker's loop was closed meanwhile, so nobody has to be told.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._listener, spec, beat)
        return True

    def _tell_failed(self, error: StoreError | TimeoutError) -> None:
        if self._session.is_confirmed(time.monotonic()):
            return
        if not isinstance(error, StoreError):
            error = StoreUnavailable("the lease could not be renewed: no answer in time")
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._on_failed, error)
