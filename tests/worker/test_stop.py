"""Stopping a worker: finish, release, cancel; and what is left in the store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from asyncjobs import AsyncJobs, State, StoreUnavailable, UsageError, Worker
from asyncjobs.events import WorkerStarted, WorkerStopped
from asyncjobs.worker.lease.heartbeat import Heartbeats
from tests.tasks import every_task
from tests.worker import jobs
from tests.worker.kit import LIMIT_S, Stage, counts, events_of, processor_of, register, until

pytestmark = pytest.mark.anyio


async def test_what_runs_may_finish(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, jobs.gated)
    async with app:
        worker = Worker(app)
        run = asyncio.create_task(worker.run())
        first = await job.enqueue("g")
        await stage.noted(("started", "g"))
        worker.stop()
        second = await job.enqueue("after")
        stage.open("g")
        report = await run
        assert (report.taken, report.released) == (1, 0)
        assert await first.result(0) == "g"
        assert await second.status() is State.READY
        assert (await counts(app)).workers == 0


async def test_after_the_grace_jobs_are_given_back_unharmed(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, jobs.gated)
    async with app:
        worker = Worker(app, grace=0.05)
        run = asyncio.create_task(worker.run())
        handles = [await job.enqueue("g") for _ in range(500)]
        await stage.noted(("started", "g"), 500)
        worker.stop()
        report = await run
        assert (report.taken, report.released) == (500, 500)
        assert stage.count(("stopped", "g")) == 500
        found = await counts(app)
        assert (found.ready[2], found.running, found.workers) == (500, 0, 0)
        stage.open("g")
        async with Worker(app):
            for handle in handles:
                await handle.result(LIMIT_S)
    # A release spends no attempt.
    assert stage.count(("attempt", "g", 1)) == 1000


async def test_released_jobs_keep_their_place(app: AsyncJobs, stage: Stage) -> None:
    job, note = register(app, jobs.gated), register(app, jobs.note)
    async with app:
        async with Worker(app, grace=0, concurrency=2):
            await app.enqueue_many([job.bind("a"), job.bind("b"), note.bind("c"), note.bind("d")])
            await stage.noted(("started", "b"))
        stage.notes.clear()
        stage.open("a", "b")
        await Worker(app, concurrency=1).run(burst=True, burst_wait=0)
    order = [note for note in stage.notes if note in ("c", "d") or note[0] == "started"]
    assert order == [("started", "a"), ("started", "b"), "c", "d"]


async def test_a_second_stop_releases_at_once(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, jobs.gated)
    async with app:
        worker = Worker(app, grace=600)
        run = asyncio.create_task(worker.run())
        await job.enqueue("g")
        await stage.noted(("started", "g"))
        worker.stop()
        await asyncio.sleep(0)
        assert not run.done()
        worker.stop()
        assert (await run).released == 1
        assert (await counts(app)).ready[2] == 1


async def test_cancelling_run_releases(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, jobs.gated)
    async with app:
        run = asyncio.create_task(Worker(app).run())
        await job.enqueue("g")
        await stage.noted(("started", "g"))
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert ("stopped", "g") in stage.notes
        found = await counts(app)
        assert (found.ready[2], found.running, found.workers) == (1, 0, 0)


async def test_a_scope_around_run_can_be_cancelled(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, jobs.gated)
    async with app:
        await job.enqueue("g")
        with anyio.move_on_after(LIMIT_S) as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(Worker(app).run)
                await stage.noted(("started", "g"))
                tasks.cancel_scope.cancel()
        assert not scope.cancelled_caught
        found = await counts(app)
        assert (found.ready[2], found.running, found.workers) == (1, 0, 0)


async def test_a_finished_job_is_settled_on_the_way_out(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, jobs.gated)
    async with app:
        run = asyncio.create_task(Worker(app).run())
        handle = await job.enqueue("g")
        await stage.noted(("started", "g"))
        stage.open("g")
        await stage.noted(("left", "g"))
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
        assert await handle.result(0) == "g"


async def test_a_job_that_will_not_stop_is_let_go(
    app: AsyncJobs, stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("asyncjobs.worker.shift.LEAVE_S", 0.1)
    job = register(app, jobs.stubborn)
    async with app:
        worker = Worker(app, grace=0)
        run = asyncio.create_task(worker.run())
        handle = await job.enqueue("s")
        await stage.noted(("started", "s"))
        worker.stop()
        report = await run
        assert report.released == 1
        assert "ignores its cancellation" in caplog.text
        assert await handle.status() is State.READY
        stage.open("s")
        async with Worker(app):
            assert await handle.result(LIMIT_S) == "s"


async def test_stop_before_the_end_of_the_block_keeps_the_grace(
    app: AsyncJobs, stage: Stage
) -> None:
    job = register(app, jobs.gated)

    async def open_later() -> None:
        await asyncio.sleep(0.05)
        stage.open("g")

    async with app:
        async with Worker(app, grace=LIMIT_S) as worker:
            handle = await job.enqueue("g")
            await stage.noted(("started", "g"))
            worker.stop()
            opening = asyncio.create_task(open_later())
        await opening
        # Leaving the block is no second request to stop.
        assert await handle.result(0) == "g"


async def test_the_last_offer_goes_before_the_farewell(
    app: AsyncJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should the farewell be lost, the store would hand jobs to nobody."""
    waiting: list[list[str]] = []

    def watched(step: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        async def watching(*args: Any) -> None:
            names = [task.get_name() for task in every_task()]
            waiting.append([name for name in names if name == "asyncjobs-wait"])
            await step(*args)

        return watching

    async with app:
        # Nor while the heartbeat ends, which takes as long as the store needs to answer.
        monkeypatch.setattr(Heartbeats, "stop", watched(Heartbeats.stop))
        async with Worker(app, grace=1) as worker:
            processor = processor_of(worker)
            lease = processor.session.lease
            monkeypatch.setattr(lease, "leave", watched(lease.leave))
            await until(lambda: processor.parking._wait is not None)
    assert waiting == [[], []]


async def test_a_worker_that_was_stopped_can_run_again(app: AsyncJobs) -> None:
    job = register(app, jobs.echo)
    stopped = events_of(app, WorkerStopped)
    async with app:
        worker = Worker(app)
        async with worker:
            await (await job.enqueue(1)).result(LIMIT_S)
            worker.stop()
            await until(lambda: bool(stopped))
        async with worker:
            assert await (await job.enqueue(2)).result(LIMIT_S) == 2


async def test_one_run_at_a_time(app: AsyncJobs) -> None:
    async with app:
        async with Worker(app) as worker:
            with pytest.raises(UsageError, match="runs already"):
                await worker.run()
            with pytest.raises(UsageError, match="runs already"):
                await worker.__aenter__()
        assert (await counts(app)).workers == 0


async def test_a_worker_opens_the_app_itself(app: AsyncJobs) -> None:
    started = events_of(app, WorkerStarted)
    report = await Worker(app).run(burst=True, burst_wait=0)
    assert report.taken == 0
    assert len(started) == 1


async def test_a_worker_that_cannot_start_says_why() -> None:
    app = AsyncJobs("redis://127.0.0.1:1", connect_timeout=0.5)
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:1/"):
        await Worker(app).run()
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:1/"):
        async with Worker(app):
            pytest.fail("the worker has started")


async def test_running_counts_attempts(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, jobs.gated)
    async with app, Worker(app) as worker:
        assert worker.running == 0
        for _ in range(3):
            await job.enqueue("g")
        await until(lambda: worker.running == 3)
        stage.open("g")
        await until(lambda: worker.running == 0)
