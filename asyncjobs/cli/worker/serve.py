"""Runs one worker in this process: starts it, passes signals on, ends with the right exit code."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Final, NoReturn

from asyncjobs import __version__
from asyncjobs.app import AsyncJobs
from asyncjobs.cli.shared.metrics import shown
from asyncjobs.cli.shared.values import count, show_duration
from asyncjobs.cli.shared.voice import Voice
from asyncjobs.cli.worker.banner import Banner, loop_name
from asyncjobs.cli.worker.collector import spare_the_collector
from asyncjobs.cli.worker.health import WorkerHealth
from asyncjobs.cli.worker.hints import hints
from asyncjobs.cli.worker.last_resort import STOP_S, LastResort
from asyncjobs.errors import (
    AsyncJobsError,
    ConfigError,
    ResourceError,
    StoreError,
    UnsupportedLayout,
)
from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.guard.own import hide
from asyncjobs.host.children import end_children
from asyncjobs.host.exits import ExitCode, exit_now
from asyncjobs.host.health.health import HealthOptions
from asyncjobs.host.signals import Signals
from asyncjobs.host.supervisor.link import ParentLink
from asyncjobs.host.supervisor.recovery import StoreAccess, lease_message
from asyncjobs.model.events import WorkerStarted
from asyncjobs.model.job import TakenJob
from asyncjobs.telemetry.logs import JobLog
from asyncjobs.worker.lease.farewell import FAREWELL_S, within
from asyncjobs.worker.report import WorkerReport
from asyncjobs.worker.watch.escapes import job_behind, run_until_done
from asyncjobs.worker.worker import Worker

__all__ = ["ExitCode", "WorkerOptions", "last_words", "serve"]

logger = GuardedLog("asyncjobs.cli")

_LAST_WORDS: Final = "third signal: exit now; running jobs are run again when the lease ends"


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """The flags of `asyncjobs worker`, converted; times in seconds."""

    queues: dict[str, int] | None
    concurrency: int
    burst: bool
    burst_wait_s: float
    grace_s: float
    lease_s: float
    max_jobs: int | None
    max_memory: int | None
    threads: int
    job_processes: int
    block_warning_s: float | None
    hard_limit_s: float | None
    stuck_after_s: float | None
    name: str | None
    json: bool
    health: HealthOptions
    metrics_port: int | None
    metrics_host: str
    job_log_level: str | None
    log_args: bool


def serve(
    app: AsyncJobs, options: WorkerOptions, voice: Voice, parent: ParentLink | None = None
) -> int:
    """Run a worker until it ends, and return the exit code of the process.

    `voice`: keeps the log alive, whatever the app or a job does to logging.
    `parent`: shows the banner for all its processes; when it dies, this worker stops.

    Afterwards the process has only a few seconds left: see `LastResort`.
    """
    number = None
    if parent is not None:
        number = parent.number
    try:
        with shown(app, options.metrics_host, options.metrics_port, number):
            return _run(app, options, voice, parent)
    except ConfigError as error:
        return _fail(ExitCode.USAGE, error, voice)


def _run(app: AsyncJobs, options: WorkerOptions, voice: Voice, parent: ParentLink | None) -> int:
    runner = asyncio.Runner(loop_factory=_loop_factory())
    loop = runner.get_loop()
    serving = _Serving(app, options, voice, parent)
    last_resort = LastResort(serving.leave)

    def on_count(signals: int) -> None:
        limit_s = STOP_S
        if signals == 1:
            limit_s += options.grace_s
        # rule:17 a stop has an end although a job blocks the loop
        last_resort.within(limit_s)

    def on_orphaned() -> None:
        serving.expect_end()
        last_resort.within(options.grace_s + STOP_S)
        # RuntimeError: the loop is closed, so this process is about to end anyway.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(serving.on_parent_gone)

    with Signals(
        loop,
        serving.on_signal,
        at_once=serving.expect_end,
        last_words=serving.last_words(),
        on_count=on_count,
    ) as signals:
        if parent is not None:
            parent.watch(on_orphaned)
        code = _turn(loop, serving, signals)
        # At its end, Python waits for threads that run. Those that jobs have left may run for ever.
        if serving.report is not None and serving.report.threads_left:
            logger.warning(
                "%s left behind by sync jobs; the process ends all the same",
                count(serving.report.threads_left, "thread"),
            )
            exit_now(code)
        # Closing the loop waits for tasks and threads that jobs have started. They get a limit,
        # too.
        last_resort.conclude(code)
        runner.close()
        # Otherwise processes that jobs have started would outlive their worker.
        end_children()
    return code


def _turn(loop: asyncio.AbstractEventLoop, serving: _Serving, signals: Signals) -> int:
    """Run the loop until the worker has ended, and return the exit code of the process."""
    # Hidden, so that a job that cancels all tasks does not cancel the worker.
    task = hide(loop.create_task(serving.run()))
    try:
        run_until_done(loop, task, signals.interrupt)
    except BaseException as error:
        serving.end_broken(error)
    try:
        return task.result()
    except BaseException as error:
        logger.critical("the worker failed", exc_info=error)
        return ExitCode.FAILED


def last_words(*, json: bool) -> bytes:
    """The line that is written when a third signal ends the process, in the format of the log."""
    words = _LAST_WORDS
    if json:
        words = f'{{"event": "{_LAST_WORDS}"}}'
    return f"{words}\n".encode()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


class _Serving:
    """Owns the worker of this process and knows whether it has started."""

    def __init__(
        self,
        app: AsyncJobs,
        options: WorkerOptions,
        voice: Voice,
        parent: ParentLink | None = None,
    ) -> None:
        self._app = app
        self._options = options
        self._voice = voice
        self._parent = parent
        self._worker: Worker | None = None
        self._task: asyncio.Task[int] | None = None
        self._has_started = False
        self._signals = 0
        self._health: WorkerHealth | None = None
        self.report: WorkerReport | None = None

    async def run(self) -> int:
        self._task = asyncio.current_task()
        self._voice.start(asyncio.get_running_loop())
        try:
            return await self._work()
        except asyncio.CancelledError:
            if not self._signals:
                raise
            return ExitCode.CLEAN
        except UnsupportedLayout as error:
            # It is a ConfigError, too, but no wrong usage: the store belongs to another release.
            return _fail(ExitCode.UNREACHABLE, error, self._voice)
        except ConfigError as error:
            return _fail(ExitCode.USAGE, error, self._voice)
        except StoreError as error:
            if self._has_started:
                return _fail(ExitCode.FAILED, error, self._voice)
            return _fail(ExitCode.UNREACHABLE, error, self._voice)
        except AsyncJobsError as error:
            return _fail(ExitCode.FAILED, error, self._voice)
        except Exception as error:
            self._voice.restore()
            logger.critical("the worker failed", exc_info=error)
            self._voice.say_why(f"the worker failed: {type(error).__name__}")
            return ExitCode.FAILED
        finally:
            self._voice.stop()

    async def _work(self) -> int:
        options = self._options
        worker = self._worker = Worker(
            self._app,
            queues=options.queues,
            concurrency=options.concurrency,
            grace=options.grace_s,
            lease=options.lease_s,
            threads=options.threads,
            job_processes=options.job_processes,
            block_warning=options.block_warning_s,
            hard_limit=options.hard_limit_s,
            stuck_after=options.stuck_after_s,
            name=options.name,
        )

        health = self._health = WorkerHealth(options.health, worker, self._parent)

        def greet(_: WorkerStarted) -> None:
            # Events are made only while somebody listens: a listener that stayed would cost each
            # job something.
            forget()
            self._has_started = True
            health.note_started()
            spare_the_collector()
            self._voice.restore()
            self._greet(worker)

        self._log_jobs()
        forget = self._app.on(WorkerStarted, greet)
        try:
            async with health:
                self.report = await worker.run(
                    burst=options.burst,
                    burst_wait=options.burst_wait_s,
                    max_jobs=options.max_jobs,
                    max_memory=options.max_memory,
                )
        finally:
            forget()
        return self._conclude(self.report)

    def _log_jobs(self) -> None:
        options = self._options
        if options.job_log_level is not None:
            level = logging.getLevelNamesMapping()[options.job_log_level]
            JobLog(level, args=options.log_args).attach(self._app.events)

    def _greet(self, worker: Worker) -> None:
        app = self._app
        options = self._options
        banner = Banner(
            version=__version__,
            worker=worker.name,
            store=app.store_info,
            queues=worker.queues,
            functions=[function.name for function in app.registry.functions()],
            concurrency=worker.concurrency,
            grace_s=options.grace_s,
            loop=loop_name(asyncio.get_running_loop()),
        )
        found = list(hints(app, worker.queues))
        if self._parent is not None:
            # The parent shows one banner and the hints once, however many processes it has.
            fields = asdict(banner) | {"store": tuple(banner.store)}
            lease = _lease_message(app, worker)
            self._parent.say_ready({"banner": fields, "hints": found, "lease": lease})
            return
        banner.show(json=options.json)
        for hint in found:
            logger.warning("%s", hint)

    def last_words(self) -> bytes:
        """What this process writes when a third signal ends it."""
        if self._parent is not None:
            # The parent gets the signal, too, and writes it once for all its processes.
            return b""
        return last_words(json=self._options.json)

    def expect_end(self) -> None:
        """From now on an end is expected. Safe in a signal handler and in a thread."""
        if (worker := self._worker) is not None:
            worker.expect_end()

    def leave(self, limit_s: float) -> None:
        """Give all jobs back without the loop, which may be blocked. Blocks the caller."""
        if self._worker is not None:
            self._worker.leave_at_once(limit_s=limit_s)

    def end_broken(self, error: BaseException) -> NoReturn:
        """The event loop itself has failed: charge the job that broke it, and end the process."""
        self._voice.restore()
        worker = self._worker
        context = job_behind(error)
        charged: Sequence[TakenJob] = ()
        if worker is not None:
            # rule:17 who breaks the loop itself is charged
            charged = worker.suspected(context)
        who = "all that were running"
        if context is not None:
            who = str(context.ref)
        logger.critical(
            "a job broke the event loop (%s: %s); the process ends with code %d, its jobs are "
            "given back, charged with a crash: %s",
            type(error).__name__,
            error,
            ExitCode.LOOP,
            who,
        )
        if worker is not None:
            within(FAREWELL_S + 1, lambda: worker.leave_at_once(charged, FAREWELL_S))
        exit_now(ExitCode.LOOP)

    def on_parent_gone(self) -> None:
        """Stop as after a first signal, unless there was one already."""
        if not self._signals:
            self.on_signal("the parent process is gone", 1)

    def on_signal(self, name: str, number: int) -> None:
        """The first signal lets running jobs finish; the second releases them."""
        self._signals = number
        self._voice.restore()
        worker = self._worker
        if worker is None or not self._has_started:
            # No job runs yet. A store that does not answer could delay the start, and so the stop.
            logger.info("%s: stopped before the start was over", name)
            if self._task is not None:
                self._task.cancel()
            return
        worker.stop()
        if self._health is not None:
            self._health.wake()
        jobs = count(worker.running, "job")
        if number > 1:
            logger.info("%s: releasing %s now; again to exit at once", name, jobs)
        elif worker.running:
            grace = show_duration(self._options.grace_s)
            logger.info("%s: finishing %s within %s; again to release at once", name, jobs, grace)
        else:
            logger.info("%s: stopping, no job is running", name)

    def _conclude(self, report: WorkerReport) -> int:
        self._voice.restore()
        taken = count(report.taken, "job")
        if report.leases_lost:
            lost = count(report.leases_lost, "time")
            logger.warning("the lease was lost in a queue, and entered again: %s", lost)
        if report.released:
            logger.warning(
                "worker ended: %s taken, %s released; a release spends no attempt",
                taken,
                f"{report.released:,}",
            )
        else:
            logger.info("worker ended: %s taken, none released", taken)
        # After a signal, whoever sent it expects the exit code of a stop.
        if report.over_memory is not None and not self._signals:
            return ExitCode.MEMORY
        if report.released:
            return ExitCode.RELEASED
        return ExitCode.CLEAN


def _lease_message(app: AsyncJobs, worker: Worker) -> dict[str, Any] | None:
    """What the parent has to know to give this worker's jobs back, should it die."""
    spec = worker.lease
    if spec is None or app.store_url is None or not app.backend.capabilities.shared:
        return None
    return lease_message(spec, StoreAccess(app.store_url, app.settings.prefix))


def _fail(code: ExitCode, error: AsyncJobsError, voice: Voice) -> ExitCode:
    voice.restore()
    cause = None
    if isinstance(error, ResourceError):
        # The user's own code has failed, which only its traceback shows.
        cause = error.__cause__
    # Critical, so that no --log-level hides why the process has ended.
    logger.critical("%s", error, exc_info=cause)
    voice.say_why(str(error))
    return code
