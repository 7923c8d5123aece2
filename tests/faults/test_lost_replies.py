"""Connections that break in the middle: each job runs once, and is settled once."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter

import pytest

from asyncjobs import AsyncJobs, StoreUnavailable, Worker
from asyncjobs.events import JobsReclaimed, JobStarted, JobSucceeded, LeaseLost
from asyncjobs.store.redis.address import Address
from asyncjobs.store.redis.link import Link
from asyncjobs.testing.servers import Server
from tests.faults.proxy import Decide, Proxy, Wire, proxy_to
from tests.worker import jobs
from tests.worker.kit import LIMIT_S, Stage, counts, events_of, eventually, register, until

pytestmark = pytest.mark.anyio


def lose_some(label: str, which: set[int]) -> Decide:
    """Cut the connection in place of these replies, counted over all of this label.

    The greeting of a connection does not count.
    """
    seen = itertools.count()

    def decide(wire: Wire, data: bytes) -> bytes | None:
        if wire.label != label or wire.asked < 2:
            return data
        return None if next(seen) in which else data

    return decide


def cut_after(label: str, every: int, length: int) -> Decide:
    """Let `length` bytes of each so-manieth reply pass before the cut."""
    seen = itertools.count(1)
    doomed: set[Wire] = set()

    def decide(wire: Wire, data: bytes) -> bytes | None:
        if wire.label != label:
            return data
        if wire in doomed:
            return None
        if next(seen) % every == 0:
            doomed.add(wire)
            # The rest is never passed on: the next piece, or the end, cuts.
            asyncio.get_running_loop().call_later(0.01, wire.closing)
            return data[:length]
        return data

    return decide


async def _run_all(
    proxy: Proxy, server: Server, stage: Stage, jobs_count: int, lose: Decide
) -> None:
    """Enqueue directly, work through a proxy that loses replies, count what happened."""
    direct = AsyncJobs(server.url)
    app = AsyncJobs(proxy.url)
    started, succeeded = events_of(app, JobStarted), events_of(app, JobSucceeded)
    lost = events_of(app, LeaseLost)
    register(app, jobs.note)
    job = register(direct, jobs.note)
    async with direct:
        async with app, Worker(app, concurrency=20, grace=2):
            proxy.lose = lose
            handles = await direct.enqueue_many([job.bind(n) for n in range(jobs_count)])
            for handle in handles:
                await handle.result(LIMIT_S)
        found = await counts(direct)
    assert Counter(stage.notes) == Counter(range(jobs_count))
    assert (len(started), len(succeeded), lost) == (jobs_count, jobs_count, [])
    assert (sum(found.ready), found.running, found.scheduled, found.dead) == (0, 0, 0, 0)


@pytest.mark.parametrize("first", [0, 1, 2, 3])
async def test_a_lost_reply_of_an_exchange(server: Server, stage: Stage, first: int) -> None:
    # Some of these replies answer exchanges, some the resyncs after them.
    async with proxy_to(server.port) as proxy:
        await _run_all(
            proxy, server, stage, 200, lose_some("exchange", set(range(first, first + 12, 4)))
        )
        assert proxy.losses == 3


@pytest.mark.parametrize("length", [1, 10, 100])
async def test_half_a_reply_of_an_exchange(server: Server, stage: Stage, length: int) -> None:
    async with proxy_to(server.port) as proxy:
        await _run_all(proxy, server, stage, 200, cut_after("exchange", 5, length))


@pytest.mark.unaudited("it counts in a key of its own")
async def test_a_command_whose_reply_was_lost_is_not_sent_again(server: Server) -> None:
    """Sent again by the connection itself, an exchange would take and settle twice."""
    async with proxy_to(server.port) as proxy:
        link = Link(
            Address.parse(proxy.url), label="exchange", connect_timeout_s=LIMIT_S, timeout_s=LIMIT_S
        )
        try:
            await link.call(b"INCR", b"number")
            replies = iter([None])
            proxy.lose = lambda wire, data: next(replies, data)
            with pytest.raises(StoreUnavailable):
                await link.call(b"INCR", b"number")
            assert await link.call(b"GETDEL", b"number") == b"2"
        finally:
            await link.close()


async def test_random_losses_on_every_connection(server: Server, stage: Stage) -> None:
    seed = random.getrandbits(32)
    print(f"seed: {seed}")
    chance = random.Random(seed)

    def decide(wire: Wire, data: bytes) -> bytes | None:
        return None if wire.asked > 2 and chance.random() < 0.15 else data

    async with proxy_to(server.port) as proxy:
        await _run_all(proxy, server, stage, 1000, decide)
        assert proxy.losses > 0


async def test_an_enqueue_whose_reply_was_lost_is_stored_once(server: Server, stage: Stage) -> None:
    async with proxy_to(server.port) as proxy:
        app, worker_app = AsyncJobs(proxy.url), AsyncJobs(server.url)
        register(worker_app, jobs.note)
        job = register(app, jobs.note)
        async with app, worker_app, Worker(worker_app):
            for number in range(20):
                proxy.lose = lose_some("client", {0} if number % 2 else {0, 2})
                handle = await job.enqueue(number)
                assert handle.is_new
                proxy.lose = None
                await handle.result(LIMIT_S)
            assert proxy.losses >= 20
    assert stage.notes == list(range(20))


async def test_a_waiter_whose_connection_breaks_still_hears(server: Server, stage: Stage) -> None:
    async with proxy_to(server.port) as proxy:
        app, worker_app = AsyncJobs(proxy.url), AsyncJobs(server.url)
        register(worker_app, jobs.gated)
        job = register(app, jobs.gated)
        async with app, worker_app, Worker(worker_app, grace=2):
            handles = [await job.enqueue(f"g{n}") for n in range(5)]
            waiters = [asyncio.create_task(handle.result(LIMIT_S)) for handle in handles]
            await stage.noted(("started", "g4"))
            for number, waiter in enumerate(waiters):
                await until(lambda: any(wire.label == "results" for wire in proxy.wires))
                proxy.cut("results")
                stage.open(f"g{number}")
                assert await waiter == f"g{number}"


async def is_parked(server: Server) -> bool:
    """Whether a worker waits for a call, with a slot free and no exchange under way."""
    clients = server.command("CLIENT", "LIST").decode().splitlines()
    waits = [line for line in clients if "name=asyncjobs:wait" in line]
    return any("cmd=blpop" in line and "flags=b" in line for line in waits)


async def test_a_half_open_wait_recovers(
    server: Server, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asyncjobs.worker.engine.parking.WAIT_S", 0.5)
    async with proxy_to(server.port) as proxy:
        app, direct = AsyncJobs(proxy.url), AsyncJobs(server.url)
        register(app, jobs.note)
        job = register(direct, jobs.note)
        async with app, direct, Worker(app, grace=2):
            await (await job.enqueue("before")).result(LIMIT_S)
            # Not before it has nothing left to look for: it would find the job by that look.
            await eventually(lambda: is_parked(server))
            proxy.freeze("wait")
            handle = await job.enqueue("during")
            # Nobody tells it that the call went into the void: its own look must do.
            await handle.result(LIMIT_S)
            proxy.thaw()
            await (await job.enqueue("after")).result(LIMIT_S)
    assert stage.notes == ["before", "during", "after"]


async def test_a_frozen_worker_loses_its_jobs_and_settles_nothing_twice(
    server: Server, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A call that reaches a frozen connection is lost; its own look makes up for it.
    monkeypatch.setattr("asyncjobs.worker.engine.parking.WAIT_S", 0.2)
    async with proxy_to(server.port) as proxy:
        frozen, healthy = AsyncJobs(proxy.url), AsyncJobs(server.url)
        job = register(frozen, jobs.gated)
        register(healthy, jobs.gated)
        lost, reclaimed = events_of(frozen, LeaseLost), events_of(healthy, JobsReclaimed)
        mine, theirs = events_of(frozen, JobSucceeded), events_of(healthy, JobSucceeded)
        async with frozen, healthy, Worker(frozen, lease=1, grace=2, name="frozen"):
            handles = [await job.enqueue("g") for _ in range(10)]
            await stage.noted(("started", "g"), 10)
            proxy.freeze("exchange", "client", "lease", "wait")
            async with Worker(healthy, lease=1, grace=2, name="healthy"):
                await until(lambda: bool(reclaimed))
                await stage.noted(("started", "g"), 20)
                proxy.thaw()
                await stage.noted(("stopped", "g"), 10)
                stage.open("g")
                checks = [healthy.handle(handle.id, "default") for handle in handles]
                for handle in checks:
                    assert await handle.result(LIMIT_S) == "g"
            # And it works on.
            assert await (await job.enqueue("g")).result(LIMIT_S) == "g"
        assert lost == [LeaseLost("frozen", ("default",))]
        assert (len(mine), len(theirs)) == (1, 10)
