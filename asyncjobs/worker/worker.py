"""The worker that users start, stop and ask: its settings, and the run that is under way."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from types import TracebackType
from typing import Final, Self

from asyncjobs.errors import UsageError
from asyncjobs.guard.guarded import loop_guarded
from asyncjobs.guard.own import hide
from asyncjobs.jobs.context import JobContext
from asyncjobs.jobs.opened import Opened
from asyncjobs.model.clock import Seconds, seconds
from asyncjobs.model.job import TakenJob
from asyncjobs.store.lease import LeaseSpec
from asyncjobs.worker.engine.burst import Burst
from asyncjobs.worker.lease.farewell import say_farewell
from asyncjobs.worker.report import WorkerReport
from asyncjobs.worker.settings import App, Queues, WorkerSettings, checked_count
from asyncjobs.worker.shift import LEAVE_S, Shift
from asyncjobs.worker.stop_request import StopRequest
from asyncjobs.worker.watch.memory import MemoryLimit

__all__ = ["Worker"]

THREADS: Final = 16
"""More threads do not help sync functions that compute. Only one thread at a time holds the
interpreter's lock, and with each one the event loop waits longer for its turn. See
docs/explanation/performance.md."""


class Worker:
    """Runs the jobs of an app. One `run` (or `async with`) at a time.

    queues: names, or names with weights as in {"mail": 3, "default": 1}; None takes
    every queue that the app's job functions name, plus `default`.
    concurrency: how many jobs run at a time, at most.
    grace: how long a stop waits for running jobs (seconds or timedelta).
    lease: how long a worker that died keeps its jobs; at least 1 s.
    threads: how many sync job functions run at a time.
    job_processes: how many attempts in processes of their own run at a time; None takes the number
    of cores.
    block_warning: the log names a job that blocks the event loop for that long.
    hard_limit: the process ends when a job blocks its event loop for that long.
    stuck_after: how long a job may swallow its cancellation until its slot is freed.
    None turns any of these three off.
    Raises ConfigError that names the setting.
    """

    def __init__(
        self,
        app: App,
        *,
        queues: Queues | None = None,
        concurrency: int = 1000,
        grace: Seconds = 30,
        lease: Seconds = 15,
        threads: int = THREADS,
        job_processes: int | None = None,
        name: str | None = None,
        block_warning: Seconds | None = 1,
        hard_limit: Seconds | None = 300,
        stuck_after: Seconds | None = 30,
    ) -> None:
        self.app = app
        settings = self._settings = WorkerSettings.of(
            app,
            queues,
            name,
            concurrency=concurrency,
            threads=threads,
            job_processes=job_processes,
            grace=grace,
            lease=lease,
            block_warning=block_warning,
            hard_limit=hard_limit,
            stuck_after=stuck_after,
        )
        self.queues = settings.queues
        self.concurrency = settings.concurrency
        self.name = settings.name
        self._stop_request = StopRequest()
        self._shift: Shift | None = None
        """The run that is under way, from when the queues are entered until they are left."""
        self._is_busy = False
        self._background: asyncio.Task[WorkerReport] | None = None

    # -- from outside -------------------------------------------------------------------

    @property
    def running(self) -> int:
        """How many attempts run now; 0 when the worker does not run."""
        if (shift := self._shift) is None:
            return 0
        return len(shift.processor.running)

    @property
    def lease(self) -> LeaseSpec | None:
        """The lease under which it holds jobs; None when it does not run."""
        if (shift := self._shift) is None:
            return None
        return shift.session.spec

    @property
    def is_stopping(self) -> bool:
        """Whether `stop` was called, until `run` has returned."""
        return self._stop_request.is_made

    def unready(self) -> str | None:
        """Why it takes no jobs now; None when it does. Call it from any thread."""
        if self.is_stopping:
            return "the worker is stopping"
        if (shift := self._shift) is None:
            return "the worker is not registered"
        return shift.unready()

    def expect_end(self) -> None:
        """Tell the store that this worker was told to end. If it dies before it has given its jobs
        back, no crash is counted for them.

        Call it from any thread or from a signal handler. `stop` does the same, but on the loop,
        which a job may block.
        """
        if (shift := self._shift) is not None:
            shift.expect_end()

    def stop(self) -> None:
        """Take no more jobs, let running jobs finish within the grace, and release the rest.

        A second call releases at once. Returns immediately: `run` returns at the end. Does nothing
        when the worker does not run.
        """
        if self._is_busy:
            if self._stop_request.is_from_outside:
                self._stop_request.hurry()
            self._stop_request.ask()

    def suspected(self, context: JobContext | None) -> list[TakenJob]:
        """The running job with this context. Without a known one: all running jobs, and those that
        have ended and are not settled."""
        if (shift := self._shift) is None:
            return []
        attempt = None
        if context is not None:
            attempt = shift.processor.running.find(context)
        if attempt is None:
            return shift.processor.holding()
        return [attempt.job]

    def leave_at_once(self, charged: Collection[TakenJob] = (), limit_s: float = LEAVE_S) -> None:
        """Give all jobs back, each of `charged` with a crash. Blocks.

        For a process that ends now because the worker's loop does not turn. Call it from a thread
        that runs no loop.
        """
        if (shift := self._shift) is not None:
            say_farewell(shift.session, charged, limit_s)

    async def __aenter__(self) -> Self:
        """Start in the background. Raises what `run` would raise before it takes jobs."""
        if self._is_busy:
            raise UsageError("this worker runs already")
        started = asyncio.Event()
        body = self._run(started, Burst(), None)
        task = hide(asyncio.create_task(body, name="asyncjobs-worker"))
        self._background = task
        waiting = hide(asyncio.create_task(started.wait()))
        try:
            await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            task.cancel()
            await asyncio.wait({task})
            raise
        finally:
            waiting.cancel()
        if not started.is_set():
            # It has ended before it took jobs: raise its error here, where the block begins.
            self._background = None
            await task
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop within the grace. Raises the error that has ended the worker, if any."""
        task = self._background
        self._background = None
        if task is not None:
            if self._is_busy:
                # Not a second request, even after `stop`: the end of the block waits for the grace.
                self._stop_request.ask()
            await task

    async def run(
        self,
        *,
        burst: bool = False,
        burst_wait: Seconds = 5,
        max_jobs: int | None = None,
        max_memory: int | None = None,
    ) -> WorkerReport:
        """Work until stopped.

        burst: end when nothing is ready, running, or due within `burst_wait`.
        max_jobs: end after so many jobs.
        max_memory: stop, within the grace, once this process holds more bytes than that.
        To cancel `run` is to release the running jobs. Raises ConfigError that names the setting.
        """
        wait_s = None
        if burst:
            wait_s = seconds(burst_wait, field="burst_wait")
        if max_jobs is not None:
            checked_count(max_jobs, "max_jobs")
        memory = None
        if max_memory is not None:
            memory = MemoryLimit(checked_count(max_memory, "max_memory"))
        return await self._run(asyncio.Event(), Burst(max_jobs, wait_s), memory)

    # -- inside --------------------------------------------------------------------------

    async def _run(
        self, started: asyncio.Event, burst: Burst, memory: MemoryLimit | None
    ) -> WorkerReport:
        if self._is_busy:
            raise UsageError("this worker runs already")
        self._is_busy = True
        try:
            with loop_guarded():
                async with self.app:
                    return await self._work_with_resources(started, burst, memory)
        finally:
            self._is_busy = False
            # The next run must not find the request that has ended this one.
            self._stop_request = StopRequest()

    async def _work_with_resources(
        self, started: asyncio.Event, burst: Burst, memory: MemoryLimit | None
    ) -> WorkerReport:
        """Work between the opening and the closing of what jobs share. A stop ends the opening.
        Raises ResourceError for a resource that cannot be opened, or that fails while it is
        used."""
        resources = self.app.registry.resources
        async with Opened.of(resources, self._stop_request.ask_by_itself) as opened:
            if resources.lifespans and not await self._is_open(opened):
                # No queue is entered yet, so there is nothing to give back.
                return WorkerReport(taken=0, released=0, threads_left=0)
            # rule:28 resources are closed after the last job
            with opened.within():
                report = await self._work(started, burst, memory)
        if opened.failure is not None:
            raise opened.failure
        return report

    async def _is_open(self, opened: Opened) -> bool:
        """Open the lifespans. False if a stop was asked for before all of them were open."""
        opening = hide(asyncio.create_task(opened.open_lifespans()))
        stop = hide(asyncio.create_task(self._stop_request.wait()))
        try:
            await asyncio.wait({opening, stop}, return_when=asyncio.FIRST_COMPLETED)
            # rule:28 a stop ends the opening of resources, however long that takes
            if not opening.done():
                return False
            await opening
            return True
        finally:
            opening.cancel()
            stop.cancel()

    async def _work(
        self, started: asyncio.Event, burst: Burst, memory: MemoryLimit | None
    ) -> WorkerReport:
        shift = await Shift.begin(self.app, self._settings, self._stop_request, burst, memory)
        self._shift = shift
        try:
            return await shift.work(started)
        finally:
            self._shift = None
