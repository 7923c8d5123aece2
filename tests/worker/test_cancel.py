"""Taking jobs back: before, while and after they run."""

from __future__ import annotations

import pytest

from asyncjobs import AsyncJobs, JobCancelled, RetryPolicy, State, Worker, constant
from tests.worker import jobs
from tests.worker.kit import LIMIT_S, Stage, counts, ended, register, working

pytestmark = pytest.mark.anyio


async def test_a_running_job_is_stopped(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, jobs.gated)
    async with working(app, lease=1):
        handle = await job.enqueue("g")
        await stage.noted(("started", "g"))
        assert await handle.cancel()
        with pytest.raises(JobCancelled):
            await handle.result(LIMIT_S)
        assert await handle.status() is State.CANCELLED
        assert not await handle.cancel()
    assert stage.notes[-2:] == [("stopped", "g"), ("left", "g")]


async def test_the_mark_also_comes_with_an_exchange(
    app: AsyncJobs, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A lease this long has no heartbeat within the test.
    job, echo = register(app, jobs.gated), register(app, jobs.echo)
    async with working(app, lease=600):
        handle = await job.enqueue("g")
        await stage.noted(("started", "g"))
        assert await handle.cancel()
        await (await echo.enqueue()).result(LIMIT_S)
        with pytest.raises(JobCancelled):
            await handle.result(LIMIT_S)


async def test_a_queued_job_never_runs(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, jobs.note)
    async with app:
        handle = await job.enqueue("never")
        assert await handle.cancel()
        report = await Worker(app).run(burst=True, burst_wait=0)
        assert report.taken == 0
        with pytest.raises(JobCancelled):
            await handle.result(0)
    assert stage.notes == []


async def test_a_job_between_two_attempts_is_taken_back(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, jobs.flaky, retry=RetryPolicy(5, constant(600)))
    async with working(app):
        handle = await job.enqueue(5)
        await ended(app, handle.id, State.SCHEDULED)
        assert await handle.cancel()
        with pytest.raises(JobCancelled):
            await handle.result(LIMIT_S)
        assert (await counts(app)).scheduled == 0
    assert stage.notes == [1]


async def test_a_job_that_swallows_its_cancellation_is_cancelled_all_the_same(
    app: AsyncJobs, stage: Stage
) -> None:
    job = register(app, jobs.stubborn)
    async with working(app, lease=1):
        handle = await job.enqueue("s")
        await stage.noted(("started", "s"))
        assert await handle.cancel()
        await stage.noted(("swallowed", "s"))
        stage.open("s")
        with pytest.raises(JobCancelled):
            await handle.result(LIMIT_S)


async def test_a_cancelled_job_without_results_ends_too(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, jobs.gated, result_ttl=0)
    async with working(app, lease=1):
        handle = await job.enqueue("g")
        await stage.noted(("started", "g"))
        assert await handle.cancel()
        await ended(app, handle.id, State.CANCELLED)
