"""How long an enqueue took, as the caller of each job saw it: by a clock that stands."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asyncjobs import AsyncJobs, StoreFull, StoreUnavailable, events
from asyncjobs.client import waiters as module
from asyncjobs.store.answers import Enqueued
from asyncjobs.store.seam import EnqueueBatch
from tests.telemetry.reading import Reading
from tests.worker import jobs
from tests.worker.kit import NewApp, events_of, register

pytestmark = pytest.mark.anyio

OPERATION = "messaging.client.operation.duration"


class Clocked:
    """The running loop, but for its time: that passes while the store is asked, 2 s each time."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.now_s = self._loop.time()

    def time(self) -> float:
        return self.now_s

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)


@pytest.fixture
def app(new_app: NewApp, reading: Reading) -> AsyncJobs:
    return new_app(meter_provider=reading.provider, connect_timeout=60)


def clocked(app: AsyncJobs, monkeypatch: pytest.MonkeyPatch, refused: int | None = None) -> None:
    clock, batches, enqueue = Clocked(), 0, app.backend.enqueue

    async def slow(batch: EnqueueBatch) -> Enqueued:
        nonlocal batches
        batches += 1
        clock.now_s += 2
        if batches == refused:
            raise StoreFull("planted")
        return await enqueue(batch)

    monkeypatch.setattr(app.client, "loop", clock)
    monkeypatch.setattr(app.backend, "enqueue", slow)


def sums(reading: Reading) -> dict[object, tuple[int, float]]:
    """Number of jobs and their seconds together, by the type of the error."""
    points = reading.metrics()[OPERATION].data.data_points
    return {(p.attributes or {}).get("error.type"): (p.count, p.sum) for p in points}  # type: ignore[union-attr]


async def test_one_job(app: AsyncJobs, reading: Reading, monkeypatch: pytest.MonkeyPatch) -> None:
    job = register(app, jobs.echo)
    async with app:
        clocked(app, monkeypatch)
        await job.enqueue()
    assert sums(reading) == {None: (1, pytest.approx(2.0))}


async def test_of_many_each_waits_for_its_own_batch(
    app: AsyncJobs, reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_BATCH_JOBS", 2)
    stored = events_of(app, events.JobEnqueued)
    failed = events_of(app, events.EnqueueFailed)
    job = register(app, jobs.echo)
    async with app:
        clocked(app, monkeypatch, refused=3)
        with pytest.raises(StoreUnavailable, match="4 of these 7 jobs are stored"):
            await app.enqueue_many([job.bind(number) for number in range(7)])
    assert [event.duration_s for event in stored] == pytest.approx([2.0, 2.0, 4.0, 4.0])
    assert [event.duration_s for event in failed] == pytest.approx([6.0, 6.0])
    assert sums(reading) == {
        None: (4, pytest.approx(12.0)),
        "asyncjobs.errors.StoreFull": (2, pytest.approx(12.0)),
    }
