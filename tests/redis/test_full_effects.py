"""A server without room refuses what a success stores, and nothing else of an exchange."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, cast

import pytest

from asyncjobs import INJECTED, AsyncJobs, JobContext, State, Worker
from asyncjobs.errors import StoreFull
from asyncjobs.model.settlement import Effects, Settlement
from asyncjobs.model.terms import Arrival, Barrier, Terms
from asyncjobs.store.redis.backend import RedisBackend
from asyncjobs.store.seam import EnqueueBatch, StoreSettings
from asyncjobs.testing.conformance.effects import new
from asyncjobs.testing.conformance.store import LIMIT_S, PinnedClock, Store, ids
from asyncjobs.testing.servers import Server, ServerKind, available_servers, start_server
from asyncjobs.worker.engine.room import Room

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["valkey", "redis"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server of this test's own, whose memory it limits."""
    kind = cast(ServerKind, request.param)
    if kind not in available_servers():
        pytest.skip(f"no {kind} server on this machine")
    with start_server(kind) as running:
        yield running
        running.command("CONFIG", "SET", "maxmemory", "0")


@pytest.fixture
async def own(server: Server, anyio_backend: str) -> Any:
    clock, config = PinnedClock(), StoreSettings()
    backend = RedisBackend(server.url, config, now_ms=clock)
    try:
        await backend.open()
        yield Store(backend, clock, config, lambda *_: backend)
    finally:
        await backend.close()


async def test_a_full_store_leaves_out_what_stores_jobs(own: Store, server: Server) -> None:
    worker = await own.worker("work", "beside")
    await own.enqueue("plain", "first", "again", "second", "next")
    await own.enqueue("other", queue="beside")
    demand = await worker.take(4)
    jobs = {job.id: job for job in demand}
    assert sorted(jobs) == ["again", "first", "other", "plain", "second"]
    first = Settlement.succeeded(jobs["first"]).causing(Effects((new("a"),)))
    second = Settlement.succeeded(jobs["second"]).causing(Effects((new("b", queue="far"),)))
    server.command("CONFIG", "SET", "maxmemory", "1")
    answer = await worker.exchange(
        first,
        Settlement.succeeded(jobs["plain"]),
        second,
        Settlement.reschedule(jobs["again"], b"again", 1_000),
        Settlement.succeeded(jobs["other"]),
        demand=1,
    )
    assert (answer.full, answer.not_yours, answer.away) == ([first, second], [], {})
    # The lease holds their jobs, and all else went its way.
    assert ids(answer.jobs) == ["next"]
    states = [await own.state(id) for id in ("first", "second", "plain", "again", "next")]
    running = [State.RUNNING] * 2
    assert states == [*running, State.SUCCEEDED, State.SCHEDULED, State.RUNNING]
    assert await own.state("other", "beside") is State.SUCCEEDED
    assert await own.find("a") is None
    assert (await worker.exchange(first)).full == [first]
    server.command("CONFIG", "SET", "maxmemory", "0")
    answer = await worker.exchange(first, second)
    assert (answer.full, answer.not_yours) == ((), [])
    assert [await own.state(id) for id in ("first", "second", "a")] == [
        State.SUCCEEDED,
        State.SUCCEEDED,
        State.READY,
    ]


async def test_a_full_store_takes_in_what_outboxes_hold(own: Store, server: Server) -> None:
    behind = new("behind", queue="far")._replace(terms=Terms(behind="start"))
    ends = new("ends")._replace(terms=Terms(arrivals=(Arrival("far", "start"),)))
    barrier = Barrier("far", "start", 1)
    await own.enqueue("makes")
    await own.backend.enqueue(EnqueueBatch(own.token(), [behind, ends], [barrier]))
    worker = await own.worker()
    first, second = await worker.take(2)
    assert [first.id, second.id] == ["makes", "ends"]
    made = Effects((new("made", queue="far"), new("other", queue="elsewhere")))
    await worker.exchange(Settlement.succeeded(first).causing(made))
    await worker.exchange(Settlement.succeeded(second))
    server.command("CONFIG", "SET", "maxmemory", "1")
    relayed = await own.backend.relay(["work"])
    # "behind" may be what fills the server. So the new jobs do not stand in front of its arrival.
    assert (relayed.moved, relayed.away) == (3, {})
    states = [await own.state(id, "far") for id in ("made", "behind")]
    assert states == [State.READY, State.READY]
    assert await own.state("other", "elsewhere") is State.READY
    assert "elsewhere" in await own.backend.inspect.queues.names()
    # Whoever stores more is refused as before: the outboxes cannot grow with the server full.
    with pytest.raises(StoreFull):
        await own.enqueue("more")
    taken = await worker.take(1)
    assert taken == []
    far = await own.worker("far")
    (last, _) = await far.take(2)
    again = Settlement.succeeded(last).causing(Effects((new("again", queue="work"),)))
    assert (await far.exchange(again)).full == [again]


async def act(*, ctx: JobContext = INJECTED) -> None:
    await ctx.enqueue(DONE["child"].bind())


async def child() -> None:
    DONE["children"] += 1


async def plain() -> str:
    return "done"


DONE: dict[str, Any] = {}


async def test_a_worker_sends_them_again_when_there_is_room(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = AsyncJobs(server.url)
    parent, DONE["child"], other = app.job(act), app.job(child), app.job(plain)
    DONE["children"] = 0
    refused = asyncio.Event()
    again = Room.again

    def noted(self: Room, *about: Any) -> Any:
        refused.set()
        return again(self, *about)

    monkeypatch.setattr(Room, "again", noted)
    async with app:
        handle = await parent.enqueue()
        beside = await other.enqueue()
        server.command("CONFIG", "SET", "maxmemory", "1")
        async with Worker(app, concurrency=2, grace=1):
            async with asyncio.timeout(LIMIT_S):
                await refused.wait()
                assert await beside.result() == "done"
            assert await handle.status() is State.RUNNING
            server.command("CONFIG", "SET", "maxmemory", "0")
            await handle.result(LIMIT_S)
            async with asyncio.timeout(LIMIT_S):
                while not DONE["children"]:
                    await asyncio.sleep(0.01)
    assert DONE["children"] == 1
