"""Pauses of job functions on a server, where bringing jobs back takes several steps."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from asyncjobs.model.clock import new_id
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.redis.access import Access
from asyncjobs.store.redis.backend import RedisBackend
from asyncjobs.store.redis.scripts import run, script
from asyncjobs.store.seam import StoreSettings
from asyncjobs.testing.conformance.pauses import pause, paused, put, resume, take_all
from asyncjobs.testing.conformance.store import QUEUE, SHORT_S, PinnedClock, Store, ids

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["valkey", "redis"])
async def store(
    request: pytest.FixtureRequest, servers: Any, anyio_backend: str
) -> AsyncIterator[Store]:
    clock, settings = PinnedClock(), StoreSettings(prefix=f"test-{new_id()}")
    backend = RedisBackend(servers.get(request.param).url, settings, now_ms=clock)
    try:
        await backend.open()
        yield Store(backend, clock, settings, lambda *_: backend)
    finally:
        await backend.close()


@pytest.fixture
def access(store: Store) -> Access:
    assert isinstance(store.backend, RedisBackend)
    return store.backend._access


async def _begin_to_resume(access: Access) -> tuple[int, int]:
    """One step of a resume, whose caller then is gone."""
    step = script("resume")
    command = step.command(access.keys.queue(QUEUE), access.pinned(), "slow")
    was_paused, has_more = await run(access.link, step, command)
    return was_paused, has_more


async def _set_aside(store: Store, number: int) -> list[str]:
    names = [f"{each:04}" for each in range(number)]
    for first in range(0, number, 500):
        await put(store, "slow", *names[first : first + 500])
    await pause(store, "slow")
    worker = await store.worker()
    for _ in range(number // 1000 + 1):
        assert await worker.take() == []
    await worker.lease.leave()
    return names


async def test_an_exchange_sets_a_bounded_number_aside(store: Store, access: Access) -> None:
    for _ in range(5):
        await put(store, "slow", *(new_id() for _ in range(500)))
    await pause(store, "slow")
    worker = await store.worker()
    left = []
    for _ in range(3):
        exchange = await worker.exchange(demand=10)
        stream = access.keys.queue(QUEUE).ready[2]
        pending = await access.link.call(b"XPENDING", stream, b"workers")
        left.append((pending[0], exchange.left_ready))
    more = frozenset({QUEUE})
    assert [is_left for _, is_left in left] == [more, more, frozenset()]
    assert all(number <= 1100 * (at + 1) for at, (number, _) in enumerate(left))


async def test_workers_go_on_with_a_resume(store: Store, access: Access) -> None:
    names = await _set_aside(store, 2500)
    assert await _begin_to_resume(access) == (1, 1)
    (found,) = await paused(store)
    assert found.is_resuming
    worker = await store.worker()
    await worker.settle_signals()
    # Also one that is asleep and was signalled by nobody.
    assert (await worker.lease.beat()).ready == (QUEUE,)
    await put(store, "slow", "last")
    assert await take_all(worker, 100) == [*names, "last"]
    assert await paused(store) == []
    await worker.settle_signals()
    assert await worker.signalled(SHORT_S) == []


async def test_a_new_job_does_not_pass_those_on_their_way_back(
    store: Store, access: Access
) -> None:
    names = await _set_aside(store, 2100)
    await _begin_to_resume(access)
    await put(store, "slow", "new")
    worker = await store.worker()
    # All that is back already, and the new one behind it.
    first = await worker.take(2000)
    assert ids(first) == [name for name in names if int(name) < len(first)]
    await worker.exchange(*map(Settlement.succeeded, first))
    assert await take_all(worker, 500) == [*names[len(first) :], "new"]


async def test_a_function_is_paused_again_while_it_is_resumed(store: Store, access: Access) -> None:
    names = await _set_aside(store, 1500)
    await _begin_to_resume(access)
    assert await pause(store, "slow") == [True]
    worker = await store.worker()
    for _ in range(3):
        assert await worker.take() == []
    assert await resume(store, "slow") == [True]
    assert await take_all(worker, 500) == names


async def test_a_pause_that_was_removed_by_hand(store: Store, access: Access) -> None:
    names = await _set_aside(store, 20)
    await access.link.call(b"DEL", access.keys.queue(QUEUE).base + b"paused")
    worker = await store.worker()
    assert await worker.take() == []
    await store.backend.prune([QUEUE], 100)
    assert ids(await worker.take()) == names
