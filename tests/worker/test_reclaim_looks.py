"""Who gives back the jobs of a dead worker looks for them, whoever else was called."""

from __future__ import annotations

import asyncio

import pytest

from asyncjobs import Worker
from asyncjobs.model.clock import new_id
from asyncjobs.model.demand import Demand
from asyncjobs.store.lease import LeaseSpec
from tests.worker import jobs
from tests.worker.kit import LIMIT_S, NewApp, register

pytestmark = pytest.mark.anyio


async def test_a_call_that_a_worker_standing_still_has_got(
    new_app: NewApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asyncjobs.worker.engine.parking.WAIT_S", 60)
    app, other = new_app(), new_app()
    job = register(app, jobs.echo)
    async with app, other:
        if not app.backend.capabilities.shared:
            pytest.skip("no other process can wait at this store")
        handle = await job.enqueue(7)
        dead = await app.backend.lease(LeaseSpec(new_id(), "dead", ("default",), 300))
        taken = await dead.exchange(1, [], {"default": Demand(1)})
        assert [held.id for held in taken.jobs] == [handle.id]

        # Parked for longer than anybody else, it gets each call, and does nothing.
        still = await other.backend.lease(LeaseSpec(new_id(), "still", ("default",), 60_000))
        assert (await still.park(10)).signalled == ("default",)
        waiting = asyncio.create_task(still.park(60))
        async with Worker(app, lease=1, grace=2):
            assert await handle.result(LIMIT_S) == 7
        assert list((await waiting).signalled) == ["default"]
        await still.leave()
