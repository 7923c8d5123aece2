"""The handle of a job: its identity, and the questions that one may ask about it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from typing import Any, Final, Generic, Literal, Protocol, TypeAlias, TypeVar

from asyncjobs.errors import (
    JobNotFound,
    ResultsDisabled,
    ResultTimeout,
    ResultUnavailable,
    StoreError,
    UsageError,
)
from asyncjobs.guard.texts import in_queues
from asyncjobs.jobs.info import JobInfo, envelope_of, info_of, outcome_of
from asyncjobs.jobs.readings import Readings
from asyncjobs.jobs.result_waits import _result_waits
from asyncjobs.jobs.step_info import steps_in
from asyncjobs.model import events
from asyncjobs.model.clock import Seconds, seconds
from asyncjobs.model.ends import ENDS
from asyncjobs.model.events import Events
from asyncjobs.model.job import JobRecord, State
from asyncjobs.model.outcome import Outcome
from asyncjobs.model.refs import JobRef
from asyncjobs.store.answers import CancelVerdict
from asyncjobs.store.seam import Backend

__all__ = ["Disposition", "JobHandle", "Reader"]

_NOTED: Final = (State.RUNNING, State.READY, State.SCHEDULED, State.DEAD)
"""States in which a job may have notes."""

Disposition: TypeAlias = Literal["new", "existing", "replaced", "held", "cancelled", "pending"]
"""What became of an enqueue; see `JobHandle.disposition`."""

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
        """Ask the store from a thread, and block until it answers. Errors name `what`.

        Raises UsageError on a running loop, NotOpen, and what the question raises.
        """
        ...

    def result_ttl_ms(self, name: str | None, options: dict[str, Any] | None) -> int:
        """How long the outcome of such a job is kept, in milliseconds; 0 keeps none."""
        ...

    def max_attempts(self, name: str, options: dict[str, Any] | None) -> int | None:
        """How many attempts such a job may have; None if its function is not known here."""
        ...

    def result_value(self, ref: JobRef, name: str, value: Any) -> Any:
        """The kept result of a job of this function, as its type. Raises ResultUnavailable."""
        ...


class JobHandle(Generic[R_co]):
    """One job, by queue and id. Made by `enqueue`, `f.handle(id)` and `app.handle(id)`.

    Holds no connection and no copy of the job: each method asks the store. All methods raise
    NotOpen outside of `async with app`, and StoreUnavailable. After `app.handle(id)` without a
    queue, they raise UsageError if the id fits several jobs.
    """

    __slots__ = ("_candidates", "_disposition", "_name", "_reader", "_readings", "_ttl_ms")

    def __init__(
        self,
        reader: Reader,
        candidates: Sequence[JobRef],
        *,
        disposition: Disposition | None = None,
        ttl_ms: int | None = None,
        name: str = "",
        readings: Readings | None = None,
    ) -> None:
        """`candidates`: the jobs that it may be; one if that is known. `readings`: where to look
        for it, until the store has answered.

        `ttl_ms`: how long its outcome is kept; None if that is not known here. `name`: its job
        function; '' if that is not known.
        """
        self._reader = reader
        self._candidates = candidates
        self._readings = readings
        self._disposition: Disposition | None = disposition
        self._ttl_ms = ttl_ms
        self._name = name

    @property
    def ref(self) -> JobRef:
        """The job's queue and id. `str(handle.ref)` is its public id, `queue/id`.

        Raises UsageError after `app.handle(id)`, as long as the queue has not been found.
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
        """The queue that the job is in. Raises like `ref`."""
        return self.ref.queue

    @property
    def disposition(self) -> Disposition | None:
        """What became of the enqueue; None if the handle was not made by one.

        `new`: the job was stored. `existing`: a job with this id or this unique key was there, and
        this is its handle. `replaced`: that job had not started, and has the new arguments and the
        new time now. `held`: the job was stored, and waits until the one that holds its unique key
        has ended. `cancelled`: the job has ended at once, for its limit had no room and cancels new
        jobs then. `pending`: it was enqueued by `ctx.enqueue`, and is stored if and when the
        attempt that has enqueued it succeeds.
        """
        return self._disposition

    @property
    def is_new(self) -> bool | None:
        """True if the enqueue stored a new job, False if another job stands in its place.

        None if the handle was not made by an enqueue, and for a job that `ctx.enqueue` keeps.
        `disposition` says more.
        """
        if self._disposition in (None, "pending"):
            return None
        return self._disposition in ("new", "held")

    async def status(self) -> State:
        """The job's state now. Raises JobNotFound if the job is unknown or has expired."""
        return await self._status(self._reader.opened())

    def status_sync(self) -> State:
        """`status` for threads and sync views.

        Raises like `status`, and UsageError on a running event loop, which it would block.
        """
        return self._reader.ask_from_thread(self._status, "status_sync()")

    async def _status(self, backend: Backend) -> State:
        return (await self._record(backend)).state

    async def info(self) -> JobInfo:
        """What the store knows of the job now. Raises JobNotFound like `status`."""
        return await self._info(self._reader.opened())

    def info_sync(self) -> JobInfo:
        """`info` for threads and sync views. Raises like `info`, and UsageError on a running event
        loop, which it would block."""
        return self._reader.ask_from_thread(self._info, "info_sync()")

    async def _info(self, backend: Backend) -> JobInfo:
        record = await self._record(backend)
        info = info_of(record, self._reader.max_attempts)
        if not backend.capabilities.notes or record.state not in _NOTED:
            return info
        notes = await backend.inspect.notes(record.ref, is_dead=record.state is State.DEAD)
        return replace(info, steps=steps_in(notes))

    async def cancel(self) -> bool:
        """Cancel the job.

        A job that waits will not run. A running job is asked to stop: its worker cancels the
        attempt, which may still finish first. Returns True in both cases. Returns False if the
        job has finished already or is unknown.
        """
        return await self._cancel(self._reader.opened())

    def cancel_sync(self) -> bool:
        """`cancel` for threads and sync views. Raises UsageError on a running event loop, which it
        would block."""
        return self._reader.ask_from_thread(self._cancel, "cancel_sync()")

    async def _cancel(self, backend: Backend) -> bool:
        if self._readings is not None:
            try:
                await self._record(backend)
            except JobNotFound:
                return False
        # Those who wait for the result of a job that never ran get this outcome.
        outcome = Outcome(State.CANCELLED).encode()
        ttl_ms = self._ttl_ms
        if ttl_ms is None:
            ttl_ms = self._reader.result_ttl_ms(None, None)
        (verdict,) = await backend.cancel([self.ref], outcome if ttl_ms else None, ttl_ms)
        if verdict is CancelVerdict.CANCELLED and self._reader.events.active:
            # The job waited, so no worker emits an event for its end.
            self._reader.events.emit(events.JobCancelled(self.ref, self._name, 0, 0.0, True))
        return verdict in (CancelVerdict.CANCELLED, CancelVerdict.REQUESTED)

    async def result(self, timeout: Seconds | None = None) -> R_co:
        """Wait for the end of the job, and return its value.

        timeout: wait at most this long (seconds or timedelta); None waits until the job ends.

        Raises JobFailed if the job is dead, JobDiscarded or JobCancelled if it ended in that way,
        and ResultUnavailable if its value could not be kept, or does not fit the annotation of its
        function any more. Raises ResultTimeout after the
        time-out; the job goes on. Raises JobNotFound if the job is unknown or its result has
        expired, and ResultsDisabled if its results are not kept.
        """
        timeout_s = _checked_s(timeout)
        return await self._result(self._reader.opened(), timeout_s)

    def result_sync(self, timeout: Seconds | None = None) -> R_co:
        """`result` for threads and sync views. Blocks until the job has ended.

        Uses the app if it is open in this process, else a connection in a background thread, like
        `enqueue_sync`. Raises like `result`, and UsageError on a running event loop, which it
        would block.
        """
        ask = partial(self._result, timeout_s=_checked_s(timeout))
        value: R_co = self._reader.ask_from_thread(ask, "result_sync()")
        return value

    async def _result(self, backend: Backend, timeout_s: float | None) -> R_co:
        # Results are off for this function. But a job that was there already may come from an
        # enqueue with another `result_ttl`, so only the store can tell.
        is_unsure = self._ttl_ms == 0 and self.is_new is not True
        if self._ttl_ms is None or is_unsure or self._readings is not None:
            # Somebody else may have enqueued the job, with another result_ttl.
            self._ttl_ms = await self._stored_ttl_ms(backend)
        if self._ttl_ms == 0:
            raise ResultsDisabled(
                f"job {self.id!r}: results are off (result_ttl=0); set result_ttl= on the job "
                "function or the app to keep them"
            )
        ref = self.ref
        with _waiting_for(self._reader, ref):
            (record,) = await backend.wait_results([ref], timeout_s)
        if record is None:
            raise self._not_found()
        if not record.state.is_final:
            raise ResultTimeout(
                f"job {ref} has not finished within {timeout_s:g} s: it is {record.state}; "
                f"{await _what_to_do(backend, record)}"
            )
        outcome = _succeeded(record)
        value: R_co = self._reader.result_value(ref, outcome.name, outcome.value)
        return value

    async def _stored_ttl_ms(self, backend: Backend) -> int | None:
        """How long the stored job's outcome is kept; None if that is not known, so that only
        waiting can tell."""
        try:
            record = await self._record(backend)
        except JobNotFound:
            if self._ttl_ms == 0:
                return 0
            raise
        if record.outcome is not None:
            return None
        envelope = envelope_of(record)
        if envelope is None:
            return self._ttl_ms
        return self._reader.result_ttl_ms(envelope.name, envelope.options)

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
        # The next question is for this job alone.
        self._candidates = (found[0].ref,)
        self._readings = None
        return found[0]

    def _not_found(self) -> JobNotFound:
        refs = self._candidates
        if self._readings is not None:
            refs = self._readings.refs
        where = in_queues(ref.queue for ref in refs)
        if self._disposition == "pending":
            return JobNotFound(
                f"job {self.id!r} {where}: ctx.enqueue() keeps it until the attempt that has "
                "enqueued it succeeds, or drops it; f.enqueue(...) stores a job at once"
            )
        return JobNotFound(
            f"job {self.id!r} {where}: expired or unknown; finished jobs are known "
            "for id_ttl and their results for result_ttl"
        )

    def __repr__(self) -> str:
        return f"<JobHandle {' or '.join(str(ref) for ref in self._candidates)}>"


def _checked_s(timeout: Seconds | None) -> float | None:
    if timeout is None:
        return None
    return seconds(timeout, field="timeout")


def _waiting_for(reader: Reader, ref: JobRef) -> AbstractContextManager[None]:
    """Entered while a job waits for the result of another one; does nothing outside of jobs."""
    waits = _result_waits.get(None)
    if waits is None:
        return nullcontext()
    return waits(reader, ref)


async def _what_to_do(backend: Backend, record: JobRecord) -> str:
    """The advice for somebody who has waited for this job in vain."""
    queue = record.ref.queue
    if record.state is not State.RUNNING:
        # A store that cannot answer now must not replace ResultTimeout by its own error.
        with suppress(StoreError):
            (counts,) = await backend.inspect.queues.counts([queue])
            if counts.workers == 0:
                return (
                    f"no live worker serves queue {queue!r}: start one (asyncjobs worker APP "
                    f"--queues {queue}), or look at its --queues and at the store that it uses"
                )
    return "ask again, or cancel() it"


def _succeeded(record: JobRecord) -> Outcome:
    """The outcome of a finished job. Raises the error that says why it has no value."""
    ref = record.ref
    outcome: Outcome | None = Outcome(record.state)
    if ENDS[record.state].has_details:
        outcome = outcome_of(record)
    # The job is remembered for `id_ttl`, which is often longer than its result.
    if outcome is None:
        raise JobNotFound(
            f"job {ref} ended {record.state}, and its result is not there: it has expired, or "
            "results are off; they are kept for result_ttl"
        )
    if outcome.unavailable:
        raise ResultUnavailable(f"job {ref} succeeded, but has no result: {outcome.unavailable}")
    error = ENDS[outcome.state].error
    if error is None:
        return outcome
    raise error(ref, outcome)
