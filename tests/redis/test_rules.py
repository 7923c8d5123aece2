"""What a rule of the store's scripts costs or leaves behind, seen on the server itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest

from asyncjobs.errors import StoreError, StoreFull
from asyncjobs.model.awaiting import EventWait, NewEvent
from asyncjobs.model.demand import Demand
from asyncjobs.model.job import NewJob, State
from asyncjobs.model.notes import PROGRESS, Note
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.control import Purge
from asyncjobs.store.lease import Offer
from asyncjobs.store.redis.backend import RedisBackend
from asyncjobs.store.redis.keys import StoreKeys
from asyncjobs.store.redis.scripts import run, script
from asyncjobs.store.seam import EnqueueBatch, StoreSettings
from asyncjobs.testing.conformance.store import LIMIT_S, QUEUE, PinnedClock, Store, Worker, ids, ref
from asyncjobs.testing.servers import Server, ServerKind, available_servers, start_server

pytestmark = pytest.mark.anyio

READY = f"{{asyncjobs:{QUEUE}}}:ready:2"


@pytest.fixture(params=["valkey", "redis"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server of this test's own: its settings and counters are changed and read."""
    kind = cast(ServerKind, request.param)
    if kind not in available_servers():
        pytest.skip(f"no {kind} server on this machine")
    with start_server(kind) as running:
        yield running


@pytest.fixture
async def own(server: Server, anyio_backend: str) -> Any:
    """An open store on that server, with a pinned clock."""
    clock, config = PinnedClock(), StoreSettings()
    backend = RedisBackend(server.url, config, now_ms=clock)
    try:
        await backend.open()
        yield Store(backend, clock, config, lambda *_: backend)
    finally:
        await backend.close()


def delivered(server: Server) -> list[int]:
    """How often each pending entry was delivered, by the server's own count."""
    return [entry[3] for entry in server.command("XPENDING", READY, "workers", "-", "+", "10")]


@pytest.mark.parametrize("how", ["release", "deregister", "reclaim"])
async def test_giving_back_is_no_delivery(own: Store, server: Server, how: str) -> None:
    await own.enqueue("a", "b")
    worker, keeper = await own.worker(), await own.worker()
    jobs = await worker.take()
    if how == "release":
        await worker.exchange(*map(Settlement.release, jobs))
    elif how == "deregister":
        await worker.lease.leave()
    else:
        await own.end_leases(keeper)
    assert delivered(server) == [1, 1]
    assert ids(await keeper.take()) == ["a", "b"]


async def test_looking_is_no_delivery(own: Store, server: Server) -> None:
    await own.enqueue("a")
    worker = await own.worker()
    (job,) = await worker.take()
    assert (await worker.lease.resync(9, [])).missing == [job]
    assert delivered(server) == [1]


async def test_empty_streams_are_skipped(own: Store, server: Server) -> None:
    worker = await own.worker()
    server.command("CONFIG", "RESETSTAT")
    assert await worker.take() == []
    told = server.command("INFO", "commandstats")
    assert b"cmdstat_xlen" in told
    assert b"cmdstat_xreadgroup" not in told


@pytest.mark.parametrize("how", ["retry", "cancel"])
async def test_nothing_is_left_of_crashes(own: Store, server: Server, how: str) -> None:
    await own.enqueue("a")
    worker, keeper = await own.worker(), await own.worker()
    await worker.take_one()
    await own.end_leases(keeper)
    crashes = f"{{asyncjobs:{QUEUE}}}:crashes"
    assert list(server.command("HGETALL", crashes)[1::2]) == [b"1"]
    if how == "retry":
        await keeper.exchange(Settlement.reschedule(await keeper.take_one(), b"again", 1000))
    else:
        await own.backend.cancel([ref("a")], None, 0)
    assert server.command("EXISTS", crashes) == 0


BAD_SETTLEMENTS = {
    "an operation that is none": ("bad settlement", [b"z2", b"1-1", b"b"]),
    "a priority that is none": ("bad settlement", [b"f7s", b"1-1", b"b"]),
    "a delay that is no number": ("bad number", [b"r2", b"1-1", b"b", b"soon", b"again"]),
    "an argument too many": ("bad effect", [b"f2s", b"1-1", b"b", b"left over"]),
}


@pytest.mark.parametrize("bad", BAD_SETTLEMENTS)
async def test_what_a_script_refuses_has_no_effect(own: Store, server: Server, bad: str) -> None:
    await own.enqueue("a")
    worker = await own.worker()
    taken = await worker.take_one()
    before = server.command("HGETALL", f"{{asyncjobs:{QUEUE}}}:sequence")
    head = [b"%d" % own.clock.ms, worker.lease.spec.id, 9, 60_000, 1, 0, 3, b"32 1", 2, 0, b""]
    good = [b"f2s", taken.receipt, b"a"]
    trade, keys = script("exchange"), StoreKeys("asyncjobs").queue(QUEUE)
    message, words = BAD_SETTLEMENTS[bad]
    command = trade.command(keys, *head, *good, *words)
    link = cast(RedisBackend, own.backend)._link
    with pytest.raises(StoreError, match=message):
        await run(link, trade, command)
    assert await own.state("a") is State.RUNNING
    assert server.command("HGETALL", f"{{asyncjobs:{QUEUE}}}:sequence") == before


async def test_a_batch_that_a_script_refuses_has_no_effect(own: Store) -> None:
    store, keys = script("enqueue"), StoreKeys("asyncjobs").queue(QUEUE)
    head = [b"%d" % own.clock.ms, 60_000]
    jobs = [b"a", b"2", b"", b"envelope", b"b", b"2", b"soon", b"envelope"]
    command = store.command(keys, *head, *jobs, more_keys=(keys.batch("token"),))
    with pytest.raises(StoreError, match="bad due time"):
        await run(cast(RedisBackend, own.backend)._link, store, command)
    assert await own.find("a") is None


class Full:
    """A store that has reached its limit, with a job in each state."""

    def __init__(self, own: Store, worker: Worker, keeper: Worker) -> None:
        self.own = own
        self.worker = worker
        self.keeper = keeper

    async def exchange(self) -> None:
        a, b = await self.worker.take(2)
        await self.worker.exchange(Settlement.succeeded(a, b"outcome", 60_000))
        await self.worker.exchange(Settlement.reschedule(b, b"again", 5000))
        assert [await self.own.state(id) for id in "ab"] == [State.SUCCEEDED, State.SCHEDULED]

    async def note(self) -> None:
        (held,) = (await self.keeper.lease.resync(9, [])).missing
        half = Note(held, PROGRESS, b"half")
        assert await self.keeper.lease.note([half]) == [True]
        assert (await self.own.look("held")).progress == b"half"

    async def heartbeat(self) -> None:
        beat = await self.worker.lease.beat()
        assert (beat.lost, beat.away) == ((), {})

    async def offer(self) -> None:
        demand = {QUEUE: Demand(1)}
        parked = await self.worker.lease.park(LIMIT_S, Offer(1, demand))
        assert parked.exchange is not None
        assert ids(parked.exchange.jobs) == ["a"]

    async def register(self) -> None:
        await self.own.worker("another")
        assert (await self.own.counts("another")).workers == 1

    async def resync(self) -> None:
        answer = await self.keeper.lease.resync(9, [])
        assert ids(answer.missing) == ["held"]

    async def reclaim(self) -> None:
        assert (await self.own.end_leases(self.worker)).returned == 1

    async def release(self) -> None:
        (held,) = (await self.keeper.lease.resync(9, [])).missing
        self.keeper.sequence = 9
        await self.keeper.exchange(Settlement.release(held))
        assert await self.own.state("held") is State.READY

    async def deregister(self) -> None:
        await self.keeper.lease.leave()
        assert await self.own.state("held") is State.READY

    async def wait(self) -> None:
        (job,) = await self.worker.take(1)
        wait = EventWait(job, "paid", "", "n", "0", 1_000, b"")
        (answer,) = await self.worker.lease.await_events([wait])
        assert answer is not None
        assert answer.how == "waits"

    async def event(self) -> None:
        answer = await self.own.backend.send_event(NewEvent("paid", "", b"1"), [QUEUE])
        assert not answer.refused

    async def cancel(self) -> None:
        await self.own.backend.cancel([ref("a"), ref("held")], b"outcome", 60_000)
        assert await self.own.state("a") is State.CANCELLED
        beat = await self.keeper.lease.beat()
        assert beat.cancels == [ref("held")]

    async def purge(self) -> None:
        wanted = Purge(QUEUE, outcome=b"outcome", result_ttl_ms=60_000)
        purged = await self.own.backend.control.queues.purge(wanted, 100)
        while purged.after is not None:
            purged = await self.own.backend.control.queues.purge(wanted, 100, purged.after)
        assert await self.own.state("a") is State.CANCELLED

    async def pause(self) -> None:
        queues = self.own.backend.control.queues
        assert await queues.pause([QUEUE], None, b"{}") == [True]
        assert await self.worker.take() == []
        assert await queues.resume([QUEUE], None) == [True]
        assert len(await self.worker.take()) == 2


@pytest.mark.parametrize(
    "call",
    [
        "exchange",
        "offer",
        "note",
        "wait",
        "event",
        "heartbeat",
        "register",
        "resync",
        "reclaim",
        "release",
        "deregister",
        "cancel",
        "purge",
        "pause",
    ],
)
async def test_a_full_store_refuses_nothing_but_new_jobs(
    own: Store, server: Server, call: str
) -> None:
    await own.enqueue("held")
    keeper = await own.worker()
    await keeper.take_one()
    await own.enqueue("a", "b")
    full = Full(own, await own.worker(), keeper)
    server.command("CONFIG", "SET", "maxmemory", "1")
    try:
        await getattr(full, call)()
        more = EnqueueBatch(own.token(), [NewJob(QUEUE, "more", 2, b"more")])
        stored = await own.backend.enqueue(more)
        assert isinstance(stored.refused[QUEUE], StoreFull)
    finally:
        # Whoever looks at what is left behind needs some memory for it.
        server.command("CONFIG", "SET", "maxmemory", "0")
