"""What an enqueue returns: a job's identity, and the questions one may ask about it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from asyncjobs.errors import (
    JobNotFound,
    ResultsDisabled,
    ResultTimeout,
    ResultUnavailable,
    StoreError,
    UsageError,
)
from asyncjobs.guard.texts import in_queues
from asyncjobs.guard.untrusted import LAST_MS, read_text
from asyncjobs.jobs.context import _result_waits, from_ms
from asyncjobs.jobs.readings import Readings
from asyncjobs.model import events
from asyncjobs.model.clock import Seconds, now_ms, seconds
from asyncjobs.model.codec import BadRecord, read_fields
from asyncjobs.model.ends import ENDS
from asyncjobs.model.envelope import Envelope, NewerEnvelope
from asyncjobs.model.events import Events
from asyncjobs.model.headers import Headers, PastError
from asyncjobs.model.job import JobRecord, JobRef, Priority, State
from asyncjobs.model.outcome import Outcome, envelope_in, read_dead_letter
from asyncjobs.policy.redaction import Mask, mask_of_call
from asyncjobs.store.answers import CancelVerdict
from asyncjobs.store.seam import Backend

__all__ = ["JobError", "JobHandle", "JobInfo", "Progress", "Reader"]

R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")


class Reader(Protocol):
    """What a handle needs of the app that made it."""

    @property
    def events(self) -> Events: ...

    def opened(self) -> Backend:
        """The open store. Raises NotOpen."""
        ...

    def ask_from_thread(
        self, question: Callable[[Backend], Coroutine[Any, Any, T]], what: str
    ) -> T:
        """The answer to a question that is put on the loop of the open store, or of one that
        is opened for threads; blocks meanwhile. `what` asks it, for errors.

        Raises UsageError on a running loop, NotOpen, and what the question raises.
        """
        ...

    def result_ttl_ms(self, name: str | None, options: dict[str, Any] | None) -> int:
        """How long the outcome of this function's jobs is kept; 0 = not at all."""
        ...

    def max_attempts(self, name: str, options: dict[str, Any] | None) -> int | None:
        """The most attempts that such a job has; None when the function is not known here."""
        ...


@dataclass(frozen=True, slots=True)
class Progress:
    """The newest report of a running job."""

    done: float
    total: float | None
    note: str


@dataclass(frozen=True, slots=True)
class JobError:
    """A failure in the worker, as text: `type` is the exception's qualified name.

    `attempt` failed `at` that time (the worker's clock, in UTC) on `worker`, by its name;
    None where that is not known.
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
    """What the store knows of a job at one moment.

    Of a finished job the call itself is gone, except in a dead letter: `args`, `kwargs`
    and the times before its end are then None. While its result is kept, `name`,
    `attempt` and `finished_at` (the worker's clock) are known. `max_attempts` is the most
    that its retry policies allow. `errors` are the last ones of its failed attempts, oldest
    first; `error` and `reason` say how it ended. `worker` is the lease of the worker that
    runs it, `started_at` when that took it, by the store's clock; `is_cancelled`: it has been
    asked to stop. `put_back`: how often it was put back because a worker did not have its
    function, since `put_back_since`. `mask`: what is sensitive, for `redacted()`. Times are
    aware, in UTC.
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
    error: JobError | None = None
    worker: str | None = None
    reason: str | None = None
    errors: tuple[JobError, ...] = ()
    started_at: datetime | None = None
    is_cancelled: bool = False
    put_back: int = 0
    put_back_since: datetime | None = None
    mask: Mask | None = field(default=None, repr=False, compare=False)

    def redacted(self) -> JobInfo:
        """The same, with what is sensitive in this job masked: for logs and screens."""
        mask = self.mask
        if mask is None:
            return self
        args, kwargs = mask.arguments()
        hidden: dict[str, Any] = {
            "args": None if self.args is None else args,
            "kwargs": None if self.kwargs is None else kwargs,
            "error": self.error and self.error.masked(mask),
            "errors": tuple(error.masked(mask) for error in self.errors),
            "reason": self.reason and mask.text(self.reason),
        }
        if self.progress is not None:
            hidden["progress"] = replace(self.progress, note=mask.text(self.progress.note))
        return replace(self, **hidden)


class JobHandle(Generic[R_co]):
    """One job, by queue and id. Made by `enqueue`, `f.handle(id)` and `app.handle(id)`.

    Holds no connection and no state of the job: each method asks the store. All methods
    raise NotOpen outside of `async with app` and StoreUnavailable.
    """

    __slots__ = ("_candidates", "_is_new", "_name", "_reader", "_readings", "_ttl_ms")

    def __init__(
        self,
        reader: Reader,
        candidates: Sequence[JobRef],
        *,
        is_new: bool | None = None,
        ttl_ms: int | None = None,
        name: str = "",
        readings: Readings | None = None,
    ) -> None:
        """`candidates`: which job it is, as far as that is known; `readings`: where to look
        for it, until the store has been asked.

        `ttl_ms`: how long its outcome is kept, `name`: its job function; None and '' when
        that is not known here.
        """
        self._reader = reader
        self._candidates = candidates
        self._readings = readings
        self._is_new = is_new
        self._ttl_ms = ttl_ms
        self._name = name

    @property
    def ref(self) -> JobRef:
        """The job's identity; `str(handle.ref)` is `queue/id`.

        Raises UsageError for an `app.handle(id)` whose queue has not been found yet.
        """
        if len(self._candidates) > 1:
            raise UsageError(
                f"the queue of job {self.id!r} is not known yet; await handle.status() first, "
                "or give app.handle(id, queue=...)"
            )
        return self._candidates[0]

    @property
    def id(self) -> str:
        """The job's id, unique in its queue."""
        return self._candidates[-1].id

    @property
    def queue(self) -> str:
        """The job's queue; raises like `ref`."""
        return self.ref.queue

    @property
    def is_new(self) -> bool | None:
        """False when the enqueue met a job with this id; None when nothing was enqueued."""
        return self._is_new

    async def status(self) -> State:
        """Where the job is now. Raises JobNotFound."""
        return await self._status(self._reader.opened())

    def status_sync(self) -> State:
        """`status` for threads and sync views. Raises like it, and UsageError on a running
        event loop."""
        return self._reader.ask_from_thread(self._status, "status_sync()")

    async def _status(self, backend: Backend) -> State:
        return (await self._record(backend)).state

    async def info(self) -> JobInfo:
        """What the store knows of the job now. Raises JobNotFound."""
        return _describe(await self._record(self._reader.opened()), self._reader)

    async def cancel(self) -> bool:
        """Take the job back.

        True: it was queued or scheduled and will not run, or it is running and its
        worker has been asked to stop it (it may still finish first). False: it has
        finished already, or is not known.
        """
        backend = self._reader.opened()
        if self._readings is not None:
            try:
                await self._record(backend)
            except JobNotFound:
                return False
        outcome = Outcome(State.CANCELLED).encode()
        ttl_ms = self._ttl_ms
        if ttl_ms is None:
            ttl_ms = self._reader.result_ttl_ms(None, None)
        (verdict,) = await backend.cancel([self.ref], outcome if ttl_ms else None, ttl_ms)
        if verdict is CancelVerdict.CANCELLED and self._reader.events.active:
            # No worker will hear of this job: nobody else could tell of its end.
            self._reader.events.emit(events.JobCancelled(self.ref, self._name, 0, 0.0, True))
        return verdict in (CancelVerdict.CANCELLED, CancelVerdict.REQUESTED)

    async def result(self, timeout: Seconds | None = None) -> R_co:
        """The job's return value, awaited for at most `timeout` (seconds or timedelta).

        Raises at once JobNotFound (also when the result has expired) and
        ResultsDisabled; ResultTimeout after the time-out; and by how the job ended
        JobFailed, JobDiscarded, JobCancelled or ResultUnavailable.
        """
        timeout_s = None if timeout is None else seconds(timeout, field="timeout")
        return await self._result(self._reader.opened(), timeout_s)

    def result_sync(self, timeout: Seconds | None = None) -> R_co:
        """`result` for threads and sync views; blocks until the job has ended.

        Uses the app where it is open in this process, else a background connection of its
        own, like `enqueue_sync`. Raises like `result`, and UsageError on a running event
        loop, which it would block.
        """
        timeout_s = None if timeout is None else seconds(timeout, field="timeout")
        ask = partial(self._result, timeout_s=timeout_s)
        value: R_co = self._reader.ask_from_thread(ask, "result_sync()")
        return value

    async def _result(self, backend: Backend, timeout_s: float | None) -> R_co:
        is_unsure = self._ttl_ms == 0 and self._is_new is not True
        if self._ttl_ms is None or is_unsure or self._readings is not None:
            # The job may have been enqueued by somebody else, with another result_ttl.
            self._ttl_ms = await self._stored_ttl_ms(backend)
        if self._ttl_ms == 0:
            raise ResultsDisabled(
                f"job {self.id!r}: results are off (result_ttl=0); set result_ttl= on the job "
                "function or the app to keep them"
            )
        ref = self.ref
        waits = _result_waits.get(None)
        with nullcontext() if waits is None else waits(self._reader, ref):
            record = (await backend.wait_results([ref], timeout_s))[0]
        if record is None:
            raise self._not_found()
        if not record.state.is_final:
            raise ResultTimeout(
                f"job {ref} has not finished within {timeout_s:g} s: it is {record.state}; "
                f"{await _what_to_do(backend, record)}"
            )
        value: R_co = _value(record)
        return value

    async def _stored_ttl_ms(self, backend: Backend) -> int | None:
        """How long the stored job's outcome is kept; None when only waiting can tell."""
        try:
            record = await self._record(backend)
        except JobNotFound:
            if self._ttl_ms == 0:
                return 0
            raise
        if record.outcome is not None:
            return None
        known = _known_ttl_ms(record, self._reader)
        return self._ttl_ms if known is None else known

    async def _record(self, backend: Backend) -> JobRecord:
        """Ask the store, and remember the queue in which the job was found."""
        readings = self._readings or Readings(tuple(self._candidates))
        found = await readings.find(backend.get)
        if not found:
            raise self._not_found()
        if len(found) > 1:
            places = ", ".join(str(record.ref) for record in found)
            raise UsageError(
                f"job id {self.id!r} stands for several jobs: {places}; "
                "give app.handle(id, queue=...)"
            )
        self._candidates = (found[0].ref,)
        self._readings = None
        return found[0]

    def _not_found(self) -> JobNotFound:
        refs = self._candidates if self._readings is None else self._readings.refs
        where = in_queues(ref.queue for ref in refs)
        return JobNotFound(
            f"job {self.id!r} {where}: expired or unknown; finished jobs are known "
            "for id_ttl and their results for result_ttl"
        )

    def __repr__(self) -> str:
        return f"<JobHandle {' or '.join(str(ref) for ref in self._candidates)}>"


async def _what_to_do(backend: Backend, record: JobRecord) -> str:
    """About a job that was waited for in vain."""
    queue = record.ref.queue
    if record.state is not State.RUNNING:
        # Not worth an error of its own: the one that is on its way says enough.
        with suppress(StoreError):
            (counts,) = await backend.inspect.queues.counts([queue])
            if counts.workers == 0:
                return (
                    f"no live worker serves queue {queue!r}: start one (asyncjobs worker APP "
                    f"--queues {queue}), or look at its --queues and at the store that it uses"
                )
    return "ask again, or cancel() it"


def _envelope(record: JobRecord) -> Envelope | None:
    raw = record.envelope
    if raw is None and record.dead_letter is not None:
        raw = envelope_in(record.dead_letter)
    if raw is None:
        return None
    try:
        return Envelope.decode(raw)
    except (BadRecord, NewerEnvelope):
        return None


def _known_ttl_ms(record: JobRecord, reader: Reader) -> int | None:
    """How long the outcome of a job is kept that somebody else may have enqueued."""
    envelope = _envelope(record)
    if envelope is None:
        return None
    return reader.result_ttl_ms(envelope.name, envelope.options)


def _outcome(record: JobRecord) -> Outcome | None:
    """How it ended; a dead letter still tells when the result has expired."""
    try:
        if record.outcome is not None:
            return Outcome.decode(record.outcome)
        if record.dead_letter is not None:
            return read_dead_letter(record.dead_letter)[0]
    except BadRecord:
        return None
    return None


def _value(record: JobRecord) -> Any:
    """The value of a final job, or the error that says why there is none."""
    ref = record.ref
    outcome = _outcome(record) if ENDS[record.state].has_details else Outcome(record.state)
    if outcome is None:
        raise JobNotFound(
            f"job {ref} ended {record.state}, and its result is not there: it has expired, or "
            "results are off; they are kept for result_ttl"
        )
    if outcome.unavailable:
        raise ResultUnavailable(f"job {ref} succeeded, but has no result: {outcome.unavailable}")
    error = ENDS[outcome.state].error
    if error is None:
        return outcome.value
    raise error(ref, outcome)


def _progress(raw: bytes | None) -> Progress | None:
    if raw is None:
        return None
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


def _describe(record: JobRecord, reader: Reader) -> JobInfo:
    envelope = _envelope(record)
    outcome = _outcome(record)
    errors: list[JobError] = []
    known: dict[str, Any] = {}
    if envelope is not None:
        errors = [_error(past) for past in envelope.headers.errors()]
        known = {
            "name": envelope.name,
            "attempt": envelope.attempt,
            "max_attempts": reader.max_attempts(envelope.name, envelope.options),
            "enqueued_at": from_ms(envelope.enqueued_ms),
            "scheduled_at": _time(envelope.scheduled_ms),
            "expires_at": _time(envelope.expires_ms),
            "args": envelope.args,
            "kwargs": envelope.kwargs,
            "mask": mask_of_call(envelope.headers, envelope.args, envelope.kwargs),
            **_put_back(envelope.headers),
        }
    if outcome is not None and outcome.attempt:
        known["name"] = outcome.name
        known["attempt"] = outcome.attempt
        known["finished_at"] = from_ms(outcome.finished_ms)
    if outcome is not None and outcome.reason:
        known["reason"] = outcome.reason
    if outcome is not None and outcome.error_type:
        known["error"] = _error(outcome.as_error())
        errors.append(known["error"])
    return JobInfo(
        record.ref,
        record.state,
        priority=None if record.priority is None else Priority(record.priority),
        due_at=_time(record.due_ms),
        progress=_progress(record.progress),
        worker=record.holder,
        started_at=_time(record.taken_ms),
        is_cancelled=record.is_cancelled,
        errors=tuple(errors),
        **known,
    )


def _put_back(headers: Headers) -> dict[str, Any]:
    """Whether workers did not know the function, and since when."""
    since_ms, times = headers.put_back(now_ms())
    if not times:
        return {}
    return {"put_back": times, "put_back_since": from_ms(since_ms)}


def _time(ms: int | None) -> datetime | None:
    if ms is None:
        return None
    # A due time may be any number that somebody has written into the store.
    return from_ms(min(max(ms, 0), LAST_MS))


def _error(past: PastError) -> JobError:
    at = _time(past.at_ms or None)
    about = past.attempt or None, at, past.worker or None
    return JobError(past.type, past.message, past.traceback, *about)
