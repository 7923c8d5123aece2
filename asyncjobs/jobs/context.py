"""What a running job knows of itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from asyncjobs.errors import UsageError
from asyncjobs.guard.texts import shown
from asyncjobs.model.clock import now_ms
from asyncjobs.model.codec import clean_text, to_json
from asyncjobs.model.job import JobRef, TakenJob
from asyncjobs.policy.redaction import Mask

__all__ = ["INJECTED", "JobContext", "current_job", "from_ms"]

MAX_NOTE: Final = 1_000
"""Characters kept of a progress note."""


class _Injected:
    __slots__ = ()

    def __repr__(self) -> str:
        return "INJECTED"


INJECTED: Final[Any] = _Injected()
"""Default of a job function's keyword-only parameter that the worker fills in:
`ctx: JobContext = INJECTED`."""


def from_ms(value: int) -> datetime:
    """Milliseconds since the epoch as an aware datetime in UTC."""
    return datetime.fromtimestamp(value / 1000, UTC)


class JobContext:
    """One attempt of a job, as seen from inside it.

    Holds what was stored with the job and nothing of the worker; every read is local.
    `attempt` counts from 1, `max_attempts` is the most that the retry policies allow,
    `crashes` counts the workers that died while they ran this job.
    """

    __slots__ = (
        "_deadline_ms",
        "_enqueued_ms",
        "_expires_ms",
        "_job",
        "_on_progress",
        "_scheduled_ms",
        "attempt",
        "crashes",
        "max_attempts",
        "name",
        "outer",
    )

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
        self.outer: Current | None = None
        """Of a plain call: the job that it is made in."""

    @classmethod
    def local(cls, name: str, *, queue: str = "default") -> JobContext:
        """The context of a plain call, outside any worker: id `local`, attempt 1 of 1."""
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
        context.outer = _current.get(None)
        return context

    @property
    def context(self) -> JobContext:
        """This very context: see `Current`."""
        return self

    @property
    def mask(self) -> Mask | None:
        """None: what hides a job's values is known to its worker, see `Current`."""
        return None

    @property
    def ref(self) -> JobRef:
        """The job's identity; written `queue/id`."""
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
        """When the job was enqueued, in UTC, by the clock of the one who did."""
        return from_ms(self._enqueued_ms)

    @property
    def scheduled_at(self) -> datetime | None:
        """The time in UTC that `delay=` or `at=` asked for; None without."""
        return None if self._scheduled_ms is None else from_ms(self._scheduled_ms)

    @property
    def expires_at(self) -> datetime | None:
        """From when on no attempt starts, in UTC, by `expires=`; None without."""
        return None if self._expires_ms is None else from_ms(self._expires_ms)

    @property
    def deadline(self) -> datetime | None:
        """When this attempt's time-out strikes, in UTC; None without a time-out."""
        return None if self._deadline_ms is None else from_ms(self._deadline_ms)

    def progress(self, done: float, total: float | None = None, note: str = "") -> None:
        """Say how far the job is; shown by `handle.info()`.

        A plain call, from the job or from its threads. It never waits: the worker sends
        the newest report of each job from time to time and drops older ones. `note` is
        cut to 1,000 characters. Raises UsageError for what is no finite number.
        """
        if not _is_number(done) or not (total is None or _is_number(total)):
            raise UsageError(
                f"progress(done={shown(done)}, total={shown(total)}) of {self.ref}: both must be "
                "finite numbers, or total None"
            )
        if self._on_progress is not None:
            report = {"done": done, "total": total, "note": clean_text(str(note)[:MAX_NOTE])}
            self._on_progress(self, to_json(report))

    def __repr__(self) -> str:
        return f"<JobContext {self.ref} {self.name} attempt {self.attempt}/{self.max_attempts}>"


def _is_number(value: Any) -> bool:
    kind = type(value)
    return (kind is int and -(2**63) <= value < 2**64) or (kind is float and math.isfinite(value))


class Current(Protocol):
    """What a task knows of the job that it runs: the context is made when asked for."""

    @property
    def context(self) -> JobContext: ...

    @property
    def mask(self) -> Mask | None: ...


_current: ContextVar[Current] = ContextVar("asyncjobs_current_job")
_result_waits: ContextVar[Callable[[Any, JobRef], AbstractContextManager[None]]]
_result_waits = ContextVar("asyncjobs_result_waits")
"""Set by a worker for its jobs: to be entered, with the app, while a job waits for another."""


def current_job() -> JobContext:
    """The context of the job that this code runs in.

    Also in tasks and threads that the job started with its context. Raises UsageError
    outside of a job.
    """
    current = _current.get(None)
    if current is None:
        raise UsageError(
            "current_job() was called outside of a job; it works in a job function and in "
            "the tasks and threads that it starts"
        )
    return current.context
