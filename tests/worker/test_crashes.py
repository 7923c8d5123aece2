"""A job that has been running when workers died: its crashes count against it alone."""

from __future__ import annotations

import pytest

from asyncjobs import AsyncJobs, JobFailed, Worker
from asyncjobs.events import JobStarted
from asyncjobs.model.clock import new_id
from asyncjobs.model.demand import Demand
from asyncjobs.store.lease import LeaseSpec
from tests.worker import jobs
from tests.worker.kit import LIMIT_S, Stage, events_of, eventually, register

pytestmark = pytest.mark.anyio


async def crash(app: AsyncJobs, jobs_held: int) -> None:
    """Let a worker die that holds so many jobs."""
    lease = await app.backend.lease(LeaseSpec(new_id(), "dead", ("default",), 1))
    demand = {"default": Demand(jobs_held, suspects=(jobs_held,))}
    assert len((await lease.exchange(1, [], demand)).jobs) == jobs_held

    async def reclaimed() -> bool:
        return (await app.backend.reclaim(["default"], 0, 100)).returned == jobs_held

    await eventually(reclaimed)


@pytest.mark.parametrize("crashes", [5, 6])
async def test_the_sixth_crash_makes_a_job_dead(app: AsyncJobs, stage: Stage, crashes: int) -> None:
    job = register(app, jobs.echo)
    started = events_of(app, JobStarted)
    async with app:
        handle = await job.enqueue("poison")
        for _ in range(crashes):
            await crash(app, 1)
        innocent = await job.enqueue("innocent")
        async with Worker(app):
            assert await innocent.result(LIMIT_S) == "innocent"
            if crashes < 6:
                assert await handle.result(LIMIT_S) == "poison"
            else:
                with pytest.raises(JobFailed, match="crashed"):
                    await handle.result(LIMIT_S)
    assert (handle.id in {event.ref.id for event in started}) is (crashes < 6)
