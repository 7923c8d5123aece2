"""Jobs with a gate on a server: what the keys of their lanes hold, and that none is left."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import pytest

from asyncjobs.model.clock import new_id
from asyncjobs.model.job import NewJob, State, TakenJob
from asyncjobs.model.settlement import Settlement
from asyncjobs.model.terms import Gate, LimitKind, LimitRule, LimitUse, Terms, WhenFull
from asyncjobs.store.answers import Placed
from asyncjobs.store.letters import LetterQuery, Revival, Revived
from asyncjobs.store.redis.backend import RedisBackend
from asyncjobs.store.seam import EnqueueBatch, StoreSettings
from asyncjobs.testing.conformance.store import PinnedClock, Store, ids, outcome, ref

pytestmark = pytest.mark.anyio

Places: TypeAlias = list[Placed | None]


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


def running(number: int, key: str = "acme", limit: str = "crm") -> LimitUse:
    return LimitUse(limit, key, LimitRule(LimitKind.CONCURRENCY, number))


def new(
    id: str,
    *uses: LimitUse,
    priority: int = 2,
    turn: str = "",
    when_full: WhenFull = "wait",
    delay_ms: int = 0,
) -> NewJob:
    terms = Terms(gate=Gate(uses, turn, 1, when_full))
    return NewJob("work", id, priority, id.encode(), delay_ms, has_new_id=True, terms=terms)


async def enqueue(store: Store, *jobs: NewJob) -> Places:
    answer = await store.backend.enqueue(EnqueueBatch(store.token(), jobs))
    for refusal in answer.refused.values():
        raise refusal
    return list(answer.places)


async def test_two_limits_at_once_leave_no_key(store: Store) -> None:
    jobs = [new(f"j{n}", running(2, f"k{n % 3}"), running(4, "", "all")) for n in range(40)]
    await enqueue(store, *jobs)
    worker = await store.worker()
    seen: list[str] = []
    held: list[TakenJob] = []
    for _ in jobs:
        ends = [Settlement.succeeded(job) for job in held[:2]]
        taken = (await worker.exchange(*ends, demand=10)).jobs
        held = held[2:] + taken
        seen += ids(taken)
        assert len(held) <= 4
    while held:
        ends = [Settlement.succeeded(job) for job in held]
        held = (await worker.exchange(*ends, demand=10)).jobs
        seen += ids(held)
    assert sorted(seen) == sorted(job.id for job in jobs)
    left = await _keys(store)
    assert left & {b"gated", b"standing", b"turns", b"barred", b"lanes", b"permits"} == set()
    assert b"limits" in left


async def test_a_job_that_goes_back_is_first_and_a_suspect(store: Store) -> None:
    await enqueue(store, *(new(f"j{n}", running(1)) for n in range(3)))
    worker = await store.worker()
    (job,) = await worker.take()
    assert ids((await worker.exchange(Settlement.release(job), demand=10)).jobs) == ["j0"]
    other = await store.worker()
    await store.end_leases(other)
    (again,) = await other.take()
    assert (again.id, again.crashes) == ("j0", 1)
    retry = Settlement.reschedule(again, b"again", 1000)
    assert ids((await other.exchange(retry, demand=10)).jobs) == ["j1"]


async def test_one_that_does_not_wait(store: Store) -> None:
    await enqueue(store, new("a", running(1)))
    worker = await store.worker()
    (job,) = await worker.take()
    assert await enqueue(store, new("b", running(1), when_full="cancel_new")) == [
        Placed(ref("b"), "cancelled")
    ]
    assert await store.state("b") is State.CANCELLED
    await enqueue(store, new("c", running(1), when_full="cancel_new", delay_ms=5))
    store.clock.ms += 5
    assert (await worker.exchange(demand=10)).jobs == []
    assert await store.state("c") is State.CANCELLED
    await enqueue(store, new("d", running(1), when_full="cancel_running"))
    answer = await worker.exchange(demand=10)
    assert [each.id for each in answer.cancels] == ["a"]
    assert ids((await worker.exchange(Settlement.cancelled(job), demand=10)).jobs) == ["d"]


async def test_a_server_that_lost_its_last_second_gives_no_receipt_twice(store: Store) -> None:
    """A worker that still runs a job would settle that of another one."""
    await enqueue(store, *(new(f"j{n}", running(2)) for n in range(4)))
    worker = await store.worker()
    link = _backend(store)._link
    base = b"{%b:work}:" % store.settings.prefix.encode()
    kept = [
        (base + key, await link.call(b"DUMP", base + key), await link.call(b"PTTL", base + key))
        for key in await _keys(store)
    ]
    before = await worker.take()
    for key in await _keys(store):
        await link.call(b"DEL", base + key)
    for full, value, left_ms in kept:
        await link.call(b"RESTORE", full, b"%d" % max(left_ms, 0), value)
    after = await (await store.worker()).take()
    assert len(before) == len(after) == 2
    assert {job.receipt for job in before}.isdisjoint(job.receipt for job in after)


def _backend(store: Store) -> RedisBackend:
    backend = store.backend
    assert isinstance(backend, RedisBackend)
    return backend


async def _keys(store: Store) -> set[bytes]:
    base = b"{%b:work}:" % store.settings.prefix.encode()
    found = await _backend(store)._link.call(b"KEYS", base.replace(b"[", b"\\[") + b"*")
    return {key.removeprefix(base) for key in found}


@pytest.mark.parametrize("seed", [0, 1, 5])
async def test_no_window_sees_more_starts_than_the_rate(store: Store, seed: int) -> None:
    chance = random.Random(seed)
    number, period_ms, burst = chance.choice([(5, 1000, 1), (7, 300, 3), (20, 100, 20)])
    rule = LimitRule(LimitKind.RATE, number, period_ms, burst)
    workers = [await store.worker() for _ in range(2)]
    starts: list[int] = []
    tokens: dict[str, int] = {}
    while len(starts) < 60:
        jobs = []
        for _ in range(chance.randint(0, 9)):
            id = f"j{len(tokens)}"
            tokens[id] = chance.choice([1, 1, 1, min(3, burst)])
            use = LimitUse("api", "", rule, tokens=tokens[id])
            jobs.append(new(id, use, turn=chance.choice("ab")))
        if jobs:
            await enqueue(store, *jobs)
        taken = await chance.choice(workers).take(chance.randint(1, 9))
        for job in taken:
            starts += [store.clock.ms] * tokens[job.id]
        store.clock.ms += chance.choice([0, 1, period_ms // 10, period_ms // 2])
    for begin in starts:
        assert sum(begin <= ms < begin + period_ms for ms in starts) <= number
    # A rate is no reason to be slow: those that wait go on as soon as they may.
    answer = await workers[0].exchange(demand=100)
    due = answer.next_due_ms["work"]
    if due is not None:
        store.clock.ms = due
        assert await workers[0].take() != []


async def test_a_dead_job_that_runs_again_waits_at_its_gate(store: Store) -> None:
    await enqueue(store, new("dead", running(1)), new("other", running(1)))
    worker = await store.worker()
    (job,) = await worker.take()
    dead = Settlement.dead(job, b"letter", outcome(State.DEAD), 0)
    (other,) = (await worker.exchange(dead, demand=1)).jobs
    page = await store.backend.dead.page(LetterQuery("work"))
    gate = Gate((running(1),))
    revival = Revival(page.letters[0].key, b"again", gate=gate)
    assert await store.backend.dead.revive([revival]) == [Revived.READY]
    assert (await store.look("dead")).held_by == "limit crm acme"
    answer = await worker.exchange(Settlement.succeeded(other), demand=10)
    assert ids(answer.jobs) == ["dead"]
