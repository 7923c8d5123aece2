"""Each delivery to a worker is counted as consumed, once: also one that never starts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from asyncjobs import AsyncJobs, State, StoreUnavailable, Worker, events
from asyncjobs.store.answers import Exchange
from asyncjobs.store.lease import Lease, LeaseSpec
from asyncjobs.telemetry.metrics import Metrics
from tests.telemetry.reading import Reading
from tests.telemetry.recording import Recording
from tests.worker import jobs
from tests.worker.kit import (
    LIMIT_S,
    NewApp,
    Stage,
    counts,
    ended,
    events_of,
    processor_of,
    register,
    store_raw,
    until,
)

pytestmark = pytest.mark.anyio

CONSUMED = "messaging.client.consumed.messages"

Then = Callable[[Exchange], Awaitable[Exchange]]


@pytest.fixture
def app(new_app: NewApp, reading: Reading, recording: Recording) -> AsyncJobs:
    return new_app(meter_provider=reading.provider, tracer_provider=recording.provider)


def consumed(reading: Reading) -> dict[str, float]:
    """By job function."""
    return {name: value for (name, *_), value in reading.points(CONSUMED).items()}


def meddle(app: AsyncJobs, monkeypatch: pytest.MonkeyPatch, then: Then) -> None:
    """The first reply that brings jobs becomes what `then` makes of it."""
    attach, is_done = app.backend.attach, False
    exchange: Callable[..., Awaitable[Exchange]]

    async def meddling(*args: Any) -> Exchange:
        nonlocal is_done
        answer = await exchange(*args)
        if not answer.jobs or is_done:
            return answer
        is_done = True
        return await then(answer)

    def attach_meddled(spec: LeaseSpec) -> Lease:
        nonlocal exchange
        lease = attach(spec)
        exchange = lease.exchange
        monkeypatch.setattr(lease, "exchange", meddling)
        return lease

    monkeypatch.setattr(app.backend, "attach", attach_meddled)


async def stopped(worker: Worker) -> None:
    """Told to release everything at once, and doing it."""
    processor = processor_of(worker)
    worker.stop()
    worker.stop()
    await until(lambda: processor.intake.holdings.is_releasing)


@pytest.mark.parametrize("is_lost", [False, True], ids=["reply comes late", "reply is lost"])
async def test_one_that_is_given_back_before_it_starts(
    app: AsyncJobs,
    reading: Reading,
    recording: Recording,
    stage: Stage,
    monkeypatch: pytest.MonkeyPatch,
    is_lost: bool,
) -> None:
    released = events_of(app, events.JobReleased)
    job = register(app, jobs.note)
    async with app:
        handle, other = await job.enqueue("n"), await store_raw(app, b"no envelope")
        worker = Worker(app)

        async def then(answer: Exchange) -> Exchange:
            await stopped(worker)
            if is_lost:
                raise StoreUnavailable("planted")
            return answer

        meddle(app, monkeypatch, then)
        await worker.run()
        assert stage.notes == []
        told = {event.ref.id: (event.name, event.attempt, event.duration_s) for event in released}
        assert told == {handle.id: ("note", 1, 0.0), other: ("", 1, 0.0)}
        assert len(released) == 2
        assert consumed(reading) == {"note": 1, "_OTHER": 1}
        assert reading.total("messaging.process.duration") == 0
        assert recording.attempts() == []
        async with Worker(app):
            await ended(app, other, State.DEAD)
            await until(lambda: reading.total("asyncjobs.jobs.finished") == 2)
    # Taken again, and that is a delivery of its own.
    assert consumed(reading) == {"note": 2, "_OTHER": 2}
    assert len(released) == 2
    assert reading.total("asyncjobs.jobs.active") == 0
    (attempt,) = recording.attempts()
    assert attempt.name == "process note"


async def test_nobody_reads_what_is_given_back_unless_somebody_hears_of_it(
    new_app: NewApp, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = new_app()
    started = events_of(app, events.JobStarted)
    job = register(app, jobs.note)

    def read(*args: object) -> tuple[str, int]:
        raise AssertionError("a stop takes the longer the more is read")

    monkeypatch.setattr("asyncjobs.worker.engine.announce.call_of", read)
    async with app:
        await job.enqueue("n")
        worker = Worker(app)

        async def then(answer: Exchange) -> Exchange:
            await stopped(worker)
            return answer

        meddle(app, monkeypatch, then)
        await worker.run()
        assert (await counts(app)).ready[2] == 1
    assert started == []


@pytest.mark.parametrize("is_traced", [True, False])
async def test_one_whose_last_attempt_here_goes_on_after_a_lost_lease(
    new_app: NewApp, reading: Reading, recording: Recording, stage: Stage, is_traced: bool
) -> None:
    app = new_app(
        meter_provider=reading.provider,
        tracer_provider=recording.provider if is_traced else None,
    )
    job = register(app, jobs.stubborn)
    async with app, Worker(app, lease=60, grace=1) as worker:
        handle = await job.enqueue("s")
        await stage.noted(("started", "s"))
        processor = processor_of(worker)
        lease = processor.session.spec
        await app.backend.attach(lease).leave()
        processor.note_lost(lease, ["default"])
        await stage.noted(("started", "s"), 2)
        assert reading.total("asyncjobs.jobs.active") == 1
        stage.open("s")
        assert await handle.result(LIMIT_S) == "s"
        await until(lambda: reading.total("messaging.process.duration") == 2)
    assert consumed(reading) == {"stubborn": 2}
    ends = {key[1]: value for key, value in reading.points("messaging.process.duration").items()}
    assert ends == {"lease_lost": 1, "succeeded": 1}
    assert reading.total("asyncjobs.jobs.finished") == 1
    assert reading.total("asyncjobs.jobs.active") == 0


async def test_an_end_that_the_store_refuses_is_counted_here_and_there(
    app: AsyncJobs, reading: Reading, stage: Stage
) -> None:
    job = register(app, jobs.gated)
    # With no slot free it asks the store for nothing, so that it cannot hear of the loss
    # before the job ends: a call that is heard late would make it ask.
    async with app, Worker(app, concurrency=1, lease=60, grace=1) as worker:
        handle = await job.enqueue("g")
        await stage.noted(("started", "g"))
        processor = processor_of(worker)
        # Its lease is over, and it has not heard of it when the job ends.
        await app.backend.attach(processor.session.spec).leave()
        stage.open("g")
        assert await handle.result(LIMIT_S) == "g"
        await until(lambda: reading.total("asyncjobs.jobs.finished") == 2)
    assert stage.count(("started", "g")) == 2
    assert consumed(reading) == {"gated": 2}
    assert reading.total("asyncjobs.jobs.active") == 0


async def test_two_that_measure_one_app(app: AsyncJobs, reading: Reading, stage: Stage) -> None:
    other = Reading()
    Metrics(other.provider, app.registry.find).attach(app.events)
    job = register(app, jobs.echo)
    async with app, Worker(app):
        await (await job.enqueue(1)).result(LIMIT_S)
        for each in (reading, other):
            await until(lambda each=each: each.total("asyncjobs.jobs.finished") == 1)  # type: ignore[misc]
            assert consumed(each) == {"echo": 1}
            assert each.total("asyncjobs.jobs.active") == 0
    other.provider.shutdown()
