"""An enqueue that fails is told of and counted, by what it failed with."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asyncjobs import AsyncJobs, PayloadTooLarge, StoreFull, StoreUnavailable, events
from asyncjobs.client import waiters as module
from asyncjobs.store.answers import Enqueued
from asyncjobs.store.seam import EnqueueBatch
from tests.telemetry.reading import Reading
from tests.worker import jobs
from tests.worker.kit import NewApp, events_of, register

pytestmark = pytest.mark.anyio

OPERATION = "messaging.client.operation.duration"


@pytest.fixture
def app(new_app: NewApp, reading: Reading) -> AsyncJobs:
    return new_app(meter_provider=reading.provider, connect_timeout=0.2)


def by_error(reading: Reading) -> dict[object, float]:
    """Counts of enqueues by the type of their error, None: those that succeeded."""
    metric = reading.metrics().get(OPERATION)
    points = () if metric is None else metric.data.data_points
    return {(point.attributes or {}).get("error.type"): point.count for point in points}  # type: ignore[union-attr]


@pytest.mark.parametrize("error", [StoreFull, StoreUnavailable])
async def test_what_the_store_did_not_take(
    app: AsyncJobs, reading: Reading, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    failed = events_of(app, events.EnqueueFailed)
    job = register(app, jobs.echo)

    async def refuse(batch: EnqueueBatch) -> Enqueued:
        raise error("planted")

    async with app:
        monkeypatch.setattr(app.backend, "enqueue", refuse)
        with pytest.raises(error):
            await job.enqueue()
        with pytest.raises(error):
            await app.enqueue_many([job.bind(1), job.bind(2)])
    assert by_error(reading) == {f"asyncjobs.errors.{error.__name__}": 3}
    assert [(event.name, type(event.error)) for event in failed] == [("echo", error)] * 3
    assert reading.total("messaging.client.sent.messages") == 0
    (point,) = reading.metrics()[OPERATION].data.data_points
    assert dict(point.attributes or {}) == {
        "messaging.system": "asyncjobs",
        "messaging.operation.name": "enqueue",
        "messaging.operation.type": "send",
        "messaging.destination.name": "default",
        "asyncjobs.job.name": "echo",
        "error.type": f"asyncjobs.errors.{error.__name__}",
    }


async def test_what_is_too_large(app: AsyncJobs, reading: Reading) -> None:
    failed = events_of(app, events.EnqueueFailed)
    job = register(app, jobs.echo)
    async with app:
        large = "x" * (2 << 20)
        with pytest.raises(PayloadTooLarge):
            await job.enqueue(large)
        with pytest.raises(PayloadTooLarge):
            await app.enqueue_many([job.bind(1), job.bind(large), job.bind(2)])
    assert by_error(reading) == {"asyncjobs.errors.PayloadTooLarge": 2}
    assert [event.duration_s for event in failed] == [0.0, 0.0]


async def test_only_the_batch_that_failed(
    app: AsyncJobs, reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_BATCH_JOBS", 2)
    job = register(app, jobs.echo)
    async with app:
        enqueue, batches = app.backend.enqueue, 0

        async def refuse_the_second(batch: EnqueueBatch) -> Enqueued:
            nonlocal batches
            batches += 1
            if batches == 2:
                raise StoreFull("planted")
            return await enqueue(batch)

        monkeypatch.setattr(app.backend, "enqueue", refuse_the_second)
        with pytest.raises(StoreUnavailable, match="2 of these 6 jobs are stored"):
            await app.enqueue_many([job.bind(number) for number in range(6)])
    assert by_error(reading) == {None: 2, "asyncjobs.errors.StoreFull": 2}


async def test_a_cancelled_enqueue_has_not_failed(
    app: AsyncJobs, reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = register(app, jobs.echo)
    arrived = asyncio.Event()
    async with app:
        enqueue = app.backend.enqueue

        async def slow(batch: EnqueueBatch) -> Enqueued:
            arrived.set()
            await asyncio.sleep(0.01)
            return await enqueue(batch)

        monkeypatch.setattr(app.backend, "enqueue", slow)
        call: asyncio.Task[Any] = asyncio.create_task(job.enqueue())
        await arrived.wait()
        call.cancel()
        await asyncio.wait([call])
    assert call.cancelled()
    assert by_error(reading) == {}
