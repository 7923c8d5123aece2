"""What events leave behind on a server, and what foreign hands do to them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from asyncjobs.model.awaiting import EventWait, NewEvent
from asyncjobs.model.clock import new_id
from asyncjobs.model.job import State, TakenJob
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.redis.backend import RedisBackend
from asyncjobs.store.seam import StoreSettings
from asyncjobs.testing.conformance.store import QUEUE, PinnedClock, Store, Worker, ref

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["valkey", "redis"])
async def own(
    request: pytest.FixtureRequest, servers: Any, anyio_backend: str
) -> AsyncIterator[tuple[Any, Store]]:
    server, clock = servers.get(request.param), PinnedClock()
    settings = StoreSettings(prefix=f"test-{new_id()}")
    backend = RedisBackend(server.url, settings, now_ms=clock)
    try:
        await backend.open()
        yield server, Store(backend, clock, settings, lambda *_: backend)
    finally:
        await backend.close()
        server.command("DEL", *server.command("KEYS", f"*{settings.prefix}*"))


def key(store: Store, name: str) -> str:
    return f"{{{store.settings.prefix}:{QUEUE}}}:{name}"


async def waiting(store: Store, worker: Worker, id: str = "a") -> TakenJob:
    """A running job that waits for an event."""
    await store.enqueue(id)
    job = await worker.take_one()
    wait = EventWait(job, "paid", "7", "n", "0", 60_000, b"")
    (answer,) = await worker.lease.await_events([wait])
    assert answer is not None
    assert answer.how == "waits"
    return job


@pytest.mark.parametrize("end", ["success", "death", "cancel"])
async def test_no_wait_is_left(own: tuple[Any, Store], end: str) -> None:
    server, store = own
    worker = await store.worker()
    job = await waiting(store, worker)
    assert server.command("ZCARD", key(store, "waits")) == 1
    if end == "success":
        await worker.exchange(Settlement.succeeded(job))
    elif end == "death":
        await worker.exchange(Settlement.dead(job, b"{}\n{}"))
    else:
        await worker.exchange(Settlement.waiting(job, b"again", 60_000))
        await store.backend.cancel([ref("a")], None, 0)
    assert server.command("EXISTS", key(store, "waits"), key(store, "notes:a")) == 0
    assert server.command("EXISTS", key(store, "dead:notes:a")) == 0


async def test_what_is_kept_expires(own: tuple[Any, Store]) -> None:
    server, store = own
    await store.backend.send_event(NewEvent("paid", "7", b"1"), [QUEUE])
    for name in ("events", "events:of"):
        assert 86_400_000 < server.command("PTTL", key(store, name)) <= 87_000_000


async def test_a_wait_whose_worker_knows_no_events(own: tuple[Any, Store]) -> None:
    """A worker of an older release drops the notes of a job that it ends, and not its wait."""
    server, store = own
    worker = await store.worker()
    job = await waiting(store, worker)
    server.command("DEL", key(store, "notes:a"))
    await worker.exchange(Settlement.succeeded(job))
    assert server.command("ZCARD", key(store, "waits")) == 1
    await waiting(store, worker, "b")
    await store.backend.prune([QUEUE], 10)
    assert server.command("ZRANGE", key(store, "waits"), 0, -1) == [b"paid\x007\x00b"]


async def test_a_job_that_was_deleted_by_hand_is_not_woken(own: tuple[Any, Store]) -> None:
    server, store = own
    worker = await store.worker()
    job = await waiting(store, worker)
    await worker.exchange(Settlement.waiting(job, b"again", 60_000))
    for name in ("index", "scheduled", "scheduled:data"):
        server.command("DEL", key(store, name))
    answer = await store.backend.send_event(NewEvent("paid", "7", b"1"), [QUEUE])
    assert answer.by_queue[QUEUE].woken == 0
    assert server.command("EXISTS", key(store, "waits")) == 0
    server.command("DEL", key(store, "notes:a"), key(store, "noted"))


async def test_an_event_that_was_removed_by_hand_is_looked_past(own: tuple[Any, Store]) -> None:
    server, store = own
    for value in (b"1", b"2"):
        await store.backend.send_event(NewEvent("paid", "7", value), [QUEUE])
    ((first, _), _) = server.command("XRANGE", key(store, "events"), "-", "+")
    server.command("XDEL", key(store, "events"), first)
    await store.enqueue("a")
    worker = await store.worker()
    wait = EventWait(await worker.take_one(), "paid", "7", "n", "0", 60_000, b"")
    (answer,) = await worker.lease.await_events([wait])
    assert answer is not None
    assert answer.written.endswith(b" 2")
    assert server.command("ZCARD", key(store, "events:of")) == 1


async def test_notes_that_are_none_cost_no_wait(own: tuple[Any, Store]) -> None:
    server, store = own
    worker = await store.worker()
    await store.enqueue("a")
    job = await worker.take_one()
    server.command("SET", key(store, "notes:a"), "foreign")
    wait = EventWait(job, "paid", "7", "n", "0", 60_000, b"")
    assert (await worker.lease.await_events([wait]))[0] is not None
    await worker.exchange(Settlement.waiting(job, b"again", 60_000))
    assert await store.state("a") is State.SCHEDULED
    answer = await store.backend.send_event(NewEvent("paid", "7", b"1"), [QUEUE])
    assert answer.by_queue[QUEUE].woken == 1
