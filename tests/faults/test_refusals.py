"""What a server says when it refuses for now: everything waits, and then goes on."""

from __future__ import annotations

import asyncio
import logging
import shutil
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from asyncjobs import AsyncJobs, StoreUnavailable, Worker
from asyncjobs.events import JobStarted, JobSucceeded, LeaseLost
from asyncjobs.testing.servers import Server
from tests.faults.conftest import StartServer
from tests.worker import jobs
from tests.worker.kit import LIMIT_S, Stage, events_of, eventually, register, until

pytestmark = pytest.mark.anyio


async def tell(server: Server, *command: str) -> Any:
    return await asyncio.to_thread(server.command, *command)


async def to_follow_nobody(server: Server) -> None:
    """Make it the replica of a master that does not answer."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    await tell(server, "REPLICAOF", "127.0.0.1", str(port))


@asynccontextmanager
async def readonly(server: Server, folder: Path) -> AsyncIterator[str]:
    await to_follow_nobody(server)
    yield "it is a replica"
    await tell(server, "REPLICAOF", "NO", "ONE")


@asynccontextmanager
async def master_down(server: Server, folder: Path) -> AsyncIterator[str]:
    await tell(server, "CONFIG", "SET", "replica-serve-stale-data", "no")
    await to_follow_nobody(server)
    yield "it is a replica"
    await tell(server, "REPLICAOF", "NO", "ONE")


@asynccontextmanager
async def no_replicas(server: Server, folder: Path) -> AsyncIterator[str]:
    await tell(server, "CONFIG", "SET", "min-replicas-to-write", "1")
    yield "NOREPLICAS"
    await tell(server, "CONFIG", "SET", "min-replicas-to-write", "0")


@asynccontextmanager
async def misconf(server: Server, folder: Path) -> AsyncIterator[str]:
    folder.mkdir()
    await tell(server, "CONFIG", "SET", "save", "3600 1000000")
    await tell(server, "CONFIG", "SET", "dir", str(folder))
    shutil.rmtree(folder)
    await tell(server, "BGSAVE")

    async def failed() -> bool:
        return b"rdb_last_bgsave_status:err" in await tell(server, "INFO")

    await eventually(failed)
    yield "MISCONF"
    await tell(server, "CONFIG", "SET", "save", "")


@asynccontextmanager
async def busy(server: Server, folder: Path) -> AsyncIterator[str]:
    await tell(server, "CONFIG", "SET", "busy-reply-threshold", "50")
    other = redis.Redis(port=server.port)

    def loop() -> None:
        with pytest.raises(redis.ResponseError, match=r"(?i)killed"):
            other.eval("while true do end", 0)

    slow = asyncio.create_task(asyncio.to_thread(loop))

    async def is_busy() -> bool:
        try:
            await tell(server, "PING")
        except redis.ResponseError as error:
            return "BUSY" in str(error)
        return False

    await eventually(is_busy)
    yield "BUSY"
    await tell(server, "SCRIPT", "KILL")
    await slow
    other.close()


@asynccontextmanager
async def loading(server: Server, folder: Path) -> AsyncIterator[str]:
    # Into a database of their own: they are no keys of a store.
    fill = "redis.call('SELECT', 1) for n = 1, 6000 do redis.call('SET', 'filler:' .. n, n) end"
    await tell(server, "EVAL", fill, "0")
    await asyncio.to_thread(server.kill)
    # Returns when everything is loaded, half a millisecond a write; after each 1,024 of
    # them the server answers whoever asks.
    start = asyncio.create_task(asyncio.to_thread(server.restart))
    yield "loading the dataset"
    await start


def name_of(function: Any) -> str:
    return str(function.__name__)


Refusal = Callable[[Server, Path], AbstractAsyncContextManager[str]]
CONFIG = {
    "enable_protected_configs": "yes",
    "appendonly": "yes",
    "appendfsync": "always",
    "key_load_delay": "500",
}


@pytest.mark.parametrize(
    "refuse", [readonly, master_down, no_replicas, misconf, busy, loading], ids=name_of
)
async def test_a_store_that_refuses_for_now_costs_nothing(
    start: StartServer,
    stage: Stage,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    refuse: Refusal,
) -> None:
    caplog.set_level(logging.DEBUG, "asyncjobs.worker")
    server = start(**CONFIG)
    patient = AsyncJobs(server.url, connect_timeout=LIMIT_S)
    hasty = AsyncJobs(server.url, connect_timeout=0.3)
    started, succeeded, lost = (
        events_of(patient, JobStarted),
        events_of(patient, JobSucceeded),
        events_of(patient, LeaseLost),
    )
    gated, echo = register(patient, jobs.gated), register(patient, jobs.echo)
    refused = register(hasty, jobs.echo)
    async with hasty, patient, Worker(patient, grace=2, lease=5):
        handles = [await gated.enqueue("g") for _ in range(5)]
        await stage.noted(("started", "g"), 5)
        waiter = asyncio.create_task(handles[0].result(LIMIT_S))
        async with refuse(server, tmp_path / "gone") as says:
            during = asyncio.create_task(echo.enqueue("during"))
            stage.open("g")
            # The exchange has met it, and the questions after it meet it, too.
            await until(lambda: says in caplog.text and "the store is away" in caplog.text)
            with pytest.raises(StoreUnavailable, match="did not confirm"):
                await refused.enqueue("hasty")
            assert not during.done()
        assert await waiter == "g"
        for handle in handles:
            assert await handle.result(LIMIT_S) == "g"
        assert await (await during).result(LIMIT_S) == "during"
        assert await (await echo.enqueue("after")).result(LIMIT_S) == "after"
    assert stage.count(("started", "g")) == 5
    assert lost == []
    assert len(succeeded) == len(started)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def _ids(server: Server, label: str) -> set[bytes]:
    listed: bytes = await tell(server, "CLIENT", "LIST")
    name = f"name=asyncjobs:{label} ".encode()
    return {line.split()[0] for line in listed.splitlines() if name in line}


@pytest.mark.parametrize("refuse", [readonly, master_down], ids=name_of)
async def test_a_demoted_server_is_left(
    start: StartServer,
    stage: Stage,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    refuse: Refusal,
) -> None:
    """The name in the URL may lead to the new master; an open connection never does."""
    caplog.set_level(logging.DEBUG, "asyncjobs.worker")
    server = start()
    app = AsyncJobs(server.url)
    gated, echo = register(app, jobs.gated), register(app, jobs.echo)
    async with app, Worker(app, grace=2, lease=2):
        handle = await gated.enqueue("g")
        await stage.noted(("started", "g"))
        labels = ("client", "exchange", "wait", "lease")

        async def all_there() -> bool:
            return all([await _ids(server, label) for label in labels])

        await eventually(all_there)
        before = {label: await _ids(server, label) for label in labels}
        async with refuse(server, tmp_path):
            stage.open("g")
            enqueue = asyncio.create_task(echo.enqueue(1))

            async def all_anew() -> bool:
                now = {label: await _ids(server, label) for label in labels}
                return not any(now[label] & before[label] for label in labels)

            await eventually(all_anew)
            if refuse is master_down:
                # What only reads is refused by another word.
                with pytest.raises(StoreUnavailable, match="Link with MASTER is down"):
                    await AsyncJobs(server.url, connect_timeout=1).__aenter__()
        assert await handle.result(LIMIT_S) == "g"
        assert await (await enqueue).result(LIMIT_S) == 1
