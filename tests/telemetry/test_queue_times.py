"""How long a job was queued: the same in each place that tells it, and never 0 for one that
waited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from opentelemetry.sdk.metrics.export import HistogramDataPoint

from asyncjobs import AsyncJobs, Worker, events
from asyncjobs.telemetry import tracing
from asyncjobs.telemetry.logs import JobLog
from tests.telemetry import tasks
from tests.telemetry.reading import Reading
from tests.telemetry.recording import Recording
from tests.worker.kit import NewApp, events_of, register

pytestmark = pytest.mark.anyio

WAITED_S = 0.1
LEAST_MS = 60
"""Less than what was waited: the clock of a store may be behind by some milliseconds."""


@pytest.fixture(params=["at once", "a turn later"], autouse=True)
async def _starts(request: pytest.FixtureRequest, anyio_backend: object) -> AsyncIterator[None]:
    """When a task makes its first step. At once only from Python 3.12 on."""
    loop = asyncio.get_running_loop()
    if request.param == "a turn later":
        loop.set_task_factory(lambda loop, body, **more: asyncio.Task(body, loop=loop, **more))
    yield
    loop.set_task_factory(None)


async def run_one_that_waited(app: AsyncJobs, function: Callable[..., Any]) -> None:
    job = register(app, function)
    async with app:
        await job.enqueue()
        await asyncio.sleep(WAITED_S)
        await Worker(app).run(burst=True)


@pytest.mark.parametrize("function", [tasks.looks, tasks.looks_in_thread])
async def test_a_traced_job_tells_how_long_it_waited(
    new_app: NewApp,
    reading: Reading,
    recording: Recording,
    caplog: pytest.LogCaptureFixture,
    function: Callable[..., Any],
) -> None:
    app = new_app(meter_provider=reading.provider, tracer_provider=recording.provider)
    started = events_of(app, events.JobStarted)
    caplog.set_level("DEBUG", "asyncjobs.jobs")
    JobLog().attach(app.events)
    await run_one_that_waited(app, function)
    (event,) = started
    assert event.info is not None
    assert event.queue_time_ms >= LEAST_MS
    assert event.info.queue_time_ms == event.queue_time_ms
    (span,) = recording.attempts()
    assert (span.attributes or {})["asyncjobs.job.queue_time_ms"] == event.queue_time_ms
    metric = reading.metrics()["asyncjobs.job.queue_time"]
    (point,) = metric.data.data_points
    assert isinstance(point, HistogramDataPoint)
    assert point.sum == pytest.approx(event.queue_time_ms / 1000)
    lines = [record for record in caplog.records if record.name == "asyncjobs.jobs"]
    assert lines[0].__dict__["queue_time_ms"] == event.queue_time_ms


@pytest.mark.parametrize("function", [tasks.looks, tasks.looks_in_thread])
@pytest.mark.parametrize(("limit_ms", "is_child"), [(LEAST_MS, False), (30_000, True)])
async def test_auto_goes_by_how_long_it_waited(
    new_app: NewApp,
    recording: Recording,
    monkeypatch: pytest.MonkeyPatch,
    function: Callable[..., Any],
    limit_ms: int,
    is_child: bool,
) -> None:
    monkeypatch.setattr(tracing, "AUTO_MS", limit_ms)
    app = new_app(tracer_provider=recording.provider, tracing="auto")
    await run_one_that_waited(app, function)
    (span,) = recording.attempts()
    assert (span.parent is not None) is is_child
