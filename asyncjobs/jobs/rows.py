"""Jobs as lists show them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple

from asyncjobs.jobs.info import JobError, JobInfo, MaxAttempts, info_of
from asyncjobs.jobs.times import from_ms
from asyncjobs.model.codec import BadRecord, read_fields
from asyncjobs.model.envelope import Envelope, NewerEnvelope, name_in
from asyncjobs.model.history import FinishedJob
from asyncjobs.model.job import State
from asyncjobs.model.outcome import read_dead_letter
from asyncjobs.model.refs import JobRef
from asyncjobs.store.changes import Target
from asyncjobs.store.listing import JobCursor, ListedJob

__all__ = ["JobRow", "JobRows", "row_of", "worker_name"]


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job as a list shows it. It is what the store knew when it was asked.

    info: what is known of the job, as `handle.info()` says it. Of a job that has ended, and is not
    dead, that is what the history of its queue keeps: its error has one line, and no call is left.
    time: since when it is ready, held or runs, when it is due, or when it ended, by the store's
    clock; None if that is no time that a date has.
    worker: the name of the worker that runs it or has ended it.
    size: the size of what is stored of it, in bytes; 0 for one that has ended and is not dead.
    ran_s: how long the last attempt of such a job has run.
    is_readable: whether that could be read. If not, only queue, id, state and time are known.
    chosen: which stay of the job is meant, for the actions on it.
    """

    info: JobInfo
    time: datetime | None
    worker: str | None
    size: int
    is_readable: bool
    chosen: Target
    ran_s: float | None = None

    @property
    def ref(self) -> JobRef:
        """The job's queue and id."""
        return self.info.ref

    @property
    def state(self) -> State:
        """Where the job was."""
        return self.info.state

    @property
    def name(self) -> str:
        """The name of its job function; '' if it could not be read."""
        return self.info.name or ""

    def redacted(self) -> JobRow:
        """A copy with masks for sensitive values, for logs and screens."""
        return replace(self, info=self.info.redacted())


class JobRows(NamedTuple):
    """One page of a list.

    The next page begins behind `after`; None when this was the last one. `is_bounded`: the store
    stopped looking before the page was full, so even an empty page may have a next one. `refused`
    has an error for each queue that could not be read.
    """

    rows: list[JobRow]
    after: JobCursor | None
    looked: int
    is_bounded: bool
    refused: dict[str, Exception]


def row_of(job: ListedJob, max_attempts: MaxAttempts) -> JobRow:
    """A listed job as people see it."""
    if job.ended is not None:
        return _row_of_ended(job, job.ended)
    info = info_of(job.record, max_attempts)
    raw = job.record.envelope
    # One that was cut can never be parsed, so nobody can tell whether it is sound.
    is_whole = len(job.stored) == job.size
    is_readable = not is_whole
    if job.record.dead_letter is not None:
        try:
            raw = read_dead_letter(job.record.dead_letter)[1]
            is_readable = True
        except BadRecord:
            raw = None
            is_readable = False
    elif is_whole:
        is_readable = _is_envelope(raw or b"")
    if info.name is None and raw:
        # Of one that was cut, only the start is there.
        info = replace(info, name=name_in(raw) or None)
    target = Target(job.ref, job.seen)
    return JobRow(info, _time(job.time_ms), _worker(job), job.size, is_readable, target)


def _row_of_ended(job: ListedJob, ended: FinishedJob) -> JobRow:
    """A job of which only the history knows."""
    errors: tuple[JobError, ...] = ()
    if ended.error:
        kind, _, message = ended.error.partition(": ")
        errors = (JobError(kind, message, "", ended.attempt or None, _time(ended.ended_ms)),)
    info = JobInfo(
        ended.ref,
        ended.state,
        name=ended.function or None,
        attempt=ended.attempt or None,
        enqueued_at=_time_or_none(ended.enqueued_ms),
        started_at=_time_or_none(ended.began_ms),
        finished_at=_time(ended.ended_ms),
        errors=errors,
        meta=ended.meta,
        tags=ended.tags,
    )
    ran_s = None
    if ended.began_ms is not None:
        ran_s = ended.lasted_s
    target = Target(job.ref, job.seen)
    worker = ended.worker or None
    return JobRow(info, _time(job.time_ms), worker, job.size, True, target, ran_s)


def _time_or_none(ms: int | None) -> datetime | None:
    return None if ms is None else _time(ms)


def _is_envelope(raw: bytes) -> bool:
    try:
        Envelope.decode(raw)
    except (BadRecord, NewerEnvelope):
        return False
    return True


def _time(ms: int) -> datetime | None:
    try:
        return from_ms(ms)
    except (OverflowError, ValueError, OSError):
        # Another program may have written any number.
        return None


def _worker(job: ListedJob) -> str | None:
    if job.record.holder is None:
        return None
    # A lease that was just given up has said nothing any more.
    return worker_name(job.worker) or job.record.holder


def worker_name(info: bytes) -> str | None:
    """The name of a worker, from the facts it registered with; None if they cannot be read."""
    try:
        name = read_fields(info).get("worker")
    except BadRecord:
        return None
    if not isinstance(name, str):
        return None
    return name or None
