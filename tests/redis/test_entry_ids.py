"""Ids of stream entries only rise, so after a step back of the clock their time is ahead."""

from __future__ import annotations

import time
from typing import Any

import pytest

from asyncjobs.model.clock import new_id
from asyncjobs.model.job import NewJob
from asyncjobs.store.redis.backend import RedisBackend
from asyncjobs.store.seam import EnqueueBatch, StoreSettings

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("kind", ["valkey", "redis"])
@pytest.mark.parametrize("is_alone", [True, False])
@pytest.mark.unaudited("an entry is planted")
async def test_jobs_are_counted_in_the_present_minute(
    servers: Any, kind: str, is_alone: bool
) -> None:
    server, prefix = servers.get(kind), f"test-{new_id()}"
    ready = f"{{{prefix}:work}}:ready:2"
    ahead = f"{int(time.time() * 1000) + 3_600_000}-0"
    server.command("XADD", ready, ahead, "planted", "x")
    server.command("XDEL", ready, ahead)
    backend = RedisBackend(server.url, StoreSettings(prefix=prefix))
    try:
        for _ in range(3):
            jobs = [NewJob("work", new_id(), 2, b"{}", has_new_id=True)] * (1 if is_alone else 2)
            await backend.enqueue(
                EnqueueBatch(new_id(), [one._replace(id=new_id()) for one in jobs])
            )
        (flow,) = await backend.inspect.queues.flow(["work"])
        assert flow.enqueued == (3 if is_alone else 6)
    finally:
        await backend.close()
        server.command("DEL", *server.command("KEYS", f"*{prefix}*"))
