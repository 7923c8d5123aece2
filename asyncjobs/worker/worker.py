"""A worker from its start to its end: enter the queues, work, quiet down, leave."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Collection
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Final, Self

import anyio
import orjson

from asyncjobs.errors import AsyncJobsError, StoreError, UsageError
from asyncjobs.guard.guarded import GuardedLog, loop_guarded
from asyncjobs.guard.own import hide
from asyncjobs.host.pulse import Pulse
from asyncjobs.jobs.context import JobContext
from asyncjobs.model import events
from asyncjobs.model.clock import Seconds, new_id, seconds
from asyncjobs.model.job import JobRef, TakenJob
from asyncjobs.policy.fairness import QueueShares
from asyncjobs.store.answers import Heartbeat
from asyncjobs.store.lease import LeaseSpec
from asyncjobs.worker.duties import Site
from asyncjobs.worker.engine.burst import Burst
from asyncjobs.worker.engine.loop import Processor
from asyncjobs.worker.engine.threads import Threads
from asyncjobs.worker.engine.waiting import Waiting
from asyncjobs.worker.lease.cancels import CancelListener
from asyncjobs.worker.lease.farewell import say_farewell
from asyncjobs.worker.lease.heartbeat import Heartbeats
from asyncjobs.worker.lease.session import Session
from asyncjobs.worker.settings import Host, Queues, WorkerSettings, checked_count, sync_queues
from asyncjobs.worker.upkeep import Upkeep
from asyncjobs.worker.watch.memory import MemoryLimit, show_bytes
from asyncjobs.worker.watch.watchdog import Watchdog, pulse_interval_s

__all__ = ["Worker", "WorkerReport"]

logger = GuardedLog("asyncjobs.worker")

LEAVE_S: Final = 5.0
"""How long stopped jobs may take for their `finally` blocks."""
TELL: Final = 0.4
"""The share of it that the store may take each time it is told of the end."""
THREADS: Final = 16
"""More do not help sync functions that compute: one thread at a time holds the interpreter's lock,
and each one makes the event loop wait longer for its turn. See docs/explanation/performance.md."""
SILENCE_S: Final = 15.0
"""A lease ends by itself when the loop is blocked for so much longer than the hard limit:
then the watchdog, which ends the process, has failed."""


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """What a worker did: jobs taken, jobs given back at its end, threads left behind, how
    often it put back a job whose function it does not have, how often it lost its lease in a
    queue, and the bytes of memory that the process held if it ended for that."""

    taken: int
    released: int
    threads_left: int
    put_back: int = 0
    leases_lost: int = 0
    over_memory: int | None = None


@dataclass(frozen=True, slots=True)
class _Life:
    """What keeps a worker's lease and watches its loop: started and stopped together."""

    beats: Heartbeats
    watchdog: Watchdog

    def start(self) -> None:
        self.watchdog.start()
        self.beats.start()

    async def stop(self) -> None:
        """Returns when nothing beats any more."""
        try:
            await self.beats.stop()
        finally:
            self.watchdog.stop()


class Worker:
    """Runs the jobs of an app. One `run` (or `async with`) at a time.

    queues: names, or names with weights as in {"mail": 3, "default": 1}; None takes
    every queue that the app's job functions name, plus `default`.
    concurrency: jobs running at a time, at the most.
    grace: how long a stop waits for running jobs (seconds or timedelta).
    lease: how long a worker that died keeps its jobs; at least 1 s.
    threads: how many sync job functions run at a time.
    block_warning: the log names a job that blocks the event loop for that long.
    hard_limit: the process ends when a job blocks its event loop for that long.
    stuck_after: how long a job may swallow its cancellation until its slot is freed.
    None turns any of these three off.
    Raises ConfigError naming the setting.
    """

    def __init__(
        self,
        app: Host,
        *,
        queues: Queues | None = None,
        concurrency: int = 1000,
        grace: Seconds = 30,
        lease: Seconds = 15,
        threads: int = THREADS,
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
            grace=grace,
            lease=lease,
            block_warning=block_warning,
            hard_limit=hard_limit,
            stuck_after=stuck_after,
        )
        self.queues = settings.queues
        self.concurrency = settings.concurrency
        self.name = settings.name
        self._processor: Processor | None = None
        self._present: Session | None = None
        self._beats: Heartbeats | None = None
        self._upkeep: Upkeep | None = None
        self._stopping = asyncio.Event()
        self._is_asked_to_stop = False
        """From outside: a worker may also stop for a reason of its own."""
        self._hurry = asyncio.Event()
        self._background: asyncio.Task[WorkerReport] | None = None
        self._busy = False

    # -- from outside -------------------------------------------------------------------

    @property
    def running(self) -> int:
        """How many attempts are under way; 0 when the worker does not run."""
        return 0 if self._processor is None else len(self._processor.running)

    @property
    def is_stopping(self) -> bool:
        """Whether `stop` was called, until `run` has returned."""
        return self._stopping.is_set()

    def unready(self) -> str | None:
        """Why it takes no jobs now; None when it does. May be asked from any thread."""
        if self.is_stopping:
            return "the worker is stopping"
        if (session := self._present) is None or (processor := self._processor) is None:
            return "the worker is not registered"
        if processor.is_quiet:
            return "the worker is quiet: it takes no more jobs"
        if not session.is_confirmed(now_s := time.monotonic()):
            return f"the lease was last confirmed {now_s - session.confirmed_s:.1f} s ago"
        return None

    def expect_end(self) -> None:
        """Tell the store that this worker was told to end: should it die before it has given
        its jobs back, no crash is counted for them. From any thread, and from a signal
        handler; `stop` does it too, but on the loop, which a job may block."""
        session, beats = self._present, self._beats
        if session is not None and beats is not None:
            session.leaves = True
            # rule:7 a worker that was told to end says so at once
            beats.hasten()

    def stop(self) -> None:
        """Take no more jobs; finish what runs within the grace, release the rest.

        A second call releases at once. Returns immediately: `run` returns at the end.
        Nothing happens when the worker does not run.
        """
        if self._busy:
            if self._is_asked_to_stop:
                self._hurry.set()
            self._is_asked_to_stop = True
            self._stopping.set()

    def suspected(self, context: JobContext | None) -> list[TakenJob]:
        """The running job with this context; when it is not known, all that run, and those
        that have ended and are not settled."""
        if (processor := self._processor) is None:
            return []
        attempt = None if context is None else processor.running.find(context)
        return processor.holding() if attempt is None else [attempt.job]

    def leave_at_once(self, charged: Collection[TakenJob] = (), limit_s: float = LEAVE_S) -> None:
        """Give all jobs back, each of `charged` with a crash, from a thread that runs no loop:
        for a process that ends now because the worker's own loop does not turn. Blocks."""
        if (session := self._present) is not None:
            say_farewell(session, charged, limit_s)

    async def __aenter__(self) -> Self:
        """Start in the background. Raises what `run` would raise before it takes jobs."""
        if self._busy:
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
            self._background = None
            await task
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop within the grace. Raises what has ended the worker meanwhile."""
        task, self._background = self._background, None
        if task is not None:
            if self._busy:
                self._is_asked_to_stop = True
                self._stopping.set()
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
        Cancelling `run` releases what is running. Raises ConfigError naming the setting.
        """
        wait_s = seconds(burst_wait, field="burst_wait") if burst else None
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
        if self._busy:
            raise UsageError("this worker runs already")
        self._busy = True
        try:
            with loop_guarded():
                return await self._session(started, burst, memory)
        finally:
            self._busy = self._is_asked_to_stop = False
            self._stopping.clear()
            self._hurry.clear()

    async def _session(
        self, started: asyncio.Event, burst: Burst, memory: MemoryLimit | None
    ) -> WorkerReport:
        async with self.app:
            session = await Session.begin(self.app.backend, self._new_spec())
            away = session.lease.entered.away
            self._present = session
            processor = self._processor = self._new_processor(session)
            if away:
                processor.start_without(away)
            processor.intake.appetite.burst = burst
            # A burst ends by what its last look into all queues has shown.
            processor.intake.appetite.signals.always_looks = burst.is_burst
            life = self._watch_over(session, processor)
            self._beats = life.beats
            try:
                life.start()
                self._emit(events.WorkerStarted(self.name, tuple(self.queues), self.concurrency))
                started.set()
                await self._work(session, processor, memory)
            finally:
                await self._leave(session, processor, life)
            settler = processor.settler
            return WorkerReport(
                processor.intake.holdings.taken,
                settler.released,
                processor.threads.abandoned,
                settler.unstarted.put_back,
                session.losses,
                None if memory is None else memory.found,
            )

    def _new_processor(self, session: Session) -> Processor:
        app, queues = self.app, self.queues
        processor = Processor(
            session,
            QueueShares(queues),
            app.registry.find,
            app.settings,
            app.events,
            concurrency=self.concurrency,
            middlewares=app.middlewares,
            threads=Threads(self._settings.threads, sync_queues(app.registry, queues)),
        )
        processor.settler.unstarted.put_back_log.near = app.registry.near
        return processor

    def _watch_over(self, session: Session, processor: Processor) -> _Life:
        warn_s, limit_s = self._settings.block_warning_s, self._settings.hard_limit_s
        pulse = Pulse(pulse_interval_s(warn_s, limit_s))
        silence_s = None if limit_s is None else limit_s + SILENCE_S
        return _Life(
            Heartbeats(
                self.app.backend,
                session,
                self._on_heartbeat,
                pulse,
                silence_s=silence_s,
                on_failed=self._on_failed_beat,
            ),
            Watchdog(
                session,
                processor.running,
                self.app.events,
                pulse,
                warn_s=warn_s,
                limit_s=limit_s,
            ),
        )

    def _new_spec(self) -> LeaseSpec:
        info = {
            "worker": self.name,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "queues": self.queues,
            "concurrency": self.concurrency,
        }
        return LeaseSpec(
            new_id(), self.name, tuple(self.queues), self._settings.lease_ms, orjson.dumps(info)
        )

    async def _work(
        self, session: Session, processor: Processor, memory: MemoryLimit | None
    ) -> None:
        backend = self.app.backend
        site = Site(backend, session, processor, self._settings, self.app.events)
        upkeep = self._upkeep = Upkeep.of(site)
        listener = CancelListener(session, self._on_cancel, upkeep.hear_reclaim_due)
        waiting = Waiting(self.app, backend, self.queues, lambda: processor.is_quiet)
        beside = [upkeep.run(), listener.run(), waiting.give_back()]
        if memory is not None:
            beside.append(memory.watch(partial(self._on_memory, memory)))
        processor.sweeps.start()
        try:
            # Not anyio's, which enters a scope in the first step of each task: it knows no task
            # that a factory of the user's own starts eagerly.
            async with asyncio.TaskGroup() as tasks:
                with waiting.heard():
                    # Its attempts have the context that it is created in.
                    work = hide(tasks.create_task(processor.run()))
                beside.append(self._watch(processor, work))
                companions = [hide(tasks.create_task(body)) for body in beside]
                await asyncio.wait({work})
                for companion in companions:
                    companion.cancel()
        except BaseExceptionGroup as group:
            if len(group.exceptions) == 1:
                raise group.exceptions[0] from None
            raise

    async def _watch(self, processor: Processor, work: asyncio.Task[None]) -> None:
        """From the first request to stop on: quiet, then the grace, then release."""
        await self._stopping.wait()
        self.expect_end()
        processor.quiet()
        self._emit(events.WorkerQuiet(self.name, tuple(self.queues)))
        if processor.running:
            logger.debug("stopping; jobs that may finish: %d", len(processor.running))
        end_s = time.monotonic() + self._settings.grace_s
        while (left_s := end_s - time.monotonic()) > 0:
            if await self._is_hurried(min(left_s, LEAVE_S)):
                break
            if processor.intake.holds_nothing():
                # It only waits for a store that is away, to learn of nothing.
                work.cancel()
        if processor.running:
            logger.warning("running jobs are stopped and given back: %d", len(processor.running))
        processor.release()
        await asyncio.sleep(LEAVE_S)
        processor.abandon()
        await asyncio.sleep(LEAVE_S * TELL)
        # The store is away: what cannot be told now is found out when the lease ends.
        work.cancel()

    async def _is_hurried(self, limit_s: float) -> bool:
        """Whether a second request to stop has come, or comes within this time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._hurry.wait()
        return self._hurry.is_set()

    async def _leave(self, session: Session, processor: Processor, life: _Life) -> None:
        """Release, stop the heartbeat, tell the store; also when cancelled or failing.

        Each step is done whatever became of the one before: a heartbeat left behind
        would hold the jobs of a dead worker.
        """
        with anyio.CancelScope(shield=True):
            async with AsyncExitStack() as steps:  # the last one first
                steps.push_async_callback(self._say_farewell, session, processor)
                steps.push_async_callback(life.stop)
                # Or its offer takes jobs that nobody starts, should the farewell be lost.
                steps.push_async_callback(processor.close)
                steps.push_async_callback(processor.sweeps.stop)
                steps.callback(processor.abandon)
                processor.release()
                if not (session.away and processor.intake.holds_nothing()):
                    with anyio.move_on_after(LEAVE_S * TELL):
                        await processor.run()

    async def _say_farewell(self, session: Session, processor: Processor) -> None:
        try:
            with anyio.move_on_after(LEAVE_S * TELL):
                await session.lease.leave()
        except AsyncJobsError as error:
            logger.warning("the lease could not be given back, it will end: %s", error)
        finally:
            self._processor = self._present = self._upkeep = self._beats = None
            released, queues = processor.settler.released, tuple(self.queues)
            self._emit(events.WorkerStopped(self.name, released, queues))

    def _on_heartbeat(self, spec: LeaseSpec, beat: Heartbeat) -> None:
        if self._processor is not None:
            self._processor.hear_beat(spec, beat)
        if self._upkeep is not None:
            self._upkeep.hear_beat(beat)

    def _on_failed_beat(self, error: StoreError) -> None:
        """A worker that is busy may have nothing to ask of the store for long, and one whose
        lease may be over asks for nothing: nobody else would find out that it is away."""
        if self._processor is not None:
            self._processor.hear_fault(error)

    def _on_memory(self, limit: MemoryLimit) -> None:
        """Stop as if asked to, but for the hurry: a stop from outside is still the first."""
        assert limit.found is not None
        logger.warning(
            "the process holds %s of memory, more than max_memory=%s: it takes no more jobs, and "
            "ends when those that run have finished, within the grace of %g s",
            show_bytes(limit.found),
            show_bytes(limit.most),
            self._settings.grace_s,
        )
        self._stopping.set()

    def _on_cancel(self, refs: Collection[JobRef]) -> None:
        if self._processor is not None:
            self._processor.cancel(refs)

    def _emit(self, event: events.Event) -> None:
        if self.app.events.active:
            self.app.events.emit(event)
