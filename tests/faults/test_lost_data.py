"""The store has lost a part of what it held, or all: workers enter anew and go on."""

from __future__ import annotations

import asyncio

import pytest

from asyncjobs import AsyncJobs, Worker
from asyncjobs.events import LeaseLost
from asyncjobs.testing.servers import Server
from tests.worker import jobs
from tests.worker.kit import LIMIT_S, Stage, events_of, eventually, is_settled, register, until

pytestmark = pytest.mark.anyio

STREAM = "{asyncjobs:default}:ready:2"


@pytest.mark.parametrize("how", ["flush", "restart"])
async def test_an_idle_worker_enters_an_empty_store_anew(server: Server, how: str) -> None:
    app = AsyncJobs(server.url, connect_timeout=5)
    lost = events_of(app, LeaseLost)
    echo = register(app, jobs.echo)
    async with app, Worker(app, grace=2):
        for number in range(1, 4):
            assert await (await echo.enqueue(number)).result(LIMIT_S) == number
            if how == "flush":
                await asyncio.to_thread(server.command, "FLUSHALL")
            else:
                await asyncio.to_thread(server.kill)
                await asyncio.to_thread(server.restart)
            assert await (await echo.enqueue("after")).result(LIMIT_S) == "after"
            assert len(lost) == number
        # The whole inventory is there again, for the commands.
        assert await asyncio.to_thread(server.command, "SMEMBERS", "asyncjobs:queues")


async def test_data_lost_while_a_worker_is_full(server: Server, stage: Stage) -> None:
    """Its jobs are not in the store any more: they are stopped, and it takes new ones."""
    app = AsyncJobs(server.url, connect_timeout=5)
    gated, echo = register(app, jobs.gated), register(app, jobs.echo)
    async with app, Worker(app, concurrency=3, lease=1, grace=2):
        for _ in range(3):
            await gated.enqueue("g")
        await stage.noted(("started", "g"), 3)
        await asyncio.to_thread(server.command, "FLUSHALL")
        await stage.noted(("stopped", "g"), 3)
        assert await (await echo.enqueue(1)).result(LIMIT_S) == 1
        await eventually(lambda: is_settled(app))


LOST = pytest.mark.unaudited("the index names jobs whose stream was deleted under it")


@pytest.mark.parametrize(
    "how",
    [("XGROUP", "DESTROY", STREAM, "workers"), pytest.param(("DEL", STREAM), marks=LOST)],
)
async def test_a_group_destroyed_in_the_middle(
    server: Server, stage: Stage, monkeypatch: pytest.MonkeyPatch, how: tuple[str, ...]
) -> None:
    monkeypatch.setattr("asyncjobs.worker.engine.parking.WAIT_S", 0.2)
    app = AsyncJobs(server.url)
    gated, note = register(app, jobs.gated), register(app, jobs.note)
    async with app, Worker(app, concurrency=3, grace=2):
        running = [await gated.enqueue("g") for _ in range(3)]
        await stage.noted(("started", "g"), 3)
        waiting = [await note.enqueue(number) for number in range(5)]
        await asyncio.to_thread(server.command, *how)
        stage.open("g")
        if how[0] == "XGROUP":
            # What nobody holds any more is handed out once more, and ends once.
            for handle in running:
                assert await handle.result(LIMIT_S) == "g"
            for handle in waiting:
                await handle.result(LIMIT_S)
            await eventually(lambda: is_settled(app))
        else:
            await until(lambda: stage.count(("left", "g")) == 3)
        assert (await note.enqueue("after")).is_new
        await stage.noted("after")
    assert stage.count("after") == 1
    assert all(stage.count(number) == (how[0] == "XGROUP") for number in range(5))
