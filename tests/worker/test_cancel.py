"""Taking jobs back: before, while and after they run."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from asyncjobs import AsyncJobs, JobCancelled, RetryPolicy, State, Worker, constant
from asyncjobs.model.clock import new_id
from asyncjobs.model.demand import Demand
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.answers import Exchange, Parked
from asyncjobs.store.lease import LeaseSpec, Offer
from asyncjobs.store.memory.lease import MemoryLease
from tests.hooked import HookedStore
from tests.worker import jobs
from tests.worker.kit import (
    LIMIT_S,
    Stage,
    counts,
    ended,
    listens,
    processor_of,
    register,
    until,
    working,
)

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


async def test_a_job_that_fails_while_it_is_cancelled_is_not_retried(
    app: AsyncJobs, stage: Stage
) -> None:
    job = register(app, jobs.flaky_and_unwanted, retry=RetryPolicy(5, constant(0)))
    stage.again = job
    async with working(app, lease=600):
        handle = await job.enqueue()
        with pytest.raises(JobCancelled):
            await handle.result(LIMIT_S)
        assert await handle.status() is State.CANCELLED


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


async def test_a_full_worker_hears_at_once(app: AsyncJobs, stage: Stage) -> None:
    """No heartbeat within the test, no slot for an exchange: only the call can be it."""
    job = register(app, jobs.tidies)
    async with working(app, lease=600, concurrency=3):
        handles = [await job.enqueue(name) for name in "abc"]
        for name in "abc":
            await stage.noted(("started", name))
        await listens(app)
        assert await handles[1].cancel()
        with pytest.raises(JobCancelled):
            await handles[1].result(LIMIT_S)
        assert [note for note in stage.notes if note[0] == "tidied"] == [("tidied", "b")]
        stage.open("a", "c")
        for handle in (handles[0], handles[2]):
            assert await handle.result(LIMIT_S) is None


async def test_who_entered_anew_hears_at_once(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, jobs.gated)
    async with working(app, lease=600, concurrency=1) as worker:
        handle = await job.enqueue("g")
        await stage.noted(("started", "g"))
        await listens(app)
        processor = processor_of(worker)
        lease = processor.session.spec
        # As a reclaim would: its entry is gone, and it takes the job again under another.
        other = replace(lease, id=new_id(), renewed={"default": lease.entry("default")})
        await app.backend.attach(other).leave()
        processor.note_lost(lease, ["default"])
        await stage.noted(("started", "g"), 2)
        assert await handle.cancel()
        await stage.noted(("stopped", "g"), 2)
        await ended(app, handle.id, State.CANCELLED)


async def test_one_of_two_workers_stops_the_job(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, jobs.gated)
    async with app, Worker(app, lease=600, concurrency=1), Worker(app, lease=600, concurrency=1):
        handles = [await job.enqueue("g") for _ in range(2)]
        await stage.noted(("started", "g"), 2)
        await listens(app, number=2)
        assert await handles[0].cancel()
        await ended(app, handles[0].id, State.CANCELLED)
        stage.open("g")
        assert await handles[1].result(LIMIT_S) == "g"


async def test_a_job_whose_worker_died_is_cancelled_without_a_run(
    app: AsyncJobs, stage: Stage
) -> None:
    job = register(app, jobs.note)
    async with app:
        handle = await job.enqueue("never")
        dead = await app.backend.lease(LeaseSpec(new_id(), "dead", ("default",), 1000))
        taken = await dead.exchange(1, [], {"default": Demand(1)})
        assert len(taken.jobs) == 1
        assert await handle.cancel()
        async with Worker(app, lease=1):
            await ended(app, handle.id, State.CANCELLED)
    assert stage.notes == []


class SlowReplies(HookedStore):
    """Holds back the reply of an exchange that has taken a job."""

    def __init__(self) -> None:
        super().__init__()
        self.has_taken = asyncio.Event()
        self.reply = asyncio.Event()

    async def park(self, lease: MemoryLease, timeout_s: float, offer: Offer | None) -> Parked:
        answer = await super().park(lease, timeout_s, offer)
        if answer.exchange and answer.exchange.jobs:
            self.has_taken.set()
            await self.reply.wait()
        return answer

    async def exchange(
        self,
        lease: MemoryLease,
        sequence: int,
        settlements: Sequence[Settlement],
        demand: Mapping[str, Demand],
    ) -> Exchange:
        answer = await super().exchange(lease, sequence, settlements, demand)
        if answer.jobs:
            self.has_taken.set()
            await self.reply.wait()
        return answer


@pytest.mark.parametrize("queues", [["default"], ["default", "other"]])
async def test_a_cancel_may_overtake_the_job_on_its_way(stage: Stage, queues: list[str]) -> None:
    """A worker of one queue gets it behind its wait, one of several by its next exchange."""
    store = SlowReplies()
    app = AsyncJobs(backend=store)
    job = register(app, jobs.note)
    async with app, Worker(app, queues=queues, lease=600) as worker:
        await listens(app)
        handle = await job.enqueue("never")
        await store.has_taken.wait()
        assert await handle.cancel()
        processor = processor_of(worker)
        await until(lambda: bool(processor.intake.holdings.unwanted))
        store.reply.set()
        await ended(app, handle.id, State.CANCELLED)
        assert processor.intake.holdings.unwanted == set()
    assert stage.notes == []
