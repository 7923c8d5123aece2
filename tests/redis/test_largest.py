"""How large the entries of a stream may be is noted while there are any, and not for ever."""

from __future__ import annotations

from typing import Any

import pytest

from asyncjobs.model.clock import new_id
from asyncjobs.model.job import NewJob
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.redis.backend import RedisBackend
from asyncjobs.store.seam import EnqueueBatch, StoreSettings
from asyncjobs.testing.conformance.store import QUEUE, PinnedClock, Store

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["valkey", "redis"])
async def store(request: pytest.FixtureRequest, servers: Any, anyio_backend: str) -> Any:
    server, clock = servers.get(request.param), PinnedClock()
    settings = StoreSettings(prefix=f"test-{new_id()}")
    backend = RedisBackend(server.url, settings, now_ms=clock)
    try:
        await backend.open()
        yield server, Store(backend, clock, settings, lambda *_: backend)
    finally:
        await backend.close()
        server.command("DEL", *server.command("KEYS", f"*{settings.prefix}*"))


async def test_it_is_noted_and_forgotten(store: tuple[Any, Store]) -> None:
    server, own = store
    key = f"{{{own.settings.prefix}:{QUEUE}}}:largest"
    await own.enqueue("small")
    assert server.command("EXISTS", key) == 0
    for size in (70_000, 90_000, 80_000):
        job = NewJob(QUEUE, new_id(), 2, bytes(size), has_new_id=True)
        await own.backend.enqueue(EnqueueBatch(new_id(), [job]))
    assert server.command("GET", key).startswith(b"90000 ")
    worker = await own.worker()
    jobs = await worker.take()
    await own.backend.prune([QUEUE], 100)
    assert server.command("GET", key).startswith(b"90000 ")
    await worker.exchange(*map(Settlement.succeeded, jobs))
    await own.backend.prune([QUEUE], 100)
    assert server.command("EXISTS", key) == 0


async def test_it_is_forgotten_in_a_queue_that_is_never_empty(store: tuple[Any, Store]) -> None:
    server, own = store
    key = f"{{{own.settings.prefix}:{QUEUE}}}:largest"
    await own.enqueue("before")
    job = NewJob(QUEUE, "large", 2, bytes(70_000), has_new_id=True)
    await own.backend.enqueue(EnqueueBatch(new_id(), [job]))
    last_ms = int(server.command("GET", key).split()[1])
    while int(server.command("TIME")[0]) * 1000 + int(server.command("TIME")[1]) // 1000 <= last_ms:
        continue
    await own.enqueue("after")
    worker = await own.worker()
    before, large, after = await worker.take()
    await worker.exchange(Settlement.succeeded(large))
    await own.backend.prune([QUEUE], 100)
    # What is as old might be as large.
    assert server.command("EXISTS", key) == 1
    await worker.exchange(Settlement.succeeded(before))
    await own.backend.prune([QUEUE], 100)
    assert server.command("EXISTS", key) == 0
    await worker.exchange(Settlement.succeeded(after))


@pytest.mark.parametrize("foreign", [b"nan", b"-1", b"x", b"1e400", b"70000"])
async def test_what_is_no_note_counts_as_none(store: tuple[Any, Store], foreign: bytes) -> None:
    server, own = store
    key = f"{{{own.settings.prefix}:{QUEUE}}}:largest"
    server.command("SET", key, foreign)
    await own.enqueue("a", "b")
    worker = await own.worker()
    assert len(await worker.take()) == 2
    await own.backend.prune([QUEUE], 100)
    assert server.command("EXISTS", key) == 0


@pytest.mark.unaudited("an entry is planted")
async def test_entries_of_others_are_noted_when_they_are_read(store: tuple[Any, Store]) -> None:
    server, own = store
    base = f"{{{own.settings.prefix}:{QUEUE}}}:"
    server.command("SADD", f"{own.settings.prefix}:queues", QUEUE)
    server.command("XADD", base + "ready:2", "*", "planted", "x" * 50_000)
    worker = await own.worker()
    (job,) = await worker.take()
    assert len(job.envelope) == 50_000
    assert server.command("GET", base + "largest").startswith(b"50000 ")
