"""Who enqueues says the name of the queue, and a queue in use is in the list whoever forgets it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest

from asyncjobs.model.clock import new_id
from asyncjobs.model.job import NewJob
from asyncjobs.store.lease import LeaseSpec
from asyncjobs.store.redis import listing
from asyncjobs.store.redis.backend import RedisBackend
from asyncjobs.store.redis.scripts import script
from asyncjobs.store.seam import EnqueueBatch, StoreSettings
from asyncjobs.testing.conformance.store import LEASE_MS, QUEUE, are_new

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["valkey", "redis"])
async def clients(
    request: pytest.FixtureRequest, servers: Any
) -> AsyncIterator[tuple[RedisBackend, RedisBackend]]:
    """Two clients of one store."""
    server, prefix = servers.get(request.param), f"test-{new_id()}"
    pair = tuple(RedisBackend(server.url, StoreSettings(prefix=prefix)) for _ in range(2))
    for client in pair:
        await client.open()
    yield pair
    for client in pair:
        await client.close()
    if keys := server.command("KEYS", f"*{prefix}*"):
        server.command("DEL", *keys)


def batch(*ids: str, has_new_id: bool = True) -> EnqueueBatch:
    jobs = [NewJob(QUEUE, id, 2, b"{}", has_new_id=has_new_id) for id in ids]
    return EnqueueBatch(new_id(), jobs)


def before(client: RedisBackend, link: Any, name: str, act: Any) -> None:
    """Let `act` happen right before the client's next call of a script arrives."""
    pass_on, done = link.script_calls, []

    async def script_calls(text: bytes, *args: Any, **options: Any) -> list[Any]:
        if text == script(name).text and not done:
            done.append(await act())
        return list(await pass_on(text, *args, **options))

    link.script_calls = script_calls


@pytest.mark.parametrize("ids", [("a",), ("a", "b")])
async def test_a_queue_is_listed_though_it_is_forgotten_right_before_its_first_job(
    clients: tuple[RedisBackend, RedisBackend], ids: tuple[str, ...]
) -> None:
    client, operator = clients
    name = "enqueue_new" if len(ids) == 1 else "enqueue"
    before(client, client._link, name, lambda: operator.inspect.queues.forget([QUEUE], 0))
    assert not (await client.enqueue(batch(*ids))).refused
    assert await operator.inspect.queues.names() == [QUEUE]
    assert (await operator.inspect.queues.forget([QUEUE], 0))[0].ready == len(ids)


async def test_a_queue_is_listed_though_it_is_forgotten_right_before_its_lease(
    clients: tuple[RedisBackend, RedisBackend],
) -> None:
    client, operator = clients
    lease = client.attach(LeaseSpec(new_id(), "worker", (QUEUE,), LEASE_MS))
    forget = partial(operator.inspect.queues.forget, [QUEUE], 0)
    before(client, lease.links.exchange, "register", forget)
    await lease.enter()
    assert await operator.inspect.queues.names() == [QUEUE]
    assert (await operator.inspect.queues.forget([QUEUE], 0))[0].workers == 1
    await lease.leave()


async def test_a_name_is_said_again_after_a_minute(
    clients: tuple[RedisBackend, RedisBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, _ = clients
    await client.enqueue(batch("a"))
    names = client._keys.queues
    assert await client._link.call(b"SREM", names, QUEUE) == 1
    await client.enqueue(batch("b"))
    assert await client.inspect.queues.names() == []
    at_s = listing.time.monotonic() + listing.AGAIN_S
    monkeypatch.setattr(listing.time, "monotonic", lambda: at_s)
    await client.enqueue(batch("c"))
    assert await client.inspect.queues.names() == [QUEUE]


async def test_a_name_that_was_said_with_a_job_that_was_there_is_said_again(
    clients: tuple[RedisBackend, RedisBackend],
) -> None:
    """Such a call keeps no queue from being forgotten: the next job might be in none."""
    other, client = clients
    await other.enqueue(batch("a", has_new_id=False))
    assert are_new((await client.enqueue(batch("a", has_new_id=False))).places) == [False]
    await client._link.call(b"SREM", client._keys.queues, QUEUE)
    await client.enqueue(batch("b"))
    assert await client.inspect.queues.names() == [QUEUE]


async def test_jobs_are_stored_where_the_list_cannot_be_written(
    clients: tuple[RedisBackend, RedisBackend], caplog: pytest.LogCaptureFixture
) -> None:
    client, _ = clients
    await client._link.call(b"SET", client._keys.queues, b"x")
    assert are_new((await client.enqueue(batch("a"))).places) == [True]
    assert are_new((await client.enqueue(batch("b"))).places) == [True]
    (told,) = [record.getMessage() for record in caplog.records]
    assert told.startswith("jobs are stored, and their queues are in no list of queues: ")
    await client._link.call(b"DEL", client._keys.queues)
    await client._link.call(b"SADD", client._keys.queues, QUEUE)


def test_a_queue_is_kept_for_longer_than_names_are_not_said() -> None:
    quiet = re.search(rb"QUIET_MS = (\d+)", script("forget").text)
    assert quiet is not None
    assert int(quiet[1]) >= 2 * listing.AGAIN_S * 1000
