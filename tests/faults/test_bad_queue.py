"""A key of one queue has another type: the worker's other queue is served, and later both."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asyncjobs import AsyncJobs, Worker
from asyncjobs.store.redis.keys import QUEUE_KEYS
from asyncjobs.testing.servers import Server
from tests.worker import jobs
from tests.worker.kit import LIMIT_S, Stage, register, until

pytestmark = pytest.mark.anyio

JOBS = 200


async def tell(server: Server, *command: str) -> Any:
    return await asyncio.to_thread(server.command, *command)


@pytest.mark.parametrize("key", ["ready:2", "scheduled", "sequence", "workers"])
async def test_jobs_of_a_sound_queue_run_beside_it(
    server: Server, stage: Stage, caplog: pytest.LogCaptureFixture, key: str
) -> None:
    app = AsyncJobs(server.url)
    echo = register(app, jobs.echo)
    good, bad = echo.options(queue="good"), echo.options(queue="bad")
    async with app, Worker(app, queues=["good", "bad"], lease=5, grace=2):
        assert await (await bad.enqueue(1)).result(LIMIT_S) == 1
        name = f"{{asyncjobs:bad}}:{key}"
        await tell(server, "DEL", name)
        await tell(server, "SET", name, "x")
        await tell(server, "RPUSH", "{asyncjobs:bad}:wake", "1")
        await until(lambda: "queue 'bad' is left out" in caplog.text)
        handles = [await good.enqueue(number) for number in range(JOBS)]
        for number, handle in enumerate(handles):
            assert await handle.result(LIMIT_S) == number
        keys = [f"{{asyncjobs:bad}}:{each}" for each in QUEUE_KEYS]
        await tell(server, "DEL", *keys)
        await until(lambda: "queue 'bad' is back" in caplog.text)
        assert await (await bad.enqueue(2)).result(LIMIT_S) == 2
        assert await (await good.enqueue(3)).result(LIMIT_S) == 3


async def test_what_wakes_nobody_keeps_no_other_queue_from_waking(
    server: Server, stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    app = AsyncJobs(server.url)
    echo = register(app, jobs.echo)
    good = echo.options(queue="good")
    async with app, Worker(app, queues=["good", "bad"], grace=2):
        await tell(server, "DEL", "{asyncjobs:bad}:wake")
        await tell(server, "SET", "{asyncjobs:bad}:wake", "x")
        for number in range(20):
            assert await (await good.enqueue(number)).result(LIMIT_S) == number
        await until(lambda: "queue 'bad' wakes nobody" in caplog.text)
        await tell(server, "DEL", "{asyncjobs:bad}:wake")


async def test_a_right_that_is_missing_for_one_queue(
    server: Server, stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    rights = ("on", ">pass", "~asyncjobs:*", "~{asyncjobs:good}:*", "&*", "+@all")
    await tell(server, "ACL", "SETUSER", "shop", *rights)
    app = AsyncJobs(server.url.replace("redis://", "redis://shop:pass@"))
    echo = register(app, jobs.echo)
    good = echo.options(queue="good")
    async with app, Worker(app, queues=["good", "bad"], lease=1, grace=2):
        await until(lambda: "queue 'bad' is left out" in caplog.text)
        for number in range(JOBS):
            assert await (await good.enqueue(number)).result(LIMIT_S) == number
        await tell(server, "ACL", "SETUSER", "shop", "~{asyncjobs:bad}:*")
        await until(lambda: "queue 'bad' is back" in caplog.text)
        assert await (await echo.options(queue="bad").enqueue(1)).result(LIMIT_S) == 1
