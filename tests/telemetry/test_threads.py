"""A sync job function begins when there is a thread for it, in traces and metrics too."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from asyncjobs import AsyncJobs, JobCancelled, JobHandle, State, Worker, events
from asyncjobs.telemetry.logs import JobContextFilter, JobLog
from tests.telemetry import tasks
from tests.telemetry.reading import Reading
from tests.telemetry.recording import Recording, context_of
from tests.worker import jobs
from tests.worker.kit import LIMIT_S, NewApp, Stage, ended, events_of, processor_of, register, until

pytestmark = pytest.mark.anyio

ACTIVE = "asyncjobs.jobs.active"
PROCESS = "messaging.process.duration"
QUEUE_TIME = "asyncjobs.job.queue_time"


@pytest.fixture
def app(new_app: NewApp, reading: Reading, recording: Recording) -> AsyncJobs:
    return new_app(meter_provider=reading.provider, tracer_provider=recording.provider)


@asynccontextmanager
async def one_waits(
    app: AsyncJobs, stage: Stage, **options: object
) -> AsyncIterator[tuple[Worker, JobHandle[object]]]:
    """A worker whose one thread is busy, and a job that has been taken and waits for it."""
    first, job = register(app, jobs.thread_gated), register(app, tasks.looks_in_thread)
    register(app, jobs.echo)  # a queue with async functions too is taken from beyond the threads
    async with app, Worker(app, threads=1, grace=0) as worker:
        await first.enqueue("t")
        await stage.noted(("started", "t"))
        handle = await job.options(**options).enqueue()  # type: ignore[arg-type]
        await until(lambda: worker.running == 2)
        yield worker, handle


async def test_its_wait_is_no_part_of_its_attempt(
    app: AsyncJobs,
    reading: Reading,
    recording: Recording,
    stage: Stage,
    thread_gate: threading.Event,
) -> None:
    started = events_of(app, events.JobStarted)
    async with one_waits(app, stage) as (_, handle):
        assert reading.total(ACTIVE) == 1
        assert reading.total(QUEUE_TIME) == 1
        assert [event.name for event in started] == ["thread_gated"]
        await asyncio.sleep(0.1)
        opened_ns = time.time_ns()
        thread_gate.set()
        seen = await handle.result(LIMIT_S)
        _, second = await recording.ended(2)
    assert seen == context_of(second).span_id
    assert second.start_time is not None
    # There is one thread, and it was not free before.
    assert second.start_time >= opened_ns
    assert (second.attributes or {})["asyncjobs.job.outcome"] == "succeeded"
    assert [event.name for event in started] == ["thread_gated", "looks_in_thread"]
    # Queued until it had its thread. The store's clock may differ by some milliseconds.
    assert started[1].queue_time_ms >= 60
    assert started[1].queue_time_ms == (second.attributes or {})["asyncjobs.job.queue_time_ms"]
    assert reading.total(ACTIVE) == 0
    assert reading.total(PROCESS) == 2


async def test_one_cancelled_while_it_waits_has_not_run(
    app: AsyncJobs,
    reading: Reading,
    recording: Recording,
    stage: Stage,
    thread_gate: threading.Event,
) -> None:
    heard = events_of(app, events.JobCancelled)
    async with one_waits(app, stage) as (worker, handle):
        processor_of(worker).cancel([handle.ref])
        with pytest.raises(JobCancelled):
            await handle.result(LIMIT_S)
        assert heard == [events.JobCancelled(handle.ref, "looks_in_thread", 1, 0.0)]
        assert reading.total("asyncjobs.jobs.finished") == 1
        assert reading.total("messaging.client.consumed.messages") == 2
        assert reading.total(PROCESS) == 0
        assert recording.attempts() == []
        thread_gate.set()


async def test_one_that_expires_while_it_waits_has_not_run(
    app: AsyncJobs,
    reading: Reading,
    recording: Recording,
    stage: Stage,
    thread_gate: threading.Event,
) -> None:
    async with one_waits(app, stage, expires=0.5) as (worker, handle):
        processor = processor_of(worker)
        # The store's clock is ahead by more than its time.
        processor.runner.clock_ahead_ms += 60_000
        thread_gate.set()
        await ended(app, handle.id, State.DISCARDED)
        (attempt,) = await recording.ended(1)
    assert attempt.name == "process thread_gated"
    assert reading.total(PROCESS) == 1
    assert reading.total(ACTIVE) == 0
    assert reading.total("asyncjobs.jobs.finished") == 2


async def test_one_given_back_while_it_waits_was_consumed_and_has_not_run(
    app: AsyncJobs,
    reading: Reading,
    recording: Recording,
    stage: Stage,
    thread_gate: threading.Event,
) -> None:
    released = events_of(app, events.JobReleased)
    async with one_waits(app, stage):
        pass
    thread_gate.set()
    assert sorted(event.name for event in released) == ["looks_in_thread", "thread_gated"]
    assert reading.total("messaging.client.consumed.messages") == 2
    assert reading.total(PROCESS) == 1
    assert reading.total(ACTIVE) == 0
    assert [span.name for span in recording.attempts()] == ["process thread_gated"]


async def test_one_that_is_not_traced_is_in_no_span(
    app: AsyncJobs, reading: Reading, recording: Recording
) -> None:
    job = register(app, tasks.looks_in_thread, tracing="none")
    with recording.provider.get_tracer("shop").start_as_current_span("lifespan"):
        async with app, Worker(app):
            assert await (await job.enqueue()).result(LIMIT_S) == 0
    assert recording.attempts() == []
    assert reading.total(PROCESS) == 1


@pytest.mark.parametrize("function", [tasks.looks, tasks.looks_in_thread])
async def test_the_lines_of_its_start_and_end_have_the_trace(
    app: AsyncJobs, recording: Recording, caplog: pytest.LogCaptureFixture, function: object
) -> None:
    caplog.handler.addFilter(keep := JobContextFilter())
    caplog.set_level("DEBUG", "asyncjobs.jobs")
    JobLog().attach(app.events)
    try:
        async with app, Worker(app):
            await (await register(app, function).enqueue()).result(LIMIT_S)  # type: ignore[arg-type]
            (attempt,) = await recording.ended(1)
    finally:
        caplog.handler.removeFilter(keep)
    lines = [record for record in caplog.records if record.name == "asyncjobs.jobs"]
    assert ["started" in lines[0].getMessage(), "succeeded" in lines[1].getMessage()] == [True] * 2
    trace = f"{context_of(attempt).trace_id:032x}"
    assert [record.__dict__.get("trace_id") for record in lines] == [trace, trace]
    assert lines[0].__dict__["span_id"] == f"{context_of(attempt).span_id:016x}"
