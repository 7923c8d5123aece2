"""wait_replicas: an enqueue returns once so many replicas hold the job."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from asyncjobs import AsyncJobs, StoreUnavailable
from asyncjobs.model.clock import new_id
from asyncjobs.model.job import NewJob
from asyncjobs.store.redis.backend import RedisBackend
from asyncjobs.store.redis.keys import StoreKeys
from asyncjobs.store.seam import EnqueueBatch
from asyncjobs.testing.servers import Server, start_server
from tests.worker.kit import LIMIT_S, eventually, register

pytestmark = pytest.mark.anyio


async def noop() -> None:
    """Does nothing."""


@pytest.fixture(params=["valkey", "redis"])
def server(request: pytest.FixtureRequest, servers: Any) -> Iterator[Server]:
    server: Server = servers.get(request.param)
    yield server
    keys = server.command("KEYS", "*test-*")
    if keys:
        server.command("DEL", *keys)


@pytest.fixture
def replica(server: Server) -> Iterator[Server]:
    with start_server(server.kind, config={"replicaof": f"127.0.0.1 {server.port}"}) as replica:
        yield replica


async def copied(replica: Server) -> None:
    """Wait until the replica follows its server."""

    async def check() -> bool:
        return "master_link_status:up" in str(replica.command("INFO", "replication"))

    await eventually(check)


async def test_what_is_enqueued_is_on_the_replica(server: Server, replica: Server) -> None:
    await copied(replica)
    prefix = f"test-{new_id()}"
    app = AsyncJobs(server.url, prefix=prefix, wait_replicas=1)
    job = register(app, noop)
    ready = StoreKeys(prefix).queue("default").all[2]
    async with app:
        for number in range(1, 21):
            await job.enqueue()
            assert replica.command("XLEN", ready) == number
        server.command("SCRIPT", "FLUSH")
        await job.enqueue()
        assert replica.command("XLEN", ready) == 21


async def test_a_silent_replica_confirms_nothing(server: Server, replica: Server) -> None:
    await copied(replica)
    app = AsyncJobs(server.url, prefix=f"test-{new_id()}", wait_replicas=1, connect_timeout=3)
    job = register(app, noop).options(id="once")
    async with app:
        os.kill(replica.pid, signal.SIGSTOP)
        try:
            # Longer than one try: a repeated batch has to wait for the replica, too.
            with anyio.fail_after(LIMIT_S), pytest.raises(StoreUnavailable) as caught:
                await job.enqueue()
            assert "0 of wait_replicas=1 replicas" in str(caught.value)
        finally:
            os.kill(replica.pid, signal.SIGCONT)
        # It was stored all the same: the repeat finds it, and has it confirmed.
        assert not (await job.enqueue()).is_new


async def test_a_repeat_over_a_new_connection_waits_as_well(
    server: Server, replica: Server
) -> None:
    await copied(replica)
    app = AsyncJobs(server.url, prefix=f"test-{new_id()}", wait_replicas=1)
    batch = EnqueueBatch(new_id(), [NewJob("default", new_id(), 2, b"{}")])
    os.kill(replica.pid, signal.SIGSTOP)
    try:
        for _ in range(2):
            backend = RedisBackend(server.url, app.settings.store())
            try:
                with pytest.raises(StoreUnavailable):
                    await backend.enqueue(batch)
            finally:
                await backend.close()
    finally:
        os.kill(replica.pid, signal.SIGCONT)


async def test_more_replicas_than_there_are(server: Server) -> None:
    app = AsyncJobs(server.url, prefix=f"test-{new_id()}", wait_replicas=1, connect_timeout=3)
    job = register(app, noop)
    async with app:
        with pytest.raises(StoreUnavailable, match="wait_replicas=1"):
            await job.enqueue()
