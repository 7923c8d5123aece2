"""Counts of crashes that a foreign writer has put into the store: exchanges go on."""

from __future__ import annotations

from typing import Any

import pytest

from asyncjobs.model.clock import new_id
from asyncjobs.model.demand import Demand
from asyncjobs.model.job import NewJob
from asyncjobs.model.refs import JobRef
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.lease import LeaseSpec
from asyncjobs.store.redis.backend import RedisBackend
from asyncjobs.store.redis.exchange import MOST_CRASHES, crashes_in
from asyncjobs.store.seam import EnqueueBatch, StoreSettings

pytestmark = [pytest.mark.anyio, pytest.mark.unaudited("foreign counts are what is tested")]

FOREIGN = [b"abc", b"", b"-5", b"1.5", b"9" * 400, b"nan", b"inf", b"\xff"]


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000_000

    def __call__(self) -> int:
        return self.now


@pytest.mark.parametrize("dies", [True, False], ids=["dies", "gives back"])
@pytest.mark.parametrize("foreign", FOREIGN)
@pytest.mark.parametrize("kind", ["valkey", "redis"])
async def test_a_count_that_is_none(servers: Any, kind: Any, foreign: bytes, dies: bool) -> None:
    prefix, clock = f"test-{new_id()}", Clock()
    store = RedisBackend(servers.get(kind).url, StoreSettings(prefix=prefix), now_ms=clock)
    await store.open()
    demand = {"q": Demand(10, suspects=(8,))}
    try:
        jobs = [NewJob("q", id, 2, b"{}") for id in ("a", "b")]
        await store.enqueue(EnqueueBatch(new_id(), jobs))
        first = await store.lease(LeaseSpec(new_id(), "w", ("q",), 10_000))
        taken = (await first.exchange(1, [], demand)).jobs
        base = f"{{{prefix}:q}}:".encode()
        await store._link.call(b"HSET", base + b"crashes", b"2:" + taken[0].receipt, foreign)
        await store._link.call(b"SADD", base + b"returned", b"zzz")
        if dies:
            # In steps: a leap would look like an outage, after which nobody is reclaimed at once.
            for _ in range(20):
                clock.now += 2_000
                await store.reclaim(["q"], 0, 100)
        else:
            await first.exchange(2, [Settlement.release(job) for job in taken], {})
        second = await store.lease(LeaseSpec(new_id(), "w", ("q",), 10_000))
        crashes: dict[str, int] = {}
        for sequence in range(1, 6):
            again = (await second.exchange(sequence, [], demand)).jobs
            crashes |= {job.id: job.crashes for job in again}
        assert crashes.keys() == {"a", "b"}
        assert crashes["b"] == int(dies)
        assert crashes["a"] == MOST_CRASHES
        held = await second.resync(100, [])
        assert {job.id: job.crashes for job in held.missing} == crashes
    finally:
        keys = await store._link.call(b"KEYS", b"*" + prefix.encode() + b"*")
        await store._link.call(b"DEL", *keys)
        await store.close()


@pytest.mark.parametrize("kind", ["valkey", "redis"])
async def test_a_lease_that_leaves_and_charges_such_a_job(servers: Any, kind: Any) -> None:
    """It must leave: otherwise its other jobs wait for its end, and are charged too."""
    prefix = f"test-{new_id()}"
    store = RedisBackend(servers.get(kind).url, StoreSettings(prefix=prefix), now_ms=Clock())
    await store.open()
    demand = {"q": Demand(10, suspects=(8,))}
    try:
        jobs = [NewJob("q", id, 2, b"{}") for id in ("a", "b")]
        await store.enqueue(EnqueueBatch(new_id(), jobs))
        first = await store.lease(LeaseSpec(new_id(), "w", ("q",), 10_000))
        taken = (await first.exchange(1, [], demand)).jobs
        base = f"{{{prefix}:q}}:".encode()
        await store._link.call(b"HSET", base + b"crashes", b"2:" + taken[0].receipt, b"abc")
        await first.leave(taken[:1])
        second = await store.lease(LeaseSpec(new_id(), "w", ("q",), 10_000))
        again = (await second.exchange(1, [], demand)).jobs
        assert {job.id: job.crashes for job in again} == {"a": MOST_CRASHES, "b": 0}
    finally:
        keys = await store._link.call(b"KEYS", b"*" + prefix.encode() + b"*")
        await store._link.call(b"DEL", *keys)
        await store.close()


@pytest.mark.parametrize("stored", [b"", b"x{}", b"7{}", b"{}"])
@pytest.mark.parametrize("kind", ["valkey", "redis"])
async def test_a_scheduled_job_without_a_priority(servers: Any, kind: Any, stored: bytes) -> None:
    """One stored record must not end the exchanges of its queue."""
    prefix, clock = f"test-{new_id()}", Clock()
    store = RedisBackend(servers.get(kind).url, StoreSettings(prefix=prefix), now_ms=clock)
    await store.open()
    try:
        jobs = [NewJob("q", id, 2, b"{}", 10) for id in ("a", "b")]
        await store.enqueue(EnqueueBatch(new_id(), jobs))
        base = f"{{{prefix}:q}}:".encode()
        await store._link.call(b"HSET", base + b"scheduled:data", b"a", stored)
        await store.get([JobRef("q", "a")])
        clock.now += 10
        lease = await store.lease(LeaseSpec(new_id(), "w", ("q",), 10_000))
        taken = await lease.exchange(1, [], {"q": Demand(10)})
        assert (sorted(job.id for job in taken.jobs), dict(taken.away)) == (["a", "b"], {})
        assert not (await lease.exchange(2, [], {"q": Demand(10)})).jobs
    finally:
        keys = await store._link.call(b"KEYS", b"*" + prefix.encode() + b"*")
        await store._link.call(b"DEL", *keys)
        await store.close()


def test_how_counts_are_read() -> None:
    assert [crashes_in(each) for each in (None, b"0", b"3", 3)] == [0, 0, 3, 3]
    for foreign in FOREIGN:
        assert crashes_in(foreign) == MOST_CRASHES
