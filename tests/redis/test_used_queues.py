"""What a queue keeps on the server after it has been used."""

from __future__ import annotations

from typing import Any

import pytest

from asyncjobs.model.clock import new_id
from asyncjobs.model.demand import Demand
from asyncjobs.model.job import NewJob
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.lease import LeaseSpec
from asyncjobs.store.redis.backend import RedisBackend
from asyncjobs.store.seam import EnqueueBatch, StoreSettings
from asyncjobs.testing.conformance.store import LEASE_MS, QUEUE

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("kind", ["valkey", "redis"])
async def test_streams_are_made_with_their_first_jobs(servers: Any, kind: str) -> None:
    server, prefix = servers.get(kind), f"test-{new_id()}"
    backend = RedisBackend(server.url, StoreSettings(prefix=prefix))

    def streams() -> set[bytes]:
        return {key[-7:] for key in server.command("KEYS", f"{{{prefix}:{QUEUE}}}:ready:*")}

    try:
        lease = await backend.lease(LeaseSpec(new_id(), "worker", (QUEUE,), LEASE_MS))
        demand = {QUEUE: Demand(10)}
        assert (await lease.exchange(1, (), demand)).jobs == []
        await lease.beat()
        assert streams() == set()
        await backend.enqueue(EnqueueBatch(new_id(), [NewJob(QUEUE, "a", 1, b"{}")]))
        (job,) = (await lease.exchange(2, (), demand)).jobs
        assert not (await lease.exchange(3, [Settlement.succeeded(job)], {})).not_yours
        await lease.leave()
        assert streams() == {b"ready:1"}
    finally:
        await backend.close()
        server.command("DEL", *server.command("KEYS", f"*{prefix}*"))
