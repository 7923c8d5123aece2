"""One attempt on its way through a worker, and why it may be told to stop."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Coroutine
from enum import Enum
from typing import Any, Final, NamedTuple

from asyncjobs.jobs.context import Current, JobContext
from asyncjobs.jobs.function import JobFunction
from asyncjobs.model.attempt import AttemptInfo, StopAsked
from asyncjobs.model.codec import BadRecord
from asyncjobs.model.envelope import Envelope, NewerEnvelope
from asyncjobs.model.headers import NO_HEADERS
from asyncjobs.model.job import TakenJob
from asyncjobs.options.app import AppSettings
from asyncjobs.options.checks import MAX_NAME
from asyncjobs.policy.redaction import Mask, mask_of

__all__ = [
    "BEGUN",
    "NEW",
    "WAITING",
    "Attempt",
    "Body",
    "Crew",
    "OnProgress",
    "Reason",
    "Stop",
    "TooLate",
    "attempt_of",
    "call_of",
    "label_of",
    "start_task",
]


Body = Coroutine[Any, Any, Any]

NEW: Final = 0
"""The phase of an attempt whose task has not come to it yet."""
WAITING: Final = 1
"""Its executor has no place for it yet."""
BEGUN: Final = 2
"""It runs, or has run."""


class TooLate(BaseException):
    """The job has expired before there was a thread for it."""


OnProgress = Callable[[JobContext, bytes], None]
"""Told when a job says how far it is, with its JSON."""


class Reason(Enum):
    """Why an attempt was told to stop. All arrive in the job as CancelledError."""

    TIMEOUT = "timeout"
    CANCEL = "cancel"
    SHUTDOWN = "shutdown"
    LEASE_LOST = "lease lost"


class Stop:
    """That an attempt was told to stop: why, and since when in monotonic seconds.

    `is_let_go`: it did not, and its slot and its job were given away while it goes on.
    """

    __slots__ = ("is_let_go", "reason", "since_s")

    def __init__(self, reason: Reason) -> None:
        self.reason = reason
        self.since_s = time.monotonic()
        self.is_let_go = False


class Crew(NamedTuple):
    """What all attempts of one worker share. `worker`: its name."""

    settings: AppSettings
    worker: str
    on_progress: OnProgress


class Attempt:
    """A taken job, its decoded call, and the task that runs it.

    `settings` are the job function's with what this enqueue asked for. `began_ms`, by the
    store's clock, is when it was taken until it begins. `started_s` is the same by the loop's.
    """

    __slots__ = (
        "_context",
        "_crew",
        "_info",
        "_mask",
        "began_ms",
        "envelope",
        "function",
        "job",
        "phase",
        "result_ttl_ms",
        "settings",
        "started_s",
        "stopping",
        "task",
        "timer",
    )

    def __init__(
        self,
        job: TakenJob,
        envelope: Envelope,
        function: JobFunction[..., Any],
        crew: Crew,
        now_ms: int,
    ) -> None:
        """Raises ConfigError or BadRecord for stored options or headers that no client of
        ours writes."""
        settings = function.settings
        if envelope.options:
            settings = function.settings_for(envelope.options)
        if envelope.headers is not NO_HEADERS:
            envelope.headers.crashes()  # refused now: later it would look like the job's error
        self.job = job
        self.envelope = envelope
        self.function = function
        self.settings = settings
        self.result_ttl_ms = settings.result_ttl_ms
        self.began_ms = now_ms
        self.started_s = 0.0
        self.phase = NEW
        self.stopping: Stop | None = None
        self.task: asyncio.Task[Any] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self._crew = crew
        self._info: AttemptInfo | None = None
        self._context: JobContext | None = None

    @property
    def crashes(self) -> int:
        """How many workers have died with it since its last attempt came to an end."""
        headers = self.envelope.headers
        # Asked of each job that is taken, and most have no headers.
        counted = None if headers is NO_HEADERS else headers.crashes()
        return self.job.crashes if counted is None else self.job.crashes + counted[0]

    @property
    def all_crashes(self) -> int:
        """How many workers have ever died with it."""
        counted = self.envelope.headers.crashes()
        return self.job.crashes if counted is None else self.job.crashes + sum(counted)

    # -- what others see of it ------------------------------------------------------------

    @property
    def info(self) -> AttemptInfo:
        """What events and middleware get. Made when first asked for: most attempts have nobody
        who listens."""
        if self._info is None:
            job, envelope = self.job, self.envelope
            self._info = AttemptInfo(
                job.ref,
                self.function.name,
                envelope.attempt,
                self.settings.retry.max_attempts,
                job.priority,
                self._crew.worker,
                envelope.enqueued_ms,
                envelope.scheduled_ms,
                job.ready_ms,
                self.began_ms if self.phase == BEGUN else None,
                self.settings.tracing,
                envelope.headers.trace,
                [],
            )
            if self.stopping is not None:
                self._note_stop(self.stopping)
        return self._info

    @property
    def context(self) -> JobContext:
        """The attempt as the job sees it. Made when first asked for: most jobs do not ask."""
        if self._context is None:
            envelope, timeout_s = self.envelope, self.settings.timeout_s
            self._context = JobContext(
                self.job,
                self.function.name,
                envelope.attempt,
                self.settings.retry.max_attempts,
                envelope.enqueued_ms,
                envelope.scheduled_ms,
                None if timeout_s is None else self.began_ms + round(timeout_s * 1000),
                self.all_crashes,
                self._crew.on_progress,
                envelope.expires_ms,
            )
        return self._context

    @property
    def has_context(self) -> bool:
        """False while nobody has asked for it."""
        return self._context is not None

    def is_about(self, context: JobContext) -> bool:
        """Whether this is the attempt that has this context."""
        return self._context is context

    @property
    def mask(self) -> Mask | None:
        """What must not be shown of this job; None when all may be."""
        try:
            return self._mask
        except AttributeError:
            # Made when first asked for, and without a cost for the others.
            self._mask: Mask | None = mask_of(self.function.redaction, self.job.envelope)
            return self._mask

    def shown_call(self) -> tuple[list[Any], dict[str, Any]]:
        """The arguments as they were stored, fit to be shown."""
        if self.mask is not None:
            return self.mask.arguments()
        envelope = Envelope.decode(self.job.envelope)
        return envelope.args, envelope.kwargs

    @property
    def label(self) -> dict[str, Any]:
        """The fields that every log line about this attempt carries."""
        return label_of(self.job, self.function.name, self.envelope.attempt)

    # -- from its begin to its end ----------------------------------------------------------

    @property
    def has_begun(self) -> bool:
        """False before its first step, and while it waits for its executor."""
        return self.phase == BEGUN

    def is_too_late(self, now_ms: int) -> bool:
        """Whether it has expired, and must not be started any more."""
        expires_ms = self.envelope.expires_ms
        return expires_ms is not None and expires_ms <= now_ms

    def begin(self, now_ms: int, loop: asyncio.AbstractEventLoop) -> None:
        """It has waited, and there is a place: its time counts from now on. Raises TooLate."""
        if self.is_too_late(now_ms):
            raise TooLate
        self.began_ms = now_ms
        self.started_s = loop.time()
        self.phase = BEGUN
        self.arm(loop)

    def arm(self, loop: asyncio.AbstractEventLoop) -> None:
        """Stop it when its time, if it has a limit, is over."""
        if self.settings.timeout_s is not None:
            end_s = self.started_s + self.settings.timeout_s
            self.timer = loop.call_at(end_s, self.stop, Reason.TIMEOUT)

    def when_cut_off(self, tell: Callable[[Attempt, BaseException], None]) -> None:
        """Call `tell` should the task end although it has not come to the attempt.

        Another job may cancel it before its first step: then Python runs none of it, and
        nobody else would settle the job or free its slot.
        """

        def ended(task: asyncio.Task[Any]) -> None:
            if self.phase == NEW:
                error = None if task.cancelled() else task.exception()
                tell(self, error or asyncio.CancelledError())

        if self.task is not None:
            self.task.add_done_callback(ended)

    def finish(self) -> None:
        """The attempt is over: nothing will stop it any more."""
        if self.timer is not None:
            self.timer.cancel()
        # The task's context refers to the attempt. In a circle both would stay, with the call's
        # arguments and its span, until the garbage collector comes.
        self.task = None

    # -- being stopped ------------------------------------------------------------------------

    @property
    def reason(self) -> Reason | None:
        """What it was told to stop for; None: it was not."""
        return None if self.stopping is None else self.stopping.reason

    @property
    def is_let_go(self) -> bool:
        """Whether its slot and its job were given away while it goes on."""
        return self.stopping is not None and self.stopping.is_let_go

    def stop(self, reason: Reason) -> None:
        """Ask the attempt to end; the first reason given is the one that counts."""
        if self.stopping is None:
            self.stop_again(reason)

    def stop_again(self, reason: Reason) -> None:
        """A more urgent reason for an attempt that may have been told to stop already.

        A task that is cancelled before its first step never runs at all, and nobody
        would settle the job; so one that has not come to it yet finds the reason there.
        """
        self.stopping = Stop(reason)
        if self._info is not None:
            self._note_stop(self.stopping)
        if self.phase != NEW and self.task is not None:
            self.task.cancel()

    def _note_stop(self, stop: Stop) -> None:
        if self._info is not None:
            self._info.stops.append(StopAsked(stop.reason.value, stop.since_s))

    def let_go(self) -> None:
        """It ignores that it was told to stop: how it ends does not count any more."""
        if self.timer is not None:
            self.timer.cancel()
        if self.stopping is None:
            self.stopping = Stop(Reason.SHUTDOWN)
        self.stopping.is_let_go = True


def attempt_of(current: Current | None) -> Attempt | None:
    """The attempt of a worker that this is about; a plain call of a job function within it
    has a context of its own."""
    while isinstance(current, JobContext):
        current = current.outer
    return current if isinstance(current, Attempt) else None


def call_of(job: TakenJob) -> tuple[str, int]:
    """The function and the attempt that this job is for; ('', 1) when it cannot be read."""
    try:
        envelope = Envelope.decode(job.envelope)
    except (BadRecord, NewerEnvelope):
        return "", 1
    return envelope.name[:MAX_NAME], envelope.attempt


def label_of(job: TakenJob, name: str = "", attempt: int | None = None) -> dict[str, Any]:
    """The fields of a log line about a job, as far as they are known."""
    fields = {"job_id": job.id, "job": name or None, "queue": job.queue, "attempt": attempt}
    return {key: value for key, value in fields.items() if value is not None}


if sys.version_info >= (3, 12):

    def start_task(loop: asyncio.AbstractEventLoop, body: Body, name: str) -> asyncio.Task[None]:
        """A task of its own with a copy of this context.

        Eager: a job that never waits is finished without a turn of the loop. A factory that
        somebody has set comes first: Sentry gives each task a scope of its own by one, and
        without it the tags and the user of one job would show in the events of others.
        """
        if loop.get_task_factory() is not None:
            return loop.create_task(body, name=name)
        return asyncio.Task(body, loop=loop, name=name, eager_start=True)

else:

    def start_task(loop: asyncio.AbstractEventLoop, body: Body, name: str) -> asyncio.Task[None]:
        """A task of its own with a copy of this context."""
        return loop.create_task(body, name=name)
