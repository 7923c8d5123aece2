"""Runs one attempt of one call, on a store of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any, Final, Self

from asyncjobs.app import AsyncJobs
from asyncjobs.errors import ResultUnavailable
from asyncjobs.jobs.function import JobFunction
from asyncjobs.model.clock import new_id
from asyncjobs.model.events import AttemptEnded, Event
from asyncjobs.model.job import NewJob
from asyncjobs.store.answers import Placed
from asyncjobs.store.seam import EnqueueBatch
from asyncjobs.testing.outcomes import Performed, ending_of
from asyncjobs.testing.recorder import Recorder
from asyncjobs.testing.recording import RecordingBackend
from asyncjobs.testing.rounds import BurstWorker
from asyncjobs.testing.wall_clock import WallClock

__all__ = ["perform_once"]

KEPT_S: Final = 3_600
"""How long the result is kept, if its job function keeps it for less. It is read at once."""


class _Aside:
    """The app, with a store beside its own: jobs that the call enqueues go to the app's store, and
    the call itself is alone in this one."""

    def __init__(self, app: AsyncJobs, backend: RecordingBackend) -> None:
        self._app = app
        self.backend = backend

    def __getattr__(self, name: str) -> Any:
        return getattr(self._app, name)

    def opened(self) -> RecordingBackend:
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


async def perform_once(
    app: AsyncJobs,
    recorder: Recorder,
    clock: WallClock,
    function: JobFunction[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> Performed[Any]:
    """Run one attempt of this call. See `StageWorker.perform`."""
    kept = function.options(result_ttl=KEPT_S)
    job = kept.new_job(tuple(args), dict(kwargs))
    # It runs now, whatever its delay says, and holds no key that another job could want.
    job = job._replace(id=new_id(), delay_ms=0, at_ms=None, has_new_id=True, terms=None)
    backend = RecordingBackend(app.settings.store(), clock.now_ms, _ignore, recorder.settled)
    await backend.enqueue(EnqueueBatch(new_id(), [job]))
    heard: list[Event] = []
    before = len(recorder.enqueued)
    remove = app.events.on(Event, heard.append)
    aside: Any = _Aside(app, backend)
    try:
        await BurstWorker(aside, [job.queue], concurrency=1).work_off(1)
    finally:
        remove()
    ends = [event for event in heard if isinstance(event, AttemptEnded) and event.ref == job.ref]
    logs = recorder.logs(job=job.ref)
    found = _outcome(ends[-1], logs, recorder.enqueued[before:])
    if found.state != "succeeded":
        return found
    handle = kept.template.handle(aside, job.id)
    try:
        return _with(found, _value=await handle.result(timeout=0))
    except ResultUnavailable as error:
        return _with(found, _no_value=error)


def _outcome(end: AttemptEnded, logs: Sequence[Any], enqueued: Sequence[Any]) -> Performed[Any]:
    state = ending_of(end)
    assert state is not None, f"{end} is no end of an attempt"
    error = getattr(end, "error", None)
    reason = getattr(end, "reason", None)
    delay_s = getattr(end, "delay_s", None)
    delay = None
    if delay_s is not None:
        delay = timedelta(seconds=delay_s)
    no_value = error
    if error is None and state != "succeeded":
        told = reason or f"a delay of {delay}"
        no_value = AssertionError(f"{end.name} has no value, for it is {state}: {told}")
    return Performed(
        state,
        error,
        delay,
        reason,
        end.attempt,
        timedelta(seconds=end.duration_s),
        logs,
        enqueued,
        None,
        no_value,
    )


def _with(found: Performed[Any], **changes: Any) -> Performed[Any]:
    fields = {name: getattr(found, name) for name in Performed.__dataclass_fields__}
    return Performed(**{**fields, **changes})


def _ignore(job: NewJob, place: Placed | None) -> None:
    """The call itself is not enqueued."""
