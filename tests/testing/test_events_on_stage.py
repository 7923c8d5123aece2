"""Events of a test go to the store of the test."""

from __future__ import annotations

import pytest

from asyncjobs import INJECTED, AsyncJobs, JobContext, NotOpen
from asyncjobs.testing import staged

app = AsyncJobs("memory:")


@app.job
async def settle(*, ctx: JobContext = INJECTED) -> str:
    paid: str = await ctx.wait_for("paid", key="17")
    return paid


@pytest.mark.anyio
async def test_an_event_wakes_a_job_of_the_test() -> None:
    with staged(app) as stage:
        handle = await settle.enqueue()
        assert (await stage.worker.drain()).suspended == 1
        assert await app.send_event("paid", "17", "in full") == 1
        assert (await stage.worker.drain()).succeeded == 1
        assert await handle.result(timeout=0) == "in full"
    with pytest.raises(NotOpen):
        await app.send_event("paid", "17")


@pytest.mark.anyio
async def test_an_event_of_a_test_stays_out_of_the_store_of_the_app() -> None:
    async with app:
        with staged(app):
            await app.send_event("paid", "17", "in a test")
        handle = await settle.enqueue()
        with staged(app) as stage:
            await settle.enqueue()
            assert (await stage.worker.drain()).suspended == 1
            assert await app.send_event("paid", "17", "again") == 1
        assert await app.send_event("paid", "17") == 0
        assert (await handle.info()).state == "ready"


def test_events_of_sync_tests() -> None:
    with staged(app) as stage:
        handle = settle.enqueue_sync()
        assert stage.worker.drain_sync().suspended == 1
        assert app.send_event_sync("paid", "17", "in full") == 1
        assert stage.worker.drain_sync().succeeded == 1
        assert handle.result_sync(timeout=0) == "in full"
