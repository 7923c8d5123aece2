"""One attempt on its way through the processor, and why it may be told to stop."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Coroutine
from enum import Enum
from typing import Any

from asyncjobs.codec import BadEnvelope
from asyncjobs.config import AppSettings
from asyncjobs.context import Current, JobContext
from asyncjobs.function import JobFunction
from asyncjobs.job import TakenJob
from asyncjobs.model.envelope import Envelope, NewerEnvelope
from asyncjobs.model.headers import NO_HEADERS
from asyncjobs.policy.redaction import Mask, mask_of
from asyncjobs.registry import MAX_NAME

__all__ = [
    "Attempt",
    "Body",
    "OnProgress",
    "Reason",
    "TooLate",
    "attempt_of",
    "call_of",
    "label_of",
    "start_task",
]


Body = Coroutine[Any, Any, None]


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


class Attempt:
    """A taken job, its decoded call, and the task that runs it.

    `settings` are the job function's with what this enqueue asked for. `crashes` have been
    since its last attempt came to an end, `context` has all. `is_abandoned`: its
    slot and its job were given away while it goes on.
    """

    __slots__ = (
        "_context", "_mask", "_on_progress", "_taken_ms", "all_crashes", "crashes", "entered",
        "envelope", "function", "has_begun", "is_abandoned", "job", "on_begin", "reason",
        "result_ttl_ms", "settings", "started_s", "stopped_s", "task", "timer",
    )  # fmt: skip

    def __init__(
        self,
        job: TakenJob,
        envelope: Envelope,
        function: JobFunction[..., Any],
        app: AppSettings,
        now_ms: int,
        on_progress: OnProgress,
    ) -> None:
        """Raises ConfigError or BadEnvelope for stored options or headers that no client of
        ours writes."""
        settings = function.settings
        if envelope.options:
            settings = function.settings_for(envelope.options)
        self.crashes = crashes = job.crashes
        if envelope.headers is not NO_HEADERS:
            counted = envelope.headers.crashes()
            if counted is not None:
                kept, before = counted
                self.crashes += kept
                crashes = self.crashes + before
        ttl_ms = settings.result_ttl_ms
        self.job, self.envelope = job, envelope
        self.function = function
        self.settings = settings
        self.result_ttl_ms = app.result_ttl_ms if ttl_ms is None else ttl_ms
        self._taken_ms, self.all_crashes, self._on_progress = now_ms, crashes, on_progress
        self._context: JobContext | None = None
        self.started_s = 0.0
        self.stopped_s = float("inf")
        """When it was told to stop, in monotonic seconds."""
        self.reason: Reason | None = None
        self.entered = self.is_abandoned = False
        self.has_begun = function.is_async
        """False while a sync function waits for a thread."""
        self.on_begin: Callable[[Attempt, int], None] | None = None
        """Called with the store's time when there is one."""
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None

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
                None if timeout_s is None else self._taken_ms + round(timeout_s * 1000),
                self.all_crashes,
                self._on_progress,
                envelope.expires_ms,
            )
        return self._context

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
    def has_context(self) -> bool:
        """False while nobody has asked for it."""
        return self._context is not None

    def is_about(self, context: JobContext) -> bool:
        """Whether this is the attempt that has this context."""
        return self._context is context

    def is_too_late(self, now_ms: int) -> bool:
        """Whether it has expired, and must not be started any more."""
        expires_ms = self.envelope.expires_ms
        return expires_ms is not None and expires_ms <= now_ms

    def begin(self, now_ms: int, loop: asyncio.AbstractEventLoop) -> None:
        """There is a thread at last: its time counts from now on. Raises TooLate."""
        if self.is_too_late(now_ms):
            raise TooLate
        self.started_s, self.has_begun = loop.time(), True
        if self.on_begin is not None:
            self.on_begin(self, now_ms)
        self.arm(loop)

    def arm(self, loop: asyncio.AbstractEventLoop) -> None:
        """Stop it when its time, if it has a limit, is over."""
        if self.settings.timeout_s is not None:
            end_s = self.started_s + self.settings.timeout_s
            self.timer = loop.call_at(end_s, self.stop, Reason.TIMEOUT)

    def when_cut_off(self, tell: Callable[[Attempt, BaseException], None]) -> None:
        """Call `tell` should the task end although the attempt has not been entered.

        Another job may cancel it before its first step: then Python runs none of it, and
        nobody else would settle the job or free its slot.
        """

        def ended(task: asyncio.Task[None]) -> None:
            if not self.entered:
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

    def stop(self, reason: Reason) -> None:
        """Ask the attempt to end; the first reason given is the one that counts.

        A task that is cancelled before its first step never runs at all, and nobody
        would settle the job; so one that has not entered yet finds the reason there.
        """
        if self.reason is None:
            self.reason, self.stopped_s = reason, time.monotonic()
            if self.entered and self.task is not None:
                self.task.cancel()

    def stop_again(self, reason: Reason) -> None:
        """A more urgent reason for an attempt that may have been told to stop already."""
        self.reason, self.stopped_s = reason, time.monotonic()
        if self.entered and self.task is not None:
            self.task.cancel()

    def stop_asked(self) -> tuple[str, float] | None:
        """What it was told to stop for, and how many seconds ago; None: it was not."""
        if self.reason is None:
            return None
        return self.reason.value, time.monotonic() - self.stopped_s

    @property
    def label(self) -> dict[str, Any]:
        """The fields that every log line about this attempt carries."""
        return label_of(self.job, self.function.name, self.envelope.attempt)


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
    except (BadEnvelope, NewerEnvelope):
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
