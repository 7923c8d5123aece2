"""Runs one attempt of one call, on a store of its own."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from types import TracebackType
from typing import Any, Final, Self

from asyncjobs.app import AsyncJobs
from asyncjobs.errors import ResultUnavailable, UsageError
from asyncjobs.jobs.function import JobCall
from asyncjobs.jobs.info import progress_of
from asyncjobs.model.clock import new_id
from asyncjobs.model.envelope import Envelope
from asyncjobs.model.events import AttemptEnded, Event
from asyncjobs.model.job import NewJob
from asyncjobs.model.notes import PROGRESS, Note
from asyncjobs.model.refs import JobRef
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.answers import Placed
from asyncjobs.store.seam import Backend, EnqueueBatch
from asyncjobs.testing.outcomes import Performed, ending_of
from asyncjobs.testing.recorder import Recorder
from asyncjobs.testing.recording import OnNoted, OnSettled, RecordingBackend
from asyncjobs.testing.rounds import BurstWorker
from asyncjobs.testing.wall_clock import WallClock

__all__ = ["perform_once"]

KEPT_S: Final = 3_600
"""How long the result is kept, if its job function keeps it for less. It is read at once."""


class _AsideBackend(RecordingBackend):
    """A store beside that of the app, for which it stands: what the call keeps for its success goes
    to the app's store, too. `caused`: these jobs."""

    def __init__(
        self, app: AsyncJobs, clock: WallClock, on_settled: OnSettled, on_noted: OnNoted
    ) -> None:
        super().__init__(app.settings.store(), clock.now_ms, _ignore, self._settled, on_noted)
        self._beside: Backend = app.backend
        self._tell_settled = on_settled
        self.caused: list[NewJob] = []

    def _settled(self, settlement: Settlement) -> None:
        if settlement.effects is not None:
            self.caused += settlement.effects.jobs
        # They are told when they come to the store of the app.
        self._tell_settled(settlement._replace(effects=None))

    def __eq__(self, other: object) -> bool:
        return other is self or other is self._beside

    __hash__ = RecordingBackend.__hash__


class _Aside:
    """The app, with a store beside its own: jobs that the call enqueues go to the app's store, and
    the call itself is alone in this one."""

    def __init__(self, app: AsyncJobs, backend: _AsideBackend) -> None:
        self._app = app
        self.backend = backend

    def __getattr__(self, name: str) -> Any:
        return getattr(self._app, name)

    def opened(self) -> _AsideBackend:
        """The store that handles ask."""
        return self.backend

    async def __aenter__(self) -> Self:
        await self._app.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._app.__aexit__(kind, error, trace)


class _Ear:
    """Hears how one job is getting on."""

    def __init__(self, ref: JobRef) -> None:
        self.worker: BurstWorker | None = None
        self.end: AttemptEnded | None = None
        self.report: bytes | None = None
        self._ref = ref

    def hear(self, event: Event) -> None:
        if not isinstance(event, AttemptEnded) or event.ref != self._ref:
            return
        self.end = event
        # Most attempts of a test are over before the worker has told the store of their progress.
        if self.worker is not None and (reports := self.worker.reports()):
            self.report = reports[-1]

    def note(self, note: Note) -> None:
        if note.name == PROGRESS:
            self.report = note.value


async def perform_once(
    app: AsyncJobs, recorder: Recorder, clock: WallClock, call: JobCall[Any], number: int
) -> Performed[Any]:
    """Run one attempt of this call. See `StageWorker.perform`."""
    kept = call.function.options(result_ttl=KEPT_S)
    job = _at_once(kept.new_job(call.args, call.kwargs), number)
    ear = _Ear(job.ref)
    backend = _AsideBackend(app, clock, recorder.settled, ear.note)
    await backend.enqueue(EnqueueBatch(new_id(), [job]))
    before = len(recorder.enqueued)
    remove = app.events.on(Event, ear.hear)
    aside: Any = _Aside(app, backend)
    ear.worker = BurstWorker(aside, [job.queue], concurrency=1)
    try:
        await ear.worker.work_off(1)
    finally:
        remove()
    if backend.caused:
        await app.backend.enqueue(EnqueueBatch(new_id(), backend.caused))
    if ear.end is None:
        raise UsageError(
            f"{call.function.name}: the attempt {number} has not run; its arguments or its options "
            "do not fit any more, which the log says"
        )
    found = _outcome(ear.end)
    progress = progress_of(ear.report)
    logs = recorder.logs(job=job.ref)
    found = replace(found, logs=logs, enqueued=recorder.enqueued[before:], progress=progress)
    if found.state != "succeeded":
        return found
    try:
        handle = kept.template.handle(aside, job.queue, job.id, "new")
        value = await handle.result(timeout=0)
    except ResultUnavailable as error:
        return replace(found, _no_value=error)
    return replace(found, _value=value)


def _at_once(job: NewJob, number: int) -> NewJob:
    """The job as it runs now, whatever its delay says, and without a key that another could want.
    `number`: that of its attempt."""
    envelope = Envelope.decode(job.envelope)
    envelope.attempt = number
    return job._replace(
        id=new_id(),
        delay_ms=0,
        at_ms=None,
        has_new_id=True,
        terms=None,
        envelope=envelope.encode(),
    )


def _outcome(end: AttemptEnded) -> Performed[Any]:
    state = ending_of(end)
    if state is None:
        raise UsageError(f"{end.name}: the attempt has no end: {end}")
    error = getattr(end, "error", None)
    reason = getattr(end, "reason", None)
    delay_s = getattr(end, "delay_s", None)
    delay = None
    if delay_s is not None:
        delay = timedelta(seconds=delay_s)
    no_value = error
    if error is None and state != "succeeded":
        no_value = AssertionError(
            f"{end.name} has no value, for it is {state}: {reason or f'again after {delay}'}"
        )
    lasted = timedelta(seconds=end.duration_s)
    return Performed(state, error, delay, reason, end.attempt, lasted, _no_value=no_value)


def _ignore(job: NewJob, place: Placed | None) -> None:
    """The call itself is not enqueued."""
