"""What lists cost a server."""

from __future__ import annotations

import re
from typing import Any

import pytest

from asyncjobs.model.clock import new_id
from asyncjobs.model.job import NewJob, State
from asyncjobs.store.listing import JobCursor, JobQuery
from asyncjobs.store.redis.backend import RedisBackend
from asyncjobs.store.seam import EnqueueBatch, StoreSettings

pytestmark = pytest.mark.anyio


async def test_no_page_walks_through_a_stream(servers: Any) -> None:
    """A page from before the first entry on: there a plain XREVRANGE walks from the other end."""
    server = servers.get("valkey")
    store = RedisBackend(server.url, StoreSettings(prefix=f"test-{new_id()}"))
    await store.open()
    try:
        for _ in range(20):
            jobs = [NewJob("work", new_id(), 2, b"x") for _ in range(1000)]
            await store.enqueue(EnqueueBatch(new_id(), jobs))
        page = await store.inspect.jobs.page(JobQuery(State.READY, oldest_first=True))
        before = JobCursor(page.jobs[0].time_ms - 1, "work", 2, 0)
        server.command("CONFIG", "RESETSTAT")
        page = await store.inspect.jobs.page(JobQuery(State.READY), before)
        assert (page.jobs, page.after) == ([], None)
        said = server.command("INFO", "commandstats").decode()
        assert re.search(r"cmdstat_xrange:calls=4,", said), said
        assert "cmdstat_xrevrange" not in said
    finally:
        await store.close()
        server.command("FLUSHALL")
