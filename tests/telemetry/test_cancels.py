"""A cancelled job is told of and counted once, by whoever has ended it."""

from __future__ import annotations

import pytest
from opentelemetry.trace import StatusCode

from asyncjobs import (
    INJECTED,
    AsyncJobs,
    JobCancelled,
    JobContext,
    RetryPolicy,
    State,
    Worker,
    constant,
    events,
)
from asyncjobs.model.clock import new_id
from asyncjobs.model.demand import Demand
from asyncjobs.store.lease import LeaseSpec
from asyncjobs.store.seam import Backend
from tests.telemetry.reading import Reading
from tests.telemetry.recording import Recording
from tests.worker import jobs
from tests.worker.kit import (
    LIMIT_S,
    NewApp,
    Stage,
    ended,
    events_of,
    processor_of,
    register,
    until,
    working,
)

pytestmark = pytest.mark.anyio

CONSUMED = "messaging.client.consumed.messages"
FINISHED = "asyncjobs.jobs.finished"


@pytest.fixture
def app(new_app: NewApp, reading: Reading, recording: Recording) -> AsyncJobs:
    return new_app(meter_provider=reading.provider, tracer_provider=recording.provider)


def finished(reading: Reading) -> dict[tuple[str, str], float]:
    """By job function and outcome."""
    return {
        (name, outcome): value for (name, outcome, *_), value in reading.points(FINISHED).items()
    }


async def test_a_queued_one_by_its_client(app: AsyncJobs, reading: Reading) -> None:
    heard = events_of(app, events.JobCancelled)
    job = register(app, jobs.echo)
    async with app:
        ready, scheduled = await job.enqueue(), await job.options(delay=600).enqueue()
        assert await ready.cancel()
        assert await scheduled.cancel()
        assert not await ready.cancel()
        assert not await app.handle("unknown", "default").cancel()
    assert heard == [
        events.JobCancelled(handle.ref, "echo", 0, 0.0, was_queued=True)
        for handle in (ready, scheduled)
    ]
    assert finished(reading) == {("echo", "cancelled"): 2}
    # It never came to a worker.
    assert reading.total(CONSUMED) == 0


async def test_a_handle_that_does_not_know_the_function(app: AsyncJobs, reading: Reading) -> None:
    job = register(app, jobs.echo)
    async with app:
        handle = await job.enqueue()
        assert await app.handle(handle.id, "default").cancel()
    assert finished(reading) == {("_OTHER", "cancelled"): 1}


async def test_a_running_one_by_its_worker(app: AsyncJobs, reading: Reading, stage: Stage) -> None:
    heard = events_of(app, events.JobCancelled)
    job = register(app, jobs.gated)
    async with working(app, lease=1):
        handle = await job.enqueue("g")
        await stage.noted(("started", "g"))
        assert await handle.cancel()
        await ended(app, handle.id, State.CANCELLED)
    assert [(event.name, event.attempt, event.was_queued) for event in heard] == [
        ("gated", 1, False)
    ]
    assert finished(reading) == {("gated", "cancelled"): 1}
    assert reading.total(CONSUMED) == 1


async def test_one_taken_and_not_started_by_its_worker(
    app: AsyncJobs, reading: Reading, recording: Recording, stage: Stage
) -> None:
    heard = events_of(app, events.JobCancelled)
    job = register(app, jobs.note)
    async with app:
        handle = await job.enqueue("never")
        dead = await app.backend.lease(LeaseSpec(new_id(), "dead", ("default",), 1000))
        assert (await dead.exchange(1, [], {"default": Demand(1)})).jobs
        assert await handle.cancel()
        assert heard == []
        async with Worker(app, lease=1):
            await ended(app, handle.id, State.CANCELLED)
    assert heard == [events.JobCancelled(handle.ref, "note", 1, 0.0)]
    assert finished(reading) == {("note", "cancelled"): 1}
    assert reading.total(CONSUMED) == 1
    assert recording.attempts() == []
    assert stage.notes == []


async def test_one_before_its_first_step(
    app: AsyncJobs, reading: Reading, recording: Recording, stage: Stage
) -> None:
    heard = events_of(app, events.JobCancelled)
    job = register(app, jobs.note)
    async with app, Worker(app) as worker:

        @app.on(events.JobStarted)
        def cancel(event: events.JobStarted) -> None:
            processor_of(worker).cancel([event.ref])

        handle = await job.enqueue("never")
        with pytest.raises(JobCancelled):
            await handle.result(LIMIT_S)
        (attempt,) = await recording.ended(1)
    assert [(event.name, event.attempt) for event in heard] == [("note", 1)]
    assert finished(reading) == {("note", "cancelled"): 1}
    assert reading.total(CONSUMED) == 1
    assert reading.total("asyncjobs.jobs.active") == 0
    assert (attempt.attributes or {})["asyncjobs.job.outcome"] == "cancelled"
    assert attempt.status.status_code is StatusCode.UNSET
    assert stage.notes == []


async def test_one_whose_last_attempt_goes_on_all_the_same(
    app: AsyncJobs,
    reading: Reading,
    recording: Recording,
    stage: Stage,
    caplog: pytest.LogCaptureFixture,
) -> None:
    job = register(app, jobs.stubborn, timeout=0.05, retry=RetryPolicy(2, constant(600)))
    async with working(app, stuck_after=0.1):
        handle = await job.enqueue("s")
        await ended(app, handle.id, State.SCHEDULED)
        (attempt,) = await recording.ended(1)
        assert await handle.cancel()
        stage.open("s")
        await until(lambda: finished(reading) == {("stubborn", "cancelled"): 1})
    assert (attempt.attributes or {})["asyncjobs.job.outcome"] == "retry"
    assert reading.total(CONSUMED) == 1
    assert "ended span" not in caplog.text


store: list[Backend] = []


async def fails(*, ctx: JobContext = INJECTED) -> None:
    """Somebody cancels it at its last moment."""
    await store.pop().cancel([ctx.ref], None, 0)
    raise jobs.Broken("as it was cancelled")


async def test_one_that_fails_before_it_hears_of_it(app: AsyncJobs, reading: Reading) -> None:
    """Its worker hears of it when the next attempt is dropped, or just before."""
    heard = events_of(app, events.JobCancelled)
    job = register(app, fails, retry=RetryPolicy(max_attempts=3, backoff=constant(0)))
    async with working(app):
        store.append(app.backend)
        handle = await job.enqueue()
        await ended(app, handle.id, State.CANCELLED)
        await until(lambda: len(heard) == 1)
    assert [(event.ref, event.attempt) for event in heard] == [(handle.ref, 1)]
    assert finished(reading) == {("fails", "cancelled"): 1}
    assert reading.total(CONSUMED) == 1
