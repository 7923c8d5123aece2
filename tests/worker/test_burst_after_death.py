"""A burst worker does not leave behind what a dead worker held."""

from __future__ import annotations

import asyncio

import pytest

from asyncjobs import AsyncJobs, State, Worker
from asyncjobs.model.clock import new_id
from asyncjobs.model.demand import Demand
from asyncjobs.store.lease import Lease, LeaseSpec
from tests.worker import jobs
from tests.worker.kit import register

pytestmark = pytest.mark.anyio


async def test_burst_waits_for_the_jobs_of_a_lease_that_is_over(app: AsyncJobs) -> None:
    job = register(app, jobs.echo).options(queue="work")
    async with app:
        handle = await job.enqueue(7)
        dead = await app.backend.lease(LeaseSpec(new_id(), "dead", ("work",), 300))
        taken = await dead.exchange(1, [], {"work": Demand(1)})
        assert [held.id for held in taken.jobs] == [handle.id]
        await _until_over(app, dead)
        async with asyncio.timeout(30):
            report = await Worker(app, queues="work", lease=1).run(burst=True, burst_wait=0)
        assert report.taken == 1
        assert await handle.status() is State.SUCCEEDED


async def _until_over(app: AsyncJobs, dead: Lease) -> None:
    """Until the store's clock has passed the end of the lease; nobody renews it."""
    watcher = await app.backend.lease(LeaseSpec(new_id(), "watcher", ("work",), 60_000))
    async with asyncio.timeout(10):
        while True:
            beat = await watcher.beat()
            assert beat.next_lease_end_ms is not None
            if beat.next_lease_end_ms < beat.now_ms:
                break
            await asyncio.sleep(0.02)
    await watcher.leave()
