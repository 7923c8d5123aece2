"""One run of a worker: enter the queues, work, quiet down, leave.

Read `work` first. A stop has four phases: quiet (take no more jobs), grace (let running jobs
finish), release (cancel them and give them back), abandon (give back those that do not end).
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Iterable
from contextlib import AsyncExitStack
from functools import partial
from importlib import metadata
from typing import Final, Self

import anyio
import orjson

from asyncjobs.errors import AsyncJobsError, StoreError
from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.guard.own import hide
from asyncjobs.host.pulse import Pulse
from asyncjobs.jobs.isolation import Isolation
from asyncjobs.model import events
from asyncjobs.model.clock import new_id
from asyncjobs.policy.fairness import QueueShares
from asyncjobs.store.answers import Heartbeat
from asyncjobs.store.lease import LeaseSpec
from asyncjobs.worker.duties import Duty, Site, every_duty
from asyncjobs.worker.engine.bounds import Bounds
from asyncjobs.worker.engine.burst import Burst
from asyncjobs.worker.engine.loop import Processor
from asyncjobs.worker.engine.processes.executor import Processes
from asyncjobs.worker.engine.result_waits import ResultWaits
from asyncjobs.worker.engine.threads import Threads
from asyncjobs.worker.last_calls import end_callbacks
from asyncjobs.worker.lease.cancels import CancelListener
from asyncjobs.worker.lease.heartbeat import Heartbeats
from asyncjobs.worker.lease.session import Session
from asyncjobs.worker.orders import Orders
from asyncjobs.worker.report import WorkerReport
from asyncjobs.worker.settings import App, WorkerSettings, bounded_queues, queues_with
from asyncjobs.worker.starting_processes import processes_of
from asyncjobs.worker.stop_request import StopRequest
from asyncjobs.worker.upkeep import Upkeep
from asyncjobs.worker.watch.memory import MemoryLimit, show_bytes
from asyncjobs.worker.watch.watchdog import Watchdog, pulse_interval_s

__all__ = ["LEAVE_S", "Shift"]

logger = GuardedLog("asyncjobs.worker")


def _version() -> str | None:
    """The release of this program, for those who look at a fleet with two of them."""
    try:
        return metadata.version("asyncjobs-framework")
    except metadata.PackageNotFoundError:
        return None


# Read while importing, for it is read from disk, and that would block the loop.
VERSION: Final = _version()
LEAVE_S: Final = 5.0
"""How long stopped jobs may take for their `finally` blocks."""
TELL: Final = 0.4
"""The share of `LEAVE_S` that each last request to the store may take."""
SILENCE_S: Final = 15.0
"""The lease is not renewed when the loop is blocked for this much longer than the hard limit. The
watchdog should have ended the process by then, so it has failed."""


class Shift:
    """One run of a worker. `begin` it, then `work` once.

    Owns what lives as long as the lease: the lease itself, heartbeats, watchdog, processor and
    duties. It never starts another run.
    """

    def __init__(
        self,
        app: App,
        settings: WorkerSettings,
        session: Session,
        duties: Iterable[type[Duty]],
        stop_request: StopRequest,
        memory: MemoryLimit | None,
        processes: Processes | None,
    ) -> None:
        self._app = app
        self._settings = settings
        self._stop_request = stop_request
        self._memory = memory
        self.session = session
        self.processor = _new_processor(app, settings, session, processes)
        site = Site(app.backend, session, self.processor, settings, app.events, app.registry)
        self._upkeep = Upkeep.of(site, duties)
        pulse = Pulse(pulse_interval_s(settings.block_warning_s, settings.hard_limit_s))
        self._beats = self._new_heartbeats(pulse)
        self._watchdog = self._new_watchdog(pulse)
        self._orders = Orders(self.processor, stop_request, app.events, self._beats.hasten)
        self._has_left = False
        self._grace_end_s: float | None = None

    @classmethod
    async def begin(
        cls,
        app: App,
        settings: WorkerSettings,
        stop_request: StopRequest,
        burst: Burst,
        memory: MemoryLimit | None,
    ) -> Self:
        """Enter the queues. Raises the first error when none of them can be entered."""
        duties = every_duty()  # before a queue is entered, since it may refuse
        session, processes = await _enter(app, settings)
        shift = cls(app, settings, session, duties, stop_request, memory, processes)
        processor = shift.processor
        if away := session.lease.entered.away:
            processor.start_without(away)
        processor.intake.appetite.burst = burst
        processor.executors.batches.is_burst = burst.is_set
        # A burst ends by what it has seen itself in its last look into all queues.
        processor.intake.appetite.signals.always_looks = burst.is_burst
        return shift

    def _new_heartbeats(self, pulse: Pulse) -> Heartbeats:
        return Heartbeats(
            self._app.backend,
            self.session,
            self._on_heartbeat,
            pulse,
            silence_s=_silence_s(self._settings),
            on_failed=self._on_failed_beat,
        )

    def _new_watchdog(self, pulse: Pulse) -> Watchdog:
        return Watchdog(
            self.session,
            self.processor.running,
            self._app.events,
            pulse,
            warn_s=self._settings.block_warning_s,
            limit_s=self._settings.hard_limit_s,
        )

    # -- from its start to its end ---------------------------------------------------------

    async def work(self, started: asyncio.Event) -> WorkerReport:
        """Take and run jobs until a stop, or until a burst is over; then leave the queues,
        whatever has happened. Sets `started` when the first jobs may come."""
        settings = self._settings
        try:
            self._watchdog.start()
            self._beats.start()
            queues = tuple(settings.queues)
            self._emit(events.WorkerStarted(settings.name, queues, settings.concurrency))
            started.set()
            await self._process()
        finally:
            await self._leave()
        return _report(self.processor, self.session, self._memory)

    async def _process(self) -> None:
        """Run the processor, and what has to run beside it, until the processor is done."""
        processor = self.processor
        waits = ResultWaits(
            self._app, self._app.backend, self._settings.queues, lambda: processor.is_quiet
        )
        upkeep = self._upkeep
        # An order is brought by a heartbeat, so one has to leave now.
        hasten = self._beats.hasten
        listener = CancelListener(
            self.session, processor.cancel, upkeep.hear_reclaim_due, upkeep.hear_changed, hasten
        )
        beside = [upkeep.run(), listener.run(), waits.give_back()]
        if self._memory is not None:
            beside.append(self._memory.watch(partial(self._on_memory, self._memory)))
        processor.mass_cancels.start()
        try:
            # Not a task group of anyio: it enters a scope in the first step of each task, and does
            # not know a task that a factory of the user's own starts eagerly.
            async with asyncio.TaskGroup() as tasks:
                with waits.heard():
                    # All attempts inherit the context in which this task is created.
                    work = hide(tasks.create_task(processor.run()))
                beside.append(self._end_on_request(work))
                companions = [hide(tasks.create_task(body)) for body in beside]
                await asyncio.wait({work})
                for companion in companions:
                    companion.cancel()
        except BaseExceptionGroup as group:
            # Most often one part has failed and the others were cancelled for it: its own error
            # says more to a caller than a group of one.
            if len(group.exceptions) == 1:
                raise group.exceptions[0] from None
            raise

    async def _end_on_request(self, work: asyncio.Task[None]) -> None:
        """Wait for the first request to stop, then: quiet, grace, release, abandon."""
        await self._stop_request.wait()
        self.expect_end()
        processor = self.processor
        processor.quiet()
        processor.hear_end()
        self._emit(events.WorkerQuiet(self._settings.name, tuple(self._settings.queues)))
        if processor.running:
            logger.debug("stopping; jobs that may finish: %d", len(processor.running))
        end_s = time.monotonic() + self._settings.grace_s
        self._grace_end_s = end_s
        while (left_s := end_s - time.monotonic()) > 0:
            if await self._stop_request.is_hurried_within(min(left_s, LEAVE_S)):
                break
            if processor.intake.holds_nothing():
                # The processor waits for a store that is away, and has nothing to tell it.
                work.cancel()
        if processor.running:
            logger.warning("running jobs are stopped and given back: %d", len(processor.running))
        processor.release()
        await asyncio.sleep(LEAVE_S)
        processor.abandon()
        await asyncio.sleep(LEAVE_S * TELL)
        # The store is away. What it was not told, a reclaim finds out when the lease ends.
        work.cancel()

    async def _leave(self) -> None:
        """Release, stop the heartbeats, tell the store; also after a cancel or an error.

        Each step is done even if the one before has failed: a heartbeat left behind would hold the
        jobs of a dead worker.
        """
        processor = self.processor
        with anyio.CancelScope(shield=True):
            # Read it from below: the step that is pushed last comes first.
            async with AsyncExitStack() as steps:
                steps.push_async_callback(self._say_farewell)
                steps.callback(self._watchdog.stop)
                steps.push_async_callback(self._beats.stop)
                # Before the farewell, which may be lost: an open offer would then take jobs that
                # nobody starts.
                steps.push_async_callback(processor.close)
                steps.push_async_callback(processor.mass_cancels.stop)
                steps.callback(processor.abandon)
                processor.release()
                if not (self.session.away and processor.intake.holds_nothing()):
                    with anyio.move_on_after(LEAVE_S * TELL):
                        await processor.run()
                if not self.session.away:
                    with anyio.move_on_after(LEAVE_S * TELL):
                        await self._upkeep.finish()
                await self._end_callbacks()

    async def _end_callbacks(self) -> None:
        grace_end_s = self._grace_end_s or time.monotonic() + self._settings.grace_s
        callbacks = self.processor.settler.callbacks
        await end_callbacks(callbacks, self._stop_request, grace_end_s, LEAVE_S * TELL)

    async def _say_farewell(self) -> None:
        try:
            with anyio.move_on_after(LEAVE_S * TELL):
                await self.session.lease.leave()
        except AsyncJobsError as error:
            logger.warning("the lease could not be given back, it will end: %s", error)
        finally:
            self._has_left = True
            released = self.processor.settler.released
            queues = tuple(self._settings.queues)
            self._emit(events.WorkerStopped(self._settings.name, released, queues))

    # -- from any thread ---------------------------------------------------------------------

    def unready(self) -> str | None:
        """Why it takes no jobs now; None when it does."""
        if self.processor.is_quiet:
            return "the worker is quiet: it takes no more jobs"
        now_s = time.monotonic()
        if not self.session.is_confirmed(now_s):
            return f"the lease was last confirmed {now_s - self.session.confirmed_s:.1f} s ago"
        return None

    def expect_end(self) -> None:
        """Tell the store that this worker was told to end; see `Worker.expect_end`."""
        self.session.leaves = True
        # rule:7 a worker that was told to end says so at once
        self._beats.hasten()

    # -- what its parts tell it ----------------------------------------------------------------

    def _on_heartbeat(self, spec: LeaseSpec, beat: Heartbeat) -> None:
        # A beat that was under way at the farewell finds no lease. That is no lost lease, and
        # must not be logged as one.
        if not self._has_left:
            self.processor.hear_beat(spec, beat)
            self._upkeep.hear_beat(beat)
            if beat.orders:
                self._orders.hear_beat(beat.orders)

    def _on_failed_beat(self, error: StoreError) -> None:
        """Heartbeats find out that the store is away. A busy worker may send nothing else for long,
        and one whose lease may have ended sends nothing at all."""
        if not self._has_left:
            self.processor.hear_fault(error)

    def _on_memory(self, limit: MemoryLimit) -> None:
        assert limit.found is not None
        logger.warning(
            "the process holds %s of memory, more than max_memory=%s: it takes no more jobs, and "
            "ends when those that run have finished, within the grace of %g s",
            show_bytes(limit.found),
            show_bytes(limit.most),
            self._settings.grace_s,
        )
        self._stop_request.ask_by_itself()

    def _emit(self, event: events.Event) -> None:
        if self._app.events.active:
            self._app.events.emit(event)


def _report(processor: Processor, session: Session, memory: MemoryLimit | None) -> WorkerReport:
    over_memory = None
    if memory is not None:
        over_memory = memory.found
    return WorkerReport(
        taken=processor.intake.holdings.taken,
        released=processor.settler.released,
        threads_left=processor.executors.threads.abandoned,
        put_back=processor.settler.unstarted.put_back,
        leases_lost=session.losses,
        over_memory=over_memory,
    )


def _silence_s(settings: WorkerSettings) -> float | None:
    if settings.hard_limit_s is None:
        return None
    return settings.hard_limit_s + SILENCE_S


def _new_spec(settings: WorkerSettings) -> LeaseSpec:
    info = {
        "worker": settings.name,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "queues": settings.queues,
        "concurrency": settings.concurrency,
        "version": VERSION,
    }
    return LeaseSpec(
        new_id(), settings.name, tuple(settings.queues), settings.lease_ms, orjson.dumps(info)
    )


async def _enter(app: App, settings: WorkerSettings) -> tuple[Session, Processes | None]:
    # First the processes, which may refuse to start.
    processes = await processes_of(app, settings)
    try:
        return await Session.begin(app.backend, _new_spec(settings)), processes
    except BaseException:
        if processes is not None:
            await processes.close()
        raise


def _new_processor(
    app: App, settings: WorkerSettings, session: Session, processes: Processes | None
) -> Processor:
    processor = Processor(
        session,
        QueueShares(settings.queues),
        app.registry.find,
        app.settings,
        app.events,
        concurrency=settings.concurrency,
        middlewares=app.middlewares,
        threads=Threads(
            settings.threads, queues_with(Isolation.THREAD, app.registry, settings.queues)
        ),
        processes=processes,
        bounds=Bounds(bounded_queues(app.registry, settings.queues)),
    )
    processor.settler.callbacks.app = app.registry.hooks
    processor.settler.unstarted.put_back_log.near = app.registry.near
    return processor
