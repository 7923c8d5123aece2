"""What users see of a job: `JobInfo`, and the values in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypeAlias

from asyncjobs.guard.untrusted import LAST_MS, read_text
from asyncjobs.jobs.step_info import StepInfo
from asyncjobs.jobs.times import from_ms
from asyncjobs.model.clock import now_ms
from asyncjobs.model.codec import BadRecord, read_fields
from asyncjobs.model.envelope import Envelope, NewerEnvelope
from asyncjobs.model.headers import Headers, PastError
from asyncjobs.model.job import JobRecord, Priority, State
from asyncjobs.model.outcome import Outcome, envelope_in, read_dead_letter
from asyncjobs.model.refs import JobRef
from asyncjobs.policy.redaction import Mask, mask_of_call

__all__ = ["JobError", "JobInfo", "Progress", "envelope_of", "info_of", "outcome_of", "progress_of"]

MaxAttempts: TypeAlias = Callable[[str, dict[str, Any] | None], int | None]
"""How many attempts a job may have, by its function's name and its stored options; None if the
function is not known here."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The newest progress report of a running job: `done` of `total`, and a note.

    `total` is None if the job did not give one.
    """

    done: float
    total: float | None
    note: str


@dataclass(frozen=True, slots=True)
class JobError:
    """An error of a job, as text.

    type: the qualified name of the exception's class.
    message: the exception's own text.
    traceback: its traceback.
    attempt: the number of the attempt that failed; None if it is not known.
    at: when it failed, in UTC, by the worker's clock; None if it is not known.
    worker: the name of the worker; None if it is not known.
    """

    type: str
    message: str
    traceback: str
    attempt: int | None = None
    at: datetime | None = None
    worker: str | None = None

    def masked(self, mask: Mask) -> JobError:
        """The same without the values that `mask` hides."""
        return replace(self, message=mask.text(self.message), traceback=mask.text(self.traceback))


@dataclass(frozen=True, slots=True)
class JobInfo:
    """What the store knows of a job at one moment. What it does not know is None.

    When a job has finished, its call is deleted, except that of a dead job: `args`, `kwargs`,
    `enqueued_at`, `scheduled_at` and `expires_at` are then None. `name`, `attempt` and
    `finished_at` are known as long as the result is kept.

    ref: the job's queue and id.
    state: where the job is.
    name: the name of its job function.
    attempt: the number of its present, next or last attempt, from 1.
    max_attempts: the most attempts that its retry policies allow.
    priority: its priority; None for a finished job that is not dead.
    enqueued_at: when it was enqueued, by the enqueuing process's clock.
    scheduled_at: the time that `delay` or `at` asked for.
    expires_at: no attempt starts at this time or later.
    due_at: when a scheduled job becomes ready.
    finished_at: when it finished, by the worker's clock.
    args: its positional arguments.
    kwargs: its keyword arguments.
    progress: its newest report by `ctx.progress(...)`.
    steps: its steps, as far as the store knows them, oldest first; without those of a job that has
    ended, unless it is dead. A list of jobs leaves them out.
    error: the error that the job ended with.
    worker: the lease of the worker that runs it.
    reason: why it ended, for example `exhausted`.
    errors: the errors of its last failed attempts, oldest first.
    started_at: when its worker took it, by the store's clock.
    is_cancelled: whether it was asked to stop.
    held_by: what a held job waits for: `limit`, the name of one without room and its key; or `job`
    and the public id of the one that has to end before.
    Of a scheduled job that waits for an event: `event`, its name and key; it may come before
    `due_at`.
    meta: the labels that `meta=` gave to it.
    tags: the tags that `tags=` gave to it.
    put_back: how often workers that do not have its function put it back.
    put_back_since: when a worker first did so.
    mask: what is sensitive in this job, for `redacted()`.

    All times are aware datetimes in UTC.
    """

    ref: JobRef
    state: State
    name: str | None = None
    attempt: int | None = None
    max_attempts: int | None = None
    priority: Priority | None = None
    enqueued_at: datetime | None = None
    scheduled_at: datetime | None = None
    expires_at: datetime | None = None
    due_at: datetime | None = None
    finished_at: datetime | None = None
    args: Sequence[Any] | None = field(default=None, repr=False)
    kwargs: dict[str, Any] | None = field(default=None, repr=False)
    progress: Progress | None = None
    steps: tuple[StepInfo, ...] = ()
    error: JobError | None = None
    worker: str | None = None
    reason: str | None = None
    errors: tuple[JobError, ...] = ()
    started_at: datetime | None = None
    is_cancelled: bool = False
    held_by: str | None = None
    meta: Mapping[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    put_back: int = 0
    put_back_since: datetime | None = None
    mask: Mask | None = field(default=None, repr=False, compare=False)

    def redacted(self) -> JobInfo:
        """A copy with masks for sensitive values, for logs and screens."""
        mask = self.mask
        if mask is None:
            return self
        hidden: dict[str, Any] = {
            "error": self.error and self.error.masked(mask),
            "errors": tuple(error.masked(mask) for error in self.errors),
            "reason": self.reason and mask.text(self.reason),
            "steps": tuple(step.masked(mask) for step in self.steps),
        }
        args, kwargs = mask.arguments()
        if self.args is not None:
            hidden["args"] = args
        if self.kwargs is not None:
            hidden["kwargs"] = kwargs
        if self.progress is not None:
            hidden["progress"] = replace(self.progress, note=mask.text(self.progress.note))
        return replace(self, **hidden)


def envelope_of(record: JobRecord) -> Envelope | None:
    """The envelope of a job, or of its dead letter; None if it is gone or cannot be read."""
    # A user who asks about a job with a broken envelope still gets its state and its error.
    raw = record.envelope
    if raw is None and record.dead_letter is not None:
        raw = envelope_in(record.dead_letter)
    if raw is None:
        return None
    try:
        return Envelope.decode(raw)
    except (BadRecord, NewerEnvelope):
        return None


def outcome_of(record: JobRecord) -> Outcome | None:
    """How the job ended. A dead letter still says so after the result has expired.

    None if nothing is left, or if it cannot be read.
    """
    try:
        if record.outcome is not None:
            return Outcome.decode(record.outcome)
        if record.dead_letter is not None:
            return read_dead_letter(record.dead_letter)[0]
    except BadRecord:
        return None
    return None


def progress_of(raw: bytes | None) -> Progress | None:
    if raw is None:
        return None
    # From the store, so it is checked. A broken report is left out.
    try:
        fields = read_fields(raw)
        done = fields.get("done")
        total = fields.get("total")
        note = read_text(fields, "note")
    except (BadRecord, ValueError):
        return None
    if not isinstance(done, int | float) or not isinstance(total, int | float | None):
        return None
    return Progress(done, total, note)


def info_of(record: JobRecord, max_attempts: MaxAttempts) -> JobInfo:
    """What the store knows of a job, as users see it."""
    known: dict[str, Any] = {}
    errors: list[JobError] = []
    envelope = envelope_of(record)
    if envelope is not None:
        known = _of_envelope(envelope, max_attempts)
        errors = [_error(past) for past in envelope.headers.errors()]
    outcome = outcome_of(record)
    if outcome is not None:
        # After the envelope's fields: those of the last attempt count.
        known |= _of_outcome(outcome)
    if "error" in known:
        # The headers have the errors before the last one. That one is in the outcome.
        errors.append(known["error"])
    if record.priority is not None:
        known["priority"] = Priority(record.priority)
    return JobInfo(
        record.ref,
        record.state,
        due_at=_time(record.due_ms),
        progress=progress_of(record.progress),
        worker=record.holder,
        started_at=_time(record.taken_ms),
        is_cancelled=record.is_cancelled,
        held_by=record.held_by,
        errors=tuple(errors),
        **known,
    )


def _of_envelope(envelope: Envelope, max_attempts: MaxAttempts) -> dict[str, Any]:
    return {
        "name": envelope.name,
        "attempt": envelope.attempt,
        "max_attempts": max_attempts(envelope.name, envelope.options),
        "enqueued_at": from_ms(envelope.enqueued_ms),
        "scheduled_at": _time(envelope.scheduled_ms),
        "expires_at": _time(envelope.expires_ms),
        "args": envelope.args,
        "kwargs": envelope.kwargs,
        "mask": mask_of_call(envelope.headers, envelope.args, envelope.kwargs),
        "meta": envelope.headers.labels.meta,
        "tags": envelope.headers.labels.tags,
        **_put_back(envelope.headers),
    }


def _of_outcome(outcome: Outcome) -> dict[str, Any]:
    known: dict[str, Any] = {}
    if outcome.attempt:
        known["name"] = outcome.name
        known["attempt"] = outcome.attempt
        known["finished_at"] = from_ms(outcome.finished_ms)
    if outcome.reason:
        known["reason"] = outcome.reason
    if outcome.error_type:
        known["error"] = _error(outcome.as_error())
    return known


def _put_back(headers: Headers) -> dict[str, Any]:
    """How often workers without the function put the job back, and since when."""
    since_ms, times = headers.put_back(now_ms())
    if not times:
        return {}
    return {"put_back": times, "put_back_since": from_ms(since_ms)}


def _time(ms: int | None) -> datetime | None:
    if ms is None:
        return None
    # Anyone who can write to the store may have written any number. datetime would raise.
    return from_ms(min(max(ms, 0), LAST_MS))


def _error(past: PastError) -> JobError:
    return JobError(
        past.type,
        past.message,
        past.traceback,
        attempt=past.attempt or None,
        at=_time(past.at_ms or None),
        worker=past.worker or None,
    )
