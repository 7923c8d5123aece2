"""What is kept for a while goes by itself, also when no worker is left to prune it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asyncjobs import AsyncJobs, Worker
from asyncjobs.model.clock import new_id

pytestmark = pytest.mark.anyio


async def one() -> int:
    return 1


@pytest.mark.parametrize("kind", ["valkey", "redis"])
async def test_all_that_is_kept_of_finished_jobs_expires(servers: Any, kind: str) -> None:
    server = servers.get(kind)
    app = AsyncJobs(server.url, prefix=f"test-{new_id()}")
    job = app.job(one)
    async with app:
        handle = await job.enqueue()
        await Worker(app).run(burst=True, burst_wait=0)
        assert await handle.result(0) == 1
    keys = [key for key in server.command("KEYS", "*") if app.settings.prefix.encode() in key]
    left = {key.rpartition(b"}:")[2].partition(b":")[0]: key for key in keys}
    assert {b"known", b"stats", b"batch", b"result"} <= left.keys()
    for name in (b"known", b"stats", b"batch", b"result"):
        assert 0 < server.command("PTTL", left[name]) <= 3 * 600_000, name
    server.command("DEL", *keys)


@pytest.mark.parametrize("kind", ["valkey", "redis"])
async def test_a_lost_announcement_costs_a_moment_not_the_result(servers: Any, kind: str) -> None:
    server = servers.get(kind)
    app = AsyncJobs(server.url, prefix=f"test-{new_id()}")
    job = app.job(one)
    mark = f"{{{app.settings.prefix}:default}}:awaited"
    async with app:
        handle = await job.enqueue()
        waiter = asyncio.create_task(handle.result(30))
        async with asyncio.timeout(20):
            while not server.command("EXISTS", mark):
                await asyncio.sleep(0.01)
            # Without its mark the queue announces nothing: as if the message were lost.
            server.command("DEL", mark)
            await Worker(app).run(burst=True, burst_wait=0)
            assert await waiter == 1
    keys = [key for key in server.command("KEYS", "*") if app.settings.prefix.encode() in key]
    server.command("DEL", *keys)
