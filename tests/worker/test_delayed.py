"""Delayed jobs, calls to an idle worker, and bursts. Also on uvloop, whose timers differ."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from asyncjobs import AsyncJobs, RetryPolicy, State, Worker, constant
from asyncjobs.events import JobStarted
from asyncjobs.model.clock import now_ms
from tests.worker import jobs
from tests.worker.kit import (
    LIMIT_S,
    Stage,
    counts,
    events_of,
    register,
    until,
    working,
)

pytestmark = pytest.mark.anyio
NO_LOOK_S = 600.0


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Both event loops that a worker runs on."""
    if request.param == "uvloop":
        pytest.importorskip("uvloop")
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


@pytest.fixture
def _no_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that looks by itself would hide a call that was lost."""
    monkeypatch.setattr("asyncjobs.worker.engine.parking.WAIT_S", NO_LOOK_S)


@pytest.mark.usefixtures("_no_looks")
async def test_an_idle_worker_is_called(app: AsyncJobs) -> None:
    job = register(app, jobs.echo)
    async with working(app):
        for number in range(20):
            assert await (await job.enqueue(number)).result(LIMIT_S) == number


@pytest.mark.usefixtures("_no_looks")
async def test_each_queue_of_an_idle_worker_is_heard(app: AsyncJobs) -> None:
    job = register(app, jobs.echo)
    queues = [f"queue-{number}" for number in range(5)]
    async with working(app, queues=queues):
        for queue in queues * 2:
            assert await (await job.options(queue=queue).enqueue(queue)).result(LIMIT_S) == queue


@pytest.mark.usefixtures("_no_looks")
async def test_a_call_to_a_full_worker_reaches_another(app: AsyncJobs, stage: Stage) -> None:
    gated, echo = register(app, jobs.gated), register(app, jobs.echo)
    async with app, Worker(app, concurrency=1):
        await gated.enqueue("g")
        await stage.noted(("started", "g"))
        async with Worker(app, concurrency=1):
            for number in range(10):
                assert await (await echo.enqueue(number)).result(LIMIT_S) == number
            stage.open("g")


@pytest.mark.usefixtures("_no_looks")
async def test_a_delayed_job_runs_and_not_before_its_time(app: AsyncJobs) -> None:
    job = register(app, jobs.echo)
    started = events_of(app, JobStarted)
    when: list[int] = []
    app.on(JobStarted, lambda _: when.append(now_ms()))
    async with working(app):
        handle = await job.options(delay=0.15).enqueue("later")
        due_at = (await handle.info()).due_at
        assert await handle.status() is State.SCHEDULED
        assert not started
        assert await handle.result(LIMIT_S) == "later"
    assert due_at is not None
    assert when[0] >= due_at.timestamp() * 1000 - 1


@pytest.mark.usefixtures("_no_looks")
async def test_a_job_at_a_time(app: AsyncJobs) -> None:
    job = register(app, jobs.echo)
    async with working(app):
        at = datetime.now(UTC) + timedelta(milliseconds=100)
        assert await (await job.options(at=at).enqueue("then")).result(LIMIT_S) == "then"
        past = at - timedelta(days=1)
        assert await (await job.options(at=past).enqueue("past")).result(LIMIT_S) == "past"


@pytest.mark.usefixtures("_no_looks")
async def test_an_earlier_job_wakes_one_who_sleeps_for_a_later_one(app: AsyncJobs) -> None:
    job = register(app, jobs.echo)
    async with working(app):
        late = await job.options(delay=600).enqueue("late")
        # The worker has seen the late one, and sleeps for it.
        assert await (await job.enqueue("now")).result(LIMIT_S) == "now"
        assert await (await job.options(delay=0.1).enqueue("soon")).result(LIMIT_S) == "soon"
        assert await late.status() is State.SCHEDULED


@pytest.mark.usefixtures("_no_looks")
async def test_many_delayed_jobs_in_their_order(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, jobs.note)
    async with working(app, concurrency=1):
        delays = [0.30, 0.1, 0.20, 0.15, 0.25]
        handles = await app.enqueue_many([job.options(delay=d).bind(d) for d in delays])
        for handle in handles:
            await handle.result(LIMIT_S)
    assert stage.notes == sorted(delays)


@pytest.mark.usefixtures("_no_looks")
async def test_retries_come_back_by_the_timer(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, jobs.flaky, retry=RetryPolicy(10, constant(0.01)))
    async with working(app):
        assert await (await job.enqueue(8)).result(LIMIT_S) == 9


async def test_a_burst_ends_when_all_is_done(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, jobs.note)
    async with app:
        await app.enqueue_many([job.bind(number) for number in range(300)])
        report = await Worker(app, concurrency=7).run(burst=True, burst_wait=0)
        assert (report.taken, report.released) == (300, 0)
    assert sorted(stage.notes) == list(range(300))


async def test_a_burst_without_jobs_ends_at_once(app: AsyncJobs) -> None:
    async with app:
        report = await Worker(app, queues=["a", "b", "c"]).run(burst=True)
    assert report.taken == 0


async def test_a_burst_waits_for_what_is_due_soon(app: AsyncJobs, stage: Stage) -> None:
    flaky = register(app, jobs.flaky, retry=RetryPolicy(3, constant(0.05)))
    echo = register(app, jobs.echo)
    async with app:
        handle = await flaky.enqueue(2)
        late = await echo.options(delay=600).enqueue("late")
        report = await Worker(app).run(burst=True, burst_wait=5)
        assert report.taken == 3
        assert await handle.result(0) == 3
        assert await late.status() is State.SCHEDULED


async def test_a_burst_takes_what_its_jobs_enqueue(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, jobs.enqueues, queue="deep")
    stage.again = job
    async with app:
        await job.enqueue(20)
        await Worker(app, queues=["other", "deep"]).run(burst=True, burst_wait=0)
        assert sum((await counts(app, "deep")).ready) == 0
    assert stage.notes == list(range(20, -1, -1))


async def test_a_burst_waits_for_running_jobs(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, jobs.gated)
    async with app:
        await job.enqueue("g")
        run = asyncio.create_task(Worker(app).run(burst=True, burst_wait=0))
        await stage.noted(("started", "g"))
        second = await job.enqueue("h")
        await stage.noted(("started", "h"))
        stage.open("g", "h")
        assert (await run).taken == 2
        assert await second.status() is State.SUCCEEDED


async def test_a_burst_ends_while_another_worker_is_busy(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, jobs.gated)
    async with app, Worker(app):
        await job.enqueue("g")
        await stage.noted(("started", "g"))
        await until(lambda: stage.count(("started", "g")) == 1)
        report = await Worker(app).run(burst=True, burst_wait=0)
        assert report.taken == 0
        stage.open("g")
