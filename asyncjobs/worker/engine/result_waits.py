"""Warns of attempts that wait for the result of another job, and ends their wait at a stop.

A job that awaits a job holds its slot while it waits. When all slots wait like that, the jobs
they wait for never start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Final

from asyncjobs.errors import StoreError
from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.jobs.context import _current
from asyncjobs.jobs.result_waits import _result_waits
from asyncjobs.model.job import State
from asyncjobs.model.refs import JobRef
from asyncjobs.store.apart import apart
from asyncjobs.store.seam import Backend
from asyncjobs.worker.engine.attempt import Attempt, Reason, attempt_of

__all__ = ["ResultWaits"]

logger = GuardedLog("asyncjobs.worker")

LOOK_S: Final = 0.5
"""How often a worker that takes no more jobs looks whether such a wait is in vain."""
MOST_TOLD: Final = 1_000


class _Wait:
    """One wait of an attempt for a result, and the task that waits."""

    __slots__ = ("attempt", "ref", "task")

    def __init__(self, attempt: Attempt, ref: JobRef, task: asyncio.Task[object] | None) -> None:
        self.attempt = attempt
        self.ref = ref
        self.task = task


class ResultWaits:
    """Knows the attempts of one worker that wait for another job. Owns no task.

    A worker that takes no more jobs gives such an attempt back as soon as none of the jobs that it
    waits for is running anywhere: they may not start before this worker has left.
    """

    def __init__(
        self,
        app: object,
        backend: Backend,
        queues: Collection[str],
        is_quiet: Callable[[], bool],
    ) -> None:
        """`queues`: those that the worker serves. `is_quiet`: whether it takes no more jobs."""
        self._app = app
        self._backend = backend
        self._queues = frozenset(queues)
        self._is_quiet = is_quiet
        self._waits: dict[_Wait, None] = {}
        self._some = asyncio.Event()
        self._told: set[str] = set()

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Tasks that are started in this block report here what they wait for."""
        token = _result_waits.set(self.of)
        try:
            yield
        finally:
            _result_waits.reset(token)

    @contextmanager
    def of(self, app: object, ref: JobRef) -> Iterator[None]:
        """While the running attempt waits for the end of `ref`, a job of `app`."""
        attempt = attempt_of(_current.get(None))
        if attempt is None or app is not self._app:
            # Not an attempt of this worker, or a job of another app.
            yield
            return
        self._warn(attempt, ref)
        wait = _Wait(attempt, ref, asyncio.current_task())
        self._waits[wait] = None
        self._some.set()
        try:
            yield
        finally:
            del self._waits[wait]
            if not self._waits:
                self._some.clear()

    def _warn(self, attempt: Attempt, ref: JobRef) -> None:
        """Warn once for each job function."""
        name = attempt.function.name
        if ref.queue not in self._queues or name in self._told or len(self._told) >= MOST_TOLD:
            return
        self._told.add(name)
        logger.warning(
            "%s: %s waits for the result of %s, which this worker serves too: it holds a slot "
            "meanwhile, and when all slots wait like that, no job goes on. Write "
            "ctx.gather([handle]), which gives the slot away; or let the other job enqueue what "
            "comes next; or raise Snooze and look at handle.status() then; or give "
            "jobs that are waited for a queue with workers of their own",
            attempt.job.ref,
            name,
            ref,
            extra=attempt.label,
        )

    async def give_back(self) -> None:
        """Until cancelled: once the worker is quiet, give back the attempts that wait in vain."""
        while True:
            await self._some.wait()
            if self._is_quiet():
                await self._try_to_look()
            await asyncio.sleep(LOOK_S)

    async def _try_to_look(self) -> None:
        try:
            await self._look()
        except StoreError as error:
            # The processor meets the same fault and reports it once.
            logger.debug("jobs that are waited for could not be looked up: %s", error)
        except Exception:
            logger.exception("jobs that are waited for could not be looked up")

    async def _look(self) -> None:
        refs = list({wait.ref for wait in self._waits})
        found = await apart(self._backend.get, refs)
        # A job that cannot be looked up may be running, so it is worth the wait.
        idle = {
            ref
            for ref, record in found.answers.items()
            if record is not None and record.state in (State.READY, State.SCHEDULED)
        }
        hopeful = {wait.attempt for wait in self._waits if wait.ref not in idle}
        for wait in list(self._waits):
            if wait.attempt in hopeful:
                continue
            if wait.attempt.reason is None:
                logger.info(
                    "%s: given back: it waits for %s, which nobody runs",
                    wait.attempt.job.ref,
                    wait.ref,
                    extra=wait.attempt.label,
                )
            wait.attempt.stop(Reason.SHUTDOWN)
            if not wait.attempt.function.isolation.is_cancellable and wait.task is not None:
                # Its thread cannot be stopped, but its wait for the result can.
                wait.task.cancel()
