"""Leases: kept while a job blocks the loop, lost when nobody renews them."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

from asyncjobs import AsyncJobs, JobCancelled, State, Worker
from asyncjobs.events import (
    AttemptEnded,
    JobLost,
    JobsReclaimed,
    JobStarted,
    JobSucceeded,
    LeaseLost,
)
from asyncjobs.store.lease import LeaseSpec
from asyncjobs.worker.duties.reclaim import Reclaim
from tests.worker import jobs
from tests.worker.kit import (
    LIMIT_S,
    Mute,
    Stage,
    counts,
    events_of,
    eventually,
    processor_of,
    register,
    until,
)

pytestmark = pytest.mark.anyio


async def test_a_lost_lease_stops_its_jobs_and_is_entered_anew(
    app: AsyncJobs, stage: Stage, mute: Mute, caplog: pytest.LogCaptureFixture
) -> None:
    reclaimed, lost = events_of(app, JobsReclaimed), events_of(app, LeaseLost)
    succeeded = events_of(app, JobSucceeded)
    job, echo = register(app, jobs.gated), register(app, jobs.echo)
    async with app, Worker(app, lease=1, grace=2, name="w1"):
        handle = await job.enqueue("g")
        await stage.noted(("started", "g"))
        mute.on = True
        await until(lambda: bool(reclaimed))
        mute.on = False
        await stage.noted(("started", "g"), 2)
        assert ("stopped", "g") in stage.notes
        assert lost[0] == LeaseLost("w1", ("default",))
        stage.open("g")
        assert await handle.result(LIMIT_S) == "g"
        assert await (await echo.enqueue(1)).result(LIMIT_S) == 1
        assert [event.ref for event in succeeded].count(handle.ref) == 1
        found = await counts(app)
        assert (found.running, sum(found.ready), found.workers) == (0, 0, 1)
    # A reclaim spends no attempt.
    assert stage.count(("attempt", "g", 1)) == 2


async def test_without_confirmation_nothing_new_is_started(
    app: AsyncJobs, mute: Mute, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def put_off(duty: Reclaim) -> float:
        return 600.0

    # Nobody takes the lease away: it is over, and the worker does not know whether.
    monkeypatch.setattr(Reclaim, "run", put_off)
    started = events_of(app, JobStarted)
    job = register(app, jobs.echo)
    async with app, Worker(app, lease=1) as worker:
        await (await job.enqueue(1)).result(LIMIT_S)
        mute.on = True
        processor = processor_of(worker)
        session = processor.session
        await until(lambda: not session.is_confirmed(time.monotonic()))
        handle = await job.enqueue(2)
        await asyncio.sleep(0.1)  # long enough for the call of the new job to arrive
        assert len(started) == 1
        mute.on = False
        assert await handle.result(LIMIT_S) == 2


async def test_what_ended_under_a_lost_lease_is_not_settled(
    app: AsyncJobs, stage: Stage, mute: Mute
) -> None:
    reclaimed = events_of(app, JobsReclaimed)
    job = register(app, jobs.stubborn)
    async with app, Worker(app, lease=1, grace=2):
        handle = await job.enqueue("s")
        await stage.noted(("started", "s"))
        mute.on = True
        await until(lambda: bool(reclaimed))
        mute.on = False
        # The job is taken anew while its first attempt, told to stop, goes on.
        await stage.noted(("started", "s"), 2)
        await stage.noted(("swallowed", "s"))
        assert await handle.status() is State.RUNNING
        stage.open("s")
        assert await handle.result(LIMIT_S) == "s"
        assert (await counts(app)).running == 0


async def test_a_job_of_another_worker_is_lost_and_not_released_at_a_stop(
    app: AsyncJobs, stage: Stage
) -> None:
    lost, ended = events_of(app, JobLost), events_of(app, AttemptEnded)
    job = register(app, jobs.stubborn)
    async with app:
        worker = Worker(app, lease=60, grace=0)
        run = asyncio.create_task(worker.run())
        handle = await job.enqueue("s")
        await stage.noted(("started", "s"))
        processor = processor_of(worker)
        processor.quiet()  # so it does not take the job again
        lease = processor.session.spec
        await app.backend.attach(lease).leave()
        processor.note_lost(lease, ["default"])
        await stage.noted(("swallowed", "s"))
        worker.stop()
        await stage.noted(("swallowed", "s"), 2)
        stage.open("s")
        report = await run
        assert report.released == 0
        assert [event.ref for event in lost] == [handle.ref]
        assert ended == lost
        assert await handle.status() is State.READY


async def test_another_worker_takes_over(app: AsyncJobs, stage: Stage, mute: Mute) -> None:
    lost = events_of(app, LeaseLost)
    job = register(app, jobs.gated)
    async with app, Worker(app, lease=1, concurrency=5, grace=2, name="w1"):
        handles = [await job.enqueue("g") for _ in range(5)]
        await stage.noted(("started", "g"), 5)
        mute.on = True
        # Its lease outlives the test's mute time.
        async with Worker(app, lease=60, concurrency=5, name="w2"):
            await stage.noted(("started", "g"), 10)
            mute.on = False
            await until(lambda: bool(lost))
            await stage.noted(("stopped", "g"), 5)
            stage.open("g")
            for handle in handles:
                assert await handle.result(LIMIT_S) == "g"
    assert lost == [LeaseLost("w1", ("default",))]
    assert stage.count(("started", "g")) == 10


async def test_a_lease_lost_in_one_queue_only(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, jobs.gated)
    async with app, Worker(app, queues=["one", "two"], lease=60, grace=2) as worker:
        first = await job.options(queue="one").enqueue("one")
        second = await job.options(queue="two").enqueue("two")
        await stage.noted(("started", "one"))
        await stage.noted(("started", "two"))
        processor = processor_of(worker)
        lease = processor.session.spec
        # Leaving behind the worker's back is what a reclaim in one queue looks like.
        await _leave_one_queue(app, lease, "one")
        processor.note_lost(lease, ["one"])
        await stage.noted(("started", "one"), 2)
        assert ("stopped", "two") not in stage.notes
        stage.open("one", "two")
        assert await first.result(LIMIT_S) == "one"
        assert await second.result(LIMIT_S) == "two"
    assert stage.count(("started", "two")) == 1


async def _leave_one_queue(app: AsyncJobs, spec: LeaseSpec, queue: str) -> None:
    await app.backend.attach(replace(spec, queues=(queue,))).leave()


async def test_a_blocked_loop_keeps_its_lease(app: AsyncJobs, stage: Stage) -> None:
    if not app_is_threaded(app):
        pytest.skip("this store has no heartbeat in a thread")
    lost, reclaimed = events_of(app, LeaseLost), events_of(app, JobsReclaimed)
    job, echo = register(app, jobs.gated), register(app, jobs.echo)
    async with app, Worker(app, lease=1, grace=2):
        handle = await job.enqueue("g")
        await stage.noted(("started", "g"))
        time.sleep(2.5)
        stage.open("g")
        assert await handle.result(LIMIT_S) == "g"
        assert await (await echo.enqueue(1)).result(LIMIT_S) == 1
    assert lost == []
    assert reclaimed == []


def app_is_threaded(app: AsyncJobs) -> bool:
    return app._openings.new_backend().capabilities.threaded_heartbeat


async def test_a_cancel_reaches_who_took_the_job_over(
    app: AsyncJobs, stage: Stage, mute: Mute
) -> None:
    job = register(app, jobs.gated)
    async with app:
        async with Worker(app, lease=60, grace=0):
            handle = await job.enqueue("g")
            await stage.noted(("started", "g"))
        async with Worker(app, lease=1):
            await stage.noted(("started", "g"), 2)
            assert await handle.cancel()
            with pytest.raises(JobCancelled):
                await handle.result(LIMIT_S)


async def test_leaving_leaves_nothing_behind(app: AsyncJobs) -> None:
    job = register(app, jobs.echo)
    async with app:
        async with Worker(app, queues=["default", "mail"]):
            await (await job.enqueue(1)).result(LIMIT_S)

        async def nobody() -> bool:
            return all([(await counts(app, name)).workers == 0 for name in ("default", "mail")])

        await eventually(nobody)
