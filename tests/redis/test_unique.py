"""What somebody does to unique jobs by hand, behind the back of the store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, TypeAlias

import pytest

from asyncjobs.model.clock import new_id
from asyncjobs.model.job import State
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.redis.backend import RedisBackend
from asyncjobs.store.seam import StoreSettings
from asyncjobs.testing.conformance.store import QUEUE, PinnedClock, Store, ids
from asyncjobs.testing.conformance.unique import (
    FINISHED,
    LATEST,
    enqueue,
    held,
    new,
    running,
    there,
)

pytestmark = [pytest.mark.anyio, pytest.mark.unaudited("keys are changed by hand")]

Command: TypeAlias = Callable[..., Any]


@pytest.fixture(params=["valkey", "redis"])
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
async def store(kind: str, servers: Any, anyio_backend: str) -> AsyncIterator[Store]:
    clock, settings = PinnedClock(), StoreSettings(prefix=f"test-{new_id()}")
    backend = RedisBackend(servers.get(kind).url, settings, now_ms=clock)
    try:
        await backend.open()
        yield Store(backend, clock, settings, lambda *_: backend)
    finally:
        await backend.close()


@pytest.fixture
def command(kind: str, servers: Any, store: Store) -> Command:
    """A command on one key of the queue."""
    server = servers.get(kind)
    base = f"{{{store.settings.prefix}:{QUEUE}}}:"
    return lambda name, key, *args: server.command(name, base + key, *args)


async def test_nothing_is_left_of_jobs_that_have_ended(store: Store, command: Command) -> None:
    worker, taken = await running(store)
    await enqueue(store, new("b", LATEST))
    (held,) = (await worker.exchange(Settlement.succeeded(taken), demand=1)).jobs
    await worker.exchange(Settlement.succeeded(held))
    names = ("unique", "unique:of", "unique:next", "unique:held")
    assert [command("EXISTS", name) for name in names] == [0] * 4


@pytest.mark.parametrize("state", ["ready", "scheduled", "index"])
async def test_a_job_that_was_deleted_by_hand_holds_no_key(
    store: Store, command: Command, state: str
) -> None:
    await enqueue(store, new("a", delay_ms=1000 if state == "scheduled" else 0))
    assert await enqueue(store, new("b")) == [there("a")]
    if state == "scheduled":
        command("DEL", "scheduled:data")
        command("DEL", "scheduled")
    elif state == "ready":
        command("DEL", "ready:2")
    else:
        command("DEL", "index")
    assert await enqueue(store, new("b")) == [None]
    assert command("HGETALL", "unique:of") == [b"b", b"f0key"]


async def test_the_one_behind_a_deleted_job_goes_on(store: Store, command: Command) -> None:
    await running(store)
    await enqueue(store, new("b", LATEST))
    command("DEL", "ready:2")
    command("HDEL", "index", "a")
    assert await enqueue(store, new("c")) == [there("b")]
    assert await store.state("b") is State.READY


async def test_pruning_frees_what_was_deleted(store: Store, command: Command) -> None:
    worker, _ = await running(store)
    await enqueue(store, new("b", LATEST))
    await enqueue(store, new("c", FINISHED._replace(key=b"other")))
    command("DEL", "ready:2")
    command("HDEL", "index", "a", "c")
    await worker.settle_signals()
    await store.backend.prune([QUEUE], 100)
    assert await worker.signalled() == [QUEUE]
    assert command("HGETALL", "unique:of") == [b"b", b"f0key"]
    assert command("HKEYS", "unique") == [b"key"]
    assert ids(await worker.take()) == ["b"]


async def test_pruning_forgets_a_held_job_that_was_deleted(store: Store, command: Command) -> None:
    worker, taken = await running(store)
    await enqueue(store, new("b", LATEST))
    command("HDEL", "index", "b")
    await store.backend.prune([QUEUE], 100)
    assert command("EXISTS", "unique:held") == command("EXISTS", "unique:next") == 0
    assert await enqueue(store, new("c", LATEST)) == [held("c")]
    await worker.exchange(Settlement.succeeded(taken))
    assert ids(await worker.take()) == ["c"]


async def test_pruning_lets_a_job_go_on_whose_lock_was_deleted(
    store: Store, command: Command
) -> None:
    worker, _ = await running(store)
    await enqueue(store, new("b", LATEST))
    command("DEL", "unique")
    await worker.settle_signals()
    await store.backend.prune([QUEUE], 100)
    assert await worker.signalled() == [QUEUE]
    assert ids(await worker.take()) == ["b"]
    assert await enqueue(store, new("c")) == [there("b")]


@pytest.mark.parametrize("value", [b"", b"x", b"f", b"f 1 2", b"z 1 2 a", b"\xff\0"])
async def test_a_lock_of_a_foreign_writer_locks_nothing(
    store: Store, command: Command, value: bytes
) -> None:
    command("HSET", "unique", "key", value)
    assert await enqueue(store, new("a")) == [None]
    assert await enqueue(store, new("b")) == [there("a")]


@pytest.mark.parametrize("value", [b"", b"f", b"x", b"f1", b"h0key", b"\xff\0"])
async def test_an_owner_of_a_foreign_writer_stops_no_job(
    store: Store, command: Command, value: bytes
) -> None:
    await store.enqueue("a")
    command("HSET", "unique:of", "a", value)
    worker = await store.worker()
    answer = await worker.exchange(Settlement.succeeded(await worker.take_one()))
    assert answer.not_yours == []
    assert await store.state("a") is State.SUCCEEDED
