"""The context of a running job: what a job can ask about itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextvars import ContextVar
from datetime import datetime
from typing import Any, Final, Protocol

from asyncjobs.errors import UsageError
from asyncjobs.guard.texts import shown
from asyncjobs.jobs.causing import Causing
from asyncjobs.jobs.flow_context import FlowContext
from asyncjobs.jobs.seat import Desk, Seat
from asyncjobs.jobs.times import from_ms, in_zone
from asyncjobs.jobs.waiting import EventWaits
from asyncjobs.model.clock import now_ms
from asyncjobs.model.codec import clean_text, to_json
from asyncjobs.model.flow_mark import context_of, flow_mark
from asyncjobs.model.headers import NO_HEADERS, Headers
from asyncjobs.model.job import TakenJob
from asyncjobs.model.refs import JobRef
from asyncjobs.policy.redaction import Mask

__all__ = ["INJECTED", "JobContext", "current_job", "from_ms", "in_zone"]

MAX_NOTE: Final = 1_000
"""Characters kept of a progress note."""


class _Injected:
    __slots__ = ()

    def __repr__(self) -> str:
        return "INJECTED"


INJECTED: Final[Any] = _Injected()
"""The default of a keyword-only parameter that the worker fills in with the job's context:
`async def send(to: str, *, ctx: JobContext = INJECTED)`."""


def _time(ms: int | None) -> datetime | None:
    if ms is None:
        return None
    return from_ms(ms)


class JobContext(Causing):
    """One attempt of a job, as the job sees it. No property asks the store.

    `name` is the name of the job function. `attempt` counts from 1; `max_attempts` is the most
    that the retry policies allow. `crashes` counts the workers that died while they ran this job.
    """

    __slots__ = (
        "_deadline_ms",
        "_enqueued_ms",
        "_expires_ms",
        "_flow",
        "_headers",
        "_job",
        "_on_progress",
        "_scheduled_ms",
        "attempt",
        "crashes",
        "max_attempts",
        "name",
        "outer",
    )

    _flow: FlowContext | None

    def __init__(
        self,
        job: JobRef | TakenJob,
        name: str,
        attempt: int,
        max_attempts: int,
        enqueued_ms: int,
        scheduled_ms: int | None,
        deadline_ms: int | None,
        crashes: int,
        on_progress: Callable[[JobContext, bytes], None] | None,
        expires_ms: int | None = None,
        headers: Headers = NO_HEADERS,
        desk: Desk | None = None,
    ) -> None:
        self._job = job
        self.name = name
        self.attempt = attempt
        self.max_attempts = max_attempts
        self.crashes = crashes
        self._enqueued_ms = enqueued_ms
        self._scheduled_ms = scheduled_ms
        self._deadline_ms = deadline_ms
        self._expires_ms = expires_ms
        self._on_progress = on_progress
        self._headers = headers
        self._desk = desk
        self.outer: Current | None = None
        """The job that makes this plain call; None for an attempt, and outside of a job."""

    @classmethod
    def local(cls, name: str, *, queue: str = "default") -> JobContext:
        """The context of a plain call, which runs without a worker: id `local`, attempt 1 of 1."""
        context = cls(
            JobRef(queue, "local"),
            name,
            attempt=1,
            max_attempts=1,
            enqueued_ms=now_ms(),
            scheduled_ms=None,
            deadline_ms=None,
            crashes=0,
            on_progress=None,
        )
        # A job may call another job function directly. The worker finds the job's attempt behind
        # the context of that call.
        context.outer = _current.get(None)
        return context

    def _outer_seat(self) -> Seat | None:
        if self.outer is None:
            return None
        return self.outer.context.seat

    def _new_waits(self) -> EventWaits:
        return EventWaits(self.seat, self.work.book.read, self.ref, self.attempt, self._enqueued_ms)

    @property
    def context(self) -> JobContext:
        """This context itself, so that it can be a `Current`."""
        return self

    @property
    def mask(self) -> Mask | None:
        """Always None: a plain call hides no values in logs. See `Current`."""
        return None

    @property
    def ref(self) -> JobRef:
        """The job's queue and id. `str(ctx.ref)` is its public id, `queue/id`."""
        return JobRef(self._job.queue, self._job.id)

    @property
    def id(self) -> str:
        """The job's id, unique in its queue."""
        return self._job.id

    @property
    def queue(self) -> str:
        """The queue that the job is in."""
        return self._job.queue

    @property
    def enqueued_at(self) -> datetime:
        """When the job was enqueued, in UTC, by the clock of the enqueuing process."""
        return from_ms(self._enqueued_ms)

    @property
    def scheduled_at(self) -> datetime | None:
        """The time in UTC that `delay=` or `at=` asked for; None if neither was given."""
        return _time(self._scheduled_ms)

    @property
    def scheduled_for(self) -> datetime | None:
        """The tick of the schedule that has made this job, in the schedule's time zone.

        It is the time by the calendar, however late the job was made or started, and the same in
        each attempt. None for a job that no schedule has made.
        """
        tick = self._headers.tick
        if tick is None:
            return None
        return in_zone(tick.at_ms, tick.zone)

    @property
    def schedule(self) -> str | None:
        """The id of the schedule that has made this job; None if none has."""
        tick = self._headers.tick
        if tick is None:
            return None
        return tick.schedule

    @property
    def flow(self) -> FlowContext | None:
        """The flow that the job is a node of; None for a job of no flow."""
        try:
            return self._flow
        except AttributeError:
            self._flow = self._new_flow()
            return self._flow

    def _new_flow(self) -> FlowContext | None:
        mark = flow_mark(self._headers)
        if mark is None:
            return None
        return FlowContext(mark, context_of(self._headers), self._effects)

    @property
    def meta(self) -> dict[str, str]:
        """The labels that `meta=` gave to the job."""
        return self._headers.labels.meta

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags that `tags=` gave to the job."""
        return self._headers.labels.tags

    @property
    def expires_at(self) -> datetime | None:
        """The time in UTC by `expires=`: no attempt starts at it or later. None without one."""
        return _time(self._expires_ms)

    @property
    def deadline(self) -> datetime | None:
        """When this attempt is cancelled by its time-out, in UTC; None without a time-out."""
        return _time(self._deadline_ms)

    def progress(self, done: float, total: float | None = None, note: str = "") -> None:
        """Report how far the job is. `handle.info()` shows the newest report.

        done: how much is done, in any unit.
        total: how much there is to do, in the same unit; None if that is not known.
        note: a text of up to 1,000 characters. A longer one is cut.

        Not async: call it from the job or from its threads. It never waits. The worker sends the
        newest report of each job at short intervals, and drops older ones.

        Raises UsageError for a number that is not finite.
        """
        if not _is_number(done) or not (total is None or _is_number(total)):
            raise UsageError(
                f"progress(done={shown(done)}, total={shown(total)}) of {self.ref}: both must be "
                "finite numbers, or total None"
            )
        # A plain call, made without a worker, reports to nobody.
        if self._on_progress is not None:
            report = {"done": done, "total": total, "note": clean_text(str(note)[:MAX_NOTE])}
            self._on_progress(self, to_json(report))

    def __repr__(self) -> str:
        return f"<JobContext {self.ref} {self.name} attempt {self.attempt}/{self.max_attempts}>"


def _is_number(value: Any) -> bool:
    # Exact types and 64 bits: what JSON can hold without a change.
    kind = type(value)
    return (kind is int and -(2**63) <= value < 2**64) or (kind is float and math.isfinite(value))


class Current(Protocol):
    """What a task knows of the job that it runs. Most jobs never ask, so a worker makes the
    context and the mask only on request."""

    @property
    def context(self) -> JobContext: ...

    @property
    def mask(self) -> Mask | None: ...


_current: ContextVar[Current] = ContextVar("asyncjobs_current_job")


def parent_job() -> str | None:
    """The public id of the job that this code runs in; None outside of a job."""
    current = _current.get(None)
    # A plain call is no job. The job that makes it may be one.
    while current is not None and isinstance(current, JobContext):
        current = current.outer
    return None if current is None else str(current.context.ref)


def current_job() -> JobContext:
    """The context of the job that this code runs in.

    Works in the job function, and in the tasks and threads that it starts with its context
    (`asyncio.to_thread` does). Raises UsageError outside of a job.
    """
    current = _current.get(None)
    if current is None:
        raise UsageError(
            "current_job() was called outside of a job; it works in a job function and in "
            "the tasks and threads that it starts"
        )
    return current.context
