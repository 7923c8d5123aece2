"""Jobs that swallow their cancellation: reported, and their slots freed."""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncIterator

import pytest

from asyncjobs import AsyncJobs, JobCancelled, JobFailed, RetryPolicy, State, constant
from asyncjobs.events import AttemptEnded, JobsReclaimed, JobStuck
from asyncjobs.events import JobCancelled as CancelledEvent
from tests.worker import jobs
from tests.worker.kit import (
    LIMIT_S,
    Mute,
    Stage,
    counts,
    ended,
    events_of,
    processor_of,
    register,
    until,
    working,
)

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
async def _no_job_hangs_on(stage: Stage) -> AsyncIterator[None]:
    """What a failing test leaves at its gate would keep the loop from its end."""
    yield
    stage.open_all()


async def test_a_cancelled_job_that_goes_on_frees_its_slot(
    app: AsyncJobs, stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stuck, ends = events_of(app, JobStuck), events_of(app, AttemptEnded)
    job, echo = register(app, jobs.stubborn), register(app, jobs.echo)
    async with working(app, concurrency=1, stuck_after=0.1) as worker:
        handle = await job.enqueue("s")
        await stage.noted(("started", "s"))
        assert await handle.cancel()
        with pytest.raises(JobCancelled):
            await handle.result(LIMIT_S)
        assert await handle.status() is State.CANCELLED
        # The only slot is free, and how the attempt ends is nobody's business.
        assert await (await echo.enqueue(1)).result(LIMIT_S) == 1
        assert worker.running == 0
        stage.open("s")
        await until(lambda: stage.count(("swallowed", "s")) >= 1)
        assert await (await echo.enqueue(2)).result(LIMIT_S) == 2
        assert await handle.status() is State.CANCELLED
    (event,) = stuck
    assert (event.ref, event.name, event.attempt, event.reason) == (
        handle.ref,
        "stubborn",
        1,
        "cancel",
    )
    assert event.seconds >= 0.1
    assert "await gate.wait()" in event.stack
    assert [type(end) for end in ends if end.ref == handle.ref] == [CancelledEvent]
    (line,) = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert f"{handle.ref}: stuck: it was cancelled" in line
    assert event.stack in line


async def test_a_time_out_that_is_swallowed_is_a_failed_attempt(
    app: AsyncJobs, stage: Stage
) -> None:
    stuck = events_of(app, JobStuck)
    job = register(app, jobs.stubborn, timeout=0.05, retry=RetryPolicy(2, constant(0)))
    async with working(app, concurrency=1, stuck_after=0.1):
        handle = await job.enqueue("s")
        await ended(app, handle.id, State.DEAD)
        stage.open("s")
    assert [event.reason for event in stuck] == ["timeout", "timeout"]
    assert stage.count(("started", "s")) == 2


async def test_the_death_tells_where_it_hung(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, jobs.stubborn, timeout=0.05, retry=False)
    async with working(app, stuck_after=0.1):
        handle = await job.enqueue("s")
        with pytest.raises(JobFailed, match="took longer") as failed:
            await handle.result(LIMIT_S)
        stage.open("s")
    assert "await gate.wait()" in (failed.value.remote_traceback or "")


async def test_a_lost_lease_that_is_swallowed_settles_nothing(
    app: AsyncJobs, stage: Stage, mute: Mute
) -> None:
    stuck, reclaimed = events_of(app, JobStuck), events_of(app, JobsReclaimed)
    job = register(app, jobs.stubborn)
    async with working(app, lease=1, stuck_after=0.1):
        handle = await job.enqueue("s")
        await stage.noted(("started", "s"))
        mute.on = True
        await until(lambda: bool(reclaimed))
        mute.on = False
        await until(lambda: bool(stuck))
        await stage.noted(("started", "s"), 2)
        assert await handle.status() is State.RUNNING
        stage.open("s")
        assert await handle.result(LIMIT_S) == "s"
    assert [event.reason for event in stuck] == ["lease lost"]


async def test_a_job_that_ends_in_time_is_not_stuck(app: AsyncJobs, stage: Stage) -> None:
    stuck = events_of(app, JobStuck)
    job = register(app, jobs.gated)
    async with working(app, stuck_after=30):
        handle = await job.enqueue("g")
        await stage.noted(("started", "g"))
        assert await handle.cancel()
        with pytest.raises(JobCancelled):
            await handle.result(LIMIT_S)
    assert stuck == []


async def test_a_thread_keeps_its_slot(
    app: AsyncJobs, stage: Stage, thread_gate: threading.Event
) -> None:
    stuck = events_of(app, JobStuck)
    job = register(app, jobs.thread_gated)
    async with working(app, stuck_after=0.05) as worker:
        handle = await job.enqueue("t")
        await stage.noted(("started", "t"))
        assert await handle.cancel()
        processor = processor_of(worker)
        await until(lambda: any(each.reason is not None for each in processor.running._attempts))
        # As if ever so much time had passed.
        assert processor.running.stubborn(float("inf")) == []
        assert (await counts(app)).running == 1
        thread_gate.set()
        with pytest.raises(JobCancelled):
            await handle.result(LIMIT_S)
    assert stuck == []


async def test_what_is_stuck_at_the_end_is_let_go(app: AsyncJobs, stage: Stage) -> None:
    """A job that a shutdown stops is the shutdown's, however long it takes."""
    job = register(app, jobs.stubborn)
    async with working(app, stuck_after=0.05, grace=0) as worker:
        await job.enqueue("s")
        await stage.noted(("started", "s"))
        processor = processor_of(worker)
        worker.stop()
        await stage.noted(("swallowed", "s"))
        assert processor.running.stubborn(float("inf")) == []
        stage.open("s")
