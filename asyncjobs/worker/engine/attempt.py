"""One attempt from the taken job to its end, and why it may be told to stop."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from enum import Enum
from functools import partial
from typing import Any, Final, NamedTuple

from asyncjobs.jobs.attempt import JobAttempt
from asyncjobs.jobs.context import Current, JobContext
from asyncjobs.jobs.function import JobFunction
from asyncjobs.jobs.seat import Desk
from asyncjobs.model.attempt import AttemptInfo, StopAsked
from asyncjobs.model.envelope import Envelope
from asyncjobs.model.headers import NO_HEADERS
from asyncjobs.model.job import TakenJob
from asyncjobs.options.app import AppSettings
from asyncjobs.policy.redaction import JointMask, Mask, joint_mask, mask_of
from asyncjobs.store.seam import Backend
from asyncjobs.worker.engine.labels import label_of

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
    "Together",
    "TooLate",
    "attempt_of",
    "start_task",
]


Body = Coroutine[Any, Any, Any]

NEW: Final = 0
"""The phase of an attempt whose task has not made its first step yet."""
WAITING: Final = 1
"""It waits for a place at its executor."""
BEGUN: Final = 2
"""It runs, or has run."""


class TooLate(BaseException):
    """The job has expired while it waited for a thread."""


OnProgress = Callable[[JobContext, bytes], None]
"""Called when a job reports progress, with that as JSON."""


class Reason(Enum):
    """Why an attempt was told to stop. In the job each one is a CancelledError."""

    TIMEOUT = "timeout"
    CANCEL = "cancel"
    SHUTDOWN = "shutdown"
    LEASE_LOST = "lease lost"


class Stop:
    """Why an attempt was told to stop, and when, in monotonic seconds.

    `is_let_go`: it goes on all the same, and its slot and its job were given away.
    """

    __slots__ = ("is_let_go", "reason", "since_s")

    def __init__(self, reason: Reason) -> None:
        self.reason = reason
        self.since_s = time.monotonic()
        self.is_let_go = False


class Crew(NamedTuple):
    """What all attempts of one worker share, and what others see of each. `worker`: its name.
    `desk`: where their jobs get their seats. `store`: where results of other jobs are."""

    settings: AppSettings
    worker: str
    on_progress: OnProgress
    desk: Desk | None = None
    store: Backend | None = None

    def new_info(self, attempt: Attempt) -> AttemptInfo:
        """The attempt as events and middleware see it."""
        job = attempt.job
        envelope = attempt.envelope
        began_ms = None
        if attempt.has_begun:
            began_ms = attempt.began_ms
        return AttemptInfo(
            job.ref,
            attempt.function.name,
            envelope.attempt,
            attempt.settings.retry.max_attempts,
            job.priority,
            self.worker,
            envelope.enqueued_ms,
            envelope.scheduled_ms,
            job.ready_ms,
            began_ms,
            attempt.settings.tracing,
            envelope.headers.trace,
            [],
            envelope.headers.labels.tags,
            envelope.headers.labels.meta,
        )

    def new_context(self, attempt: Attempt) -> JobContext:
        """The attempt as the job sees it."""
        envelope = attempt.envelope
        timeout_s = attempt.settings.timeout_s
        deadline_ms = None
        if timeout_s is not None:
            deadline_ms = attempt.began_ms + round(timeout_s * 1000)
        return JobContext(
            attempt.job,
            attempt.function.name,
            envelope.attempt,
            attempt.settings.retry.max_attempts,
            envelope.enqueued_ms,
            envelope.scheduled_ms,
            deadline_ms,
            attempt.all_crashes,
            self.on_progress,
            envelope.expires_ms,
            envelope.headers,
            self.desk,
        )


class Attempt:
    """A taken job, its decoded call, and the task that runs it.

    `settings`: the job function's, changed by the options of this enqueue.
    `began_ms`: when it began by the store's clock; before that, when it was taken.
    `started_s`: the same by the loop's clock.
    """

    __slots__ = (
        "__weakref__",
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
        """Raises ConfigError or BadRecord for stored options or headers that no client of ours
        writes."""
        settings = function.settings
        if envelope.options:
            settings = function.settings_for(envelope.options)
        if envelope.headers is not NO_HEADERS:
            # Bad headers are refused here. Read later, they would look like the job's own error.
            envelope.headers.crashes()
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
        """How many workers have died with it since its last attempt has ended."""
        headers = self.envelope.headers
        # Asked of each job that is taken, and most have no headers.
        if headers is NO_HEADERS:
            return self.job.crashes
        counted = headers.crashes()
        if counted is None:
            return self.job.crashes
        return self.job.crashes + counted[0]

    @property
    def all_crashes(self) -> int:
        """How many workers have ever died with it."""
        counted = self.envelope.headers.crashes()
        if counted is None:
            return self.job.crashes
        return self.job.crashes + sum(counted)

    # -- what others see of it ------------------------------------------------------------

    @property
    def info(self) -> AttemptInfo:
        """What events and middleware get. Made when first asked for: for most attempts nobody
        listens."""
        if self._info is None:
            self._info = self._crew.new_info(self)
            if self.stopping is not None:
                self._note_stop(self.stopping)
        return self._info

    @property
    def context(self) -> JobContext:
        """The attempt as the job sees it. Made when first asked for: most jobs do not ask."""
        if self._context is None:
            self._context = self._crew.new_context(self)
        return self._context

    def seen(self) -> JobAttempt:
        """The attempt as middleware and callbacks of users see it."""
        envelope = self.envelope
        given = dict(envelope.kwargs)
        # What the worker injects is no argument of the call.
        given.pop(self.function.injected or "", None)
        return JobAttempt(self, envelope.args, given)

    @property
    def has_context(self) -> bool:
        """Whether anybody has asked for its context."""
        return self._context is not None

    def is_about(self, context: JobContext) -> bool:
        """Whether this context is the one of this attempt."""
        return self._context is context

    @property
    def mask(self) -> Mask | None:
        """What must not be shown of this job; None if all may be shown."""
        try:
            return self._mask
        except AttributeError:
            # Made when first asked for. An unset slot says so, for None is an answer, and a value
            # set in __init__ would cost each attempt an assignment.
            self._mask: Mask | None = mask_of(self.function.redaction, self.job.envelope)
            return self._mask

    def hide(self, mask: Mask) -> None:
        """Hide these values in all that is shown of the job from now on."""
        self._mask = mask

    def shown_call(self) -> tuple[list[Any], dict[str, Any]]:
        """The arguments as they were stored, without sensitive values."""
        if self.mask is not None:
            return self.mask.arguments()
        # Decoded anew: the job may have changed its own arguments by now.
        envelope = Envelope.decode(self.job.envelope)
        return envelope.args, envelope.kwargs

    @property
    def label(self) -> dict[str, Any]:
        """The fields that every log line about this attempt carries."""
        fields = label_of(self.job, self.function.name, self.envelope.attempt)
        if tags := self.envelope.headers.labels.tags:
            fields["tags"] = list(tags)
        return fields

    # -- from its begin to its end ----------------------------------------------------------

    @property
    def has_begun(self) -> bool:
        """False before its first step, and while it waits for a place."""
        return self.phase == BEGUN

    def lasted_s(self, now_s: float) -> float:
        """How long it has run by now; 0 for a sync function that has waited for a thread and was
        never called. `now_s`: by the loop's clock."""
        if not self.has_begun:
            return 0.0
        return now_s - self.started_s

    def is_too_late(self, now_ms: int) -> bool:
        """Whether the job has expired and must not start any more."""
        expires_ms = self.envelope.expires_ms
        return expires_ms is not None and expires_ms <= now_ms

    def begin(self, now_ms: int, loop: asyncio.AbstractEventLoop) -> None:
        """Its wait for a place is over, and its time counts from now on. Raises TooLate."""
        if self.is_too_late(now_ms):
            raise TooLate
        self.began_ms = now_ms
        self.started_s = loop.time()
        self.phase = BEGUN
        self.arm(loop)

    def arm(self, loop: asyncio.AbstractEventLoop) -> None:
        """Stop it after its time-out, if it has one."""
        if self.settings.timeout_s is not None:
            end_s = self.started_s + self.settings.timeout_s
            self.timer = loop.call_at(end_s, self.stop, Reason.TIMEOUT)

    def when_cut_off(self, tell: Callable[[Attempt, BaseException], None]) -> None:
        """Call `tell` if the task ends without its first step.

        Another job may cancel it before that step. Then Python runs nothing of it, and nobody
        else would settle the job or free its slot.
        """
        if self.task is not None:
            self.task.add_done_callback(partial(_cut_off, self, tell))

    def finish(self) -> None:
        """The attempt is over: nothing will stop it any more."""
        if self.timer is not None:
            self.timer.cancel()
        # The task's context refers to the attempt. Such a circle would keep both, with the
        # arguments and the span, until the garbage collector runs.
        self.task = None

    # -- being stopped ------------------------------------------------------------------------

    @property
    def reason(self) -> Reason | None:
        """Why it was told to stop; None if it was not."""
        if self.stopping is None:
            return None
        return self.stopping.reason

    @property
    def is_let_go(self) -> bool:
        """Whether its slot and its job were given away while it goes on."""
        return self.stopping is not None and self.stopping.is_let_go

    def stop(self, reason: Reason) -> None:
        """Ask the attempt to end. The first reason counts."""
        if self.stopping is None:
            self.stop_again(reason)

    def stop_again(self, reason: Reason) -> None:
        """Ask the attempt to end, even if it was asked before. This reason counts, unless the
        lease was lost before.

        A task that is cancelled before its first step never runs, and nobody would settle the
        job. So such a task is not cancelled: in its first step it looks at the reason.
        """
        # rule:5 after a lost lease the job is another worker's, whatever stops the attempt later
        if self.reason is Reason.LEASE_LOST:
            reason = Reason.LEASE_LOST
        self.stopping = Stop(reason)
        if self._info is not None:
            self._note_stop(self.stopping)
        if self._context is not None:
            self._context.hear_stop()
        if self.phase != NEW and self.task is not None:
            self.task.cancel()

    def _note_stop(self, stop: Stop) -> None:
        if self._info is not None:
            self._info.stops.append(StopAsked(stop.reason.value, stop.since_s))

    def let_go(self) -> None:
        """It has ignored that it was told to stop. How it ends does not count any more."""
        if self.timer is not None:
            self.timer.cancel()
        if self.stopping is None:
            self.stopping = Stop(Reason.SHUTDOWN)
        self.stopping.is_let_go = True


def _cut_off(
    attempt: Attempt, tell: Callable[[Attempt, BaseException], None], task: asyncio.Task[Any]
) -> None:
    if attempt.phase == NEW:
        error: BaseException | None = None
        if not task.cancelled():
            error = task.exception()
        tell(attempt, error or asyncio.CancelledError())


class Together:
    """What the call of a batch consumer knows of its jobs. Log lines, and whoever asks for the
    current job, are told the first one."""

    __slots__ = ("attempts", "mask")

    def __init__(self, attempts: Sequence[Attempt]) -> None:
        self.attempts = attempts
        masks = [mask for attempt in attempts if (mask := attempt.mask) is not None]
        self.mask: Mask | None = None
        """What must not be shown of any of them."""
        if masks:
            self.mask = joint_mask(masks)

    @property
    def context(self) -> JobContext:
        return self.attempts[0].context

    def about(self, context: JobContext) -> Attempt | None:
        """The attempt with this context; None if it is another job's."""
        return next((each for each in self.attempts if each.is_about(context)), None)

    def hide_all(self) -> None:
        """An error of the call may tell values of any item, and is stored with each of them."""
        if self.mask is None:
            return
        for attempt in self.attempts:
            if (own := attempt.mask) is not None:
                attempt.hide(JointMask(own, self.mask))


def attempt_of(current: Current | None) -> Attempt | None:
    """The worker's attempt behind this context. A plain call of a job function inside an attempt
    has a context of its own, which leads to the outer one."""
    while isinstance(current, JobContext):
        current = current.outer
    if isinstance(current, Together):
        return current.attempts[0]
    return current if isinstance(current, Attempt) else None


if sys.version_info >= (3, 12):

    def start_task(loop: asyncio.AbstractEventLoop, body: Body, name: str) -> asyncio.Task[None]:
        """A task of its own with a copy of this context.

        Eager: a job that never waits is done without a turn of the loop. But a task factory that
        somebody has set comes first. Sentry gives each task a scope of its own in this way;
        without it the tags and the user of one job would show in the events of others.
        """
        if loop.get_task_factory() is not None:
            return loop.create_task(body, name=name)
        return asyncio.Task(body, loop=loop, name=name, eager_start=True)

else:

    def start_task(loop: asyncio.AbstractEventLoop, body: Body, name: str) -> asyncio.Task[None]:
        """A task of its own with a copy of this context."""
        return loop.create_task(body, name=name)
