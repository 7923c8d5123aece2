"""Barriers on a server: they are emptied in parts, leave nothing, and lose no job to a bad key."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from asyncjobs.model.clock import new_id
from asyncjobs.model.demand import Demand
from asyncjobs.model.job import NewJob, State
from asyncjobs.model.settlement import Settlement
from asyncjobs.model.terms import Arrival, Barrier, Terms
from asyncjobs.store.flows import FlowRef, FlowState, NewFlow
from asyncjobs.store.lease import Offer
from asyncjobs.store.redis import flows as redis_flows
from asyncjobs.store.redis.backend import RedisBackend
from asyncjobs.store.redis.keys import StoreKeys
from asyncjobs.store.seam import EnqueueBatch, StoreSettings
from asyncjobs.testing.conformance.outbox import relay
from asyncjobs.testing.conformance.store import QUEUE, PinnedClock, Store, ids
from asyncjobs.testing.servers import Server

pytestmark = pytest.mark.anyio

MANY = 450
"""More jobs than one exchange lets go."""


@pytest.fixture(params=["valkey", "redis"])
def server(request: pytest.FixtureRequest, servers: Any) -> Server:
    found: Server = servers.get(request.param)
    return found


@pytest.fixture
async def store(server: Server, anyio_backend: str) -> AsyncIterator[Store]:
    clock, settings = PinnedClock(), StoreSettings(prefix=f"test-{new_id()}")
    backend = RedisBackend(server.url, settings, now_ms=clock)
    try:
        await backend.open()
        yield Store(backend, clock, settings, lambda *_: backend)
    finally:
        await backend.close()


async def put_many(store: Store, number: int = MANY) -> None:
    """One job in front of a barrier, and many behind it."""
    front = Terms(arrivals=(Arrival(QUEUE, "end"),))
    behind = Terms(behind="end")
    jobs = [NewJob(QUEUE, "a", 2, b"a", has_new_id=True, terms=front)]
    jobs += [NewJob(QUEUE, f"z{n:03d}", 2, b"z", 0, None, True, behind) for n in range(number)]
    batch = EnqueueBatch(store.token(), jobs, (Barrier(QUEUE, "end", 1),))
    assert (await store.backend.enqueue(batch)).refused == {}


def keys_of(store: Store, server: Server) -> set[str]:
    """The keys of barriers that are left."""
    base = StoreKeys(store.settings.prefix).queue(QUEUE).base.decode()
    found = server.command("KEYS", "*barriers*")
    return {key.decode().removeprefix(base) for key in found if key.decode().startswith(base)}


async def test_a_start_is_whole_though_the_starter_dies(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    flows, flow = store.backend.flows, FlowRef(QUEUE, "flow")
    await flows.open(NewFlow(flow, "", 2, 60_000, b""))
    for queue in (QUEUE, "other"):
        job = NewJob(queue, "a", 2, b"a", has_new_id=True, terms=Terms(behind="start"))
        batch = EnqueueBatch(store.token(), [job], (Barrier(queue, "start", 1),))
        assert (await store.backend.enqueue(batch)).refused == {}
    barriers = [(QUEUE, "start"), ("other", "start")]
    worker, other = await store.worker(), await store.worker("other")

    async def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        # Between the record of the flow and what another queue holds.
        patch.setattr(redis_flows, "run_all", die)
        with pytest.raises(KeyboardInterrupt):
            await flows.start(flow, barriers)
    (record,) = await flows.get([flow])
    assert record is not None
    assert record.state is FlowState.RUNNING
    assert ids(await worker.take()) == ["a"]
    assert await other.take() == []
    await relay(store, QUEUE)
    assert await other.signalled() == ["other"]
    assert ids(await other.take()) == ["a"]
    # A call that is made again counts nothing twice.
    late = NewJob("other", "b", 2, b"b", has_new_id=True, terms=Terms(behind="start"))
    batch = EnqueueBatch(store.token(), [late], (Barrier("other", "start", 2),))
    await store.backend.enqueue(batch)
    for _ in range(2):
        await flows.start(flow, barriers)
        await relay(store, QUEUE)
    assert await other.take() == []


async def test_a_failure_goes_through_many_queues_at_once(store: Store) -> None:
    def job(queue: str, behind: str | None, *arrivals: Arrival) -> NewJob:
        terms = Terms(behind=behind, arrivals=arrivals)
        return NewJob(queue, "a", 2, b"a", has_new_id=True, terms=terms)

    jobs = [
        job(QUEUE, None, Arrival("q1", "end")),
        job("q1", "end", Arrival("q2", "end")),
        job("q2", "end", Arrival("q3", "end")),
        job("q3", "end"),
    ]
    for each in jobs:
        barriers = () if each.queue == QUEUE else (Barrier(each.queue, "end", 1),)
        batch = EnqueueBatch(store.token(), [each], barriers)
        assert (await store.backend.enqueue(batch)).refused == {}
    worker = await store.worker()
    await worker.exchange(Settlement.dead(await worker.take_one(), b"letter"))
    # The worker knows of its own queue, and a relay tells of the others.
    assert (await store.backend.relay([QUEUE])).left == {"q1"}
    assert await relay(store, "q1") == 2
    assert await store.state("a", "q3") is State.CANCELLED


async def test_jobs_are_let_go_in_parts(store: Store) -> None:
    await put_many(store)
    worker = await store.worker()
    await worker.exchange(Settlement.dead(await worker.take_one(), b"letter"))
    left = []
    for _ in range(3):
        left.append((await store.counts()).held)
        await worker.exchange()
    assert left == [250, 50, 0]


async def test_a_heartbeat_reports_what_is_to_be_let_go(store: Store) -> None:
    await put_many(store)
    worker = await store.worker()
    await worker.exchange(Settlement.dead(await worker.take_one(), b"letter"))
    assert (await worker.lease.beat()).ready == (QUEUE,)
    for _ in range(2):
        await worker.exchange()
    assert (await worker.lease.beat()).ready == ()


async def test_an_offer_leaves_it_to_an_exchange(store: Store) -> None:
    await put_many(store)
    worker = await store.worker()
    await worker.exchange(Settlement.dead(await worker.take_one(), b"letter"))
    await worker.settle_signals()
    offer = Offer(10, {QUEUE: Demand(5)})
    answer = (await worker.lease.park(0.05, offer)).exchange
    assert answer is not None
    assert (answer.jobs, answer.left_ready) == ([], {QUEUE})


async def test_nothing_is_left_of_barriers(store: Store, server: Server) -> None:
    await put_many(store, 3)
    await store.backend.cancel([NewJob(QUEUE, "z001", 2, b"").ref], None, 0)
    assert "barriers" in keys_of(store, server)
    worker = await store.worker()
    answer = await worker.exchange(Settlement.succeeded(await worker.take_one()), demand=10)
    assert ids(answer.jobs) == ["z000", "z002"]
    assert keys_of(store, server) == set()


@pytest.mark.unaudited("it spoils keys")
@pytest.mark.parametrize("part", ["barriers", "barriers:of", "barriers:fallen", "barriers:data"])
async def test_a_key_of_a_wrong_type_loses_no_job(store: Store, server: Server, part: str) -> None:
    await put_many(store, 1)
    worker = await store.worker()
    job = await worker.take_one()
    key = StoreKeys(store.settings.prefix).queue(QUEUE).base + part.encode()
    kept = key + b"-kept"
    has_key = server.command("EXISTS", key) == 1
    if has_key:
        server.command("RENAME", key, kept)
    server.command("SET", key, "spoiled")
    assert (await worker.exchange(Settlement.succeeded(job))).away
    assert await store.state("a") is State.RUNNING
    server.command("DEL", key)
    if has_key:
        server.command("RENAME", kept, key)
    answer = await worker.exchange(Settlement.succeeded(job), demand=1)
    assert ids(answer.jobs) == ["z000"]
