"""Queue time, deadline and age go by the store's clock, not by the worker's."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from asyncjobs import INJECTED, AsyncJobs, JobContext, Worker
from asyncjobs.events import JobStarted
from asyncjobs.jobs.times import from_ms
from asyncjobs.store.memory import MemoryBackend
from asyncjobs.store.seam import StoreSettings
from asyncjobs.testing.conformance.store import PinnedClock
from tests.worker.kit import events_of

pytestmark = pytest.mark.anyio

DEADLINES: list[Any] = []


async def deadline(*, ctx: JobContext = INJECTED) -> None:
    DEADLINES.append(ctx.deadline)


async def test_times_are_those_of_the_store() -> None:
    clock = PinnedClock()
    app = AsyncJobs(backend=MemoryBackend(StoreSettings(), now_ms=clock))
    job = app.job(timeout=100)(deadline)
    started = events_of(app, JobStarted)
    async with app:
        await job.enqueue()
        clock.ms += 5_000
        await Worker(app).run(burst=True)
    (event,) = started
    # The clock stands still; only what the worker itself took comes on top.
    assert 5_000 <= event.queue_time_ms < 65_000
    (due,) = DEADLINES
    assert timedelta(0) <= due - from_ms(clock.ms + 100_000) < timedelta(minutes=1)
