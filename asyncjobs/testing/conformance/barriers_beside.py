"""Barriers beside what else a store keeps: effects, unique keys, pauses, and forgotten queues."""

from __future__ import annotations

import pytest

from asyncjobs.errors import UsageError
from asyncjobs.model.job import State
from asyncjobs.model.settlement import Effects, Settlement
from asyncjobs.model.terms import Barrier, Unique
from asyncjobs.store.answers import Placed
from asyncjobs.store.flows import FlowRef, Flows, Obstacle
from asyncjobs.testing.conformance.barriers import MINUTE_MS, placed, put, settle_all
from asyncjobs.testing.conformance.store import Store, ids, ref

pytestmark = pytest.mark.anyio


async def test_a_success_raises_before_it_counts_itself(store: Store) -> None:
    await put(store, placed("a", None, "end"), placed("z", "end"), end=1)
    worker = await store.worker()
    children = tuple(placed(f"c{n}", None, "end") for n in range(3))
    effects = Effects(children, (Barrier("work", "end", 3),))
    end = Settlement.succeeded(await worker.take_one()).causing(effects)
    jobs = (await worker.exchange(end, demand=10)).jobs
    assert ids(jobs) == ["c0", "c1", "c2"]
    await worker.exchange(*map(Settlement.succeeded, jobs[:2]))
    assert await store.state("z") is State.HELD
    answer = await worker.exchange(Settlement.succeeded(jobs[2]), demand=1)
    assert ids(answer.jobs) == ["z"]


async def test_a_success_stores_jobs_behind_its_own_barrier(store: Store) -> None:
    await put(store, placed("a"))
    worker = await store.worker()
    jobs = (placed("c", None, "own"), placed("z", "own"))
    effects = Effects(jobs, (Barrier("work", "own", 1),))
    end = Settlement.succeeded(await worker.take_one()).causing(effects)
    taken = (await worker.exchange(end, demand=10)).jobs
    assert ids(taken) == ["c"]
    assert ids((await worker.exchange(Settlement.succeeded(taken[0]), demand=1)).jobs) == ["z"]


async def test_a_success_that_does_not_count_raises_nothing(store: Store) -> None:
    await put(store, placed("a", None, "end"), placed("z", "end"), end=1)
    worker, keeper = await store.worker(), await store.worker()
    lost = await worker.take_one()
    await store.end_leases(keeper)
    effects = Effects((), (Barrier("work", "end", 5),))
    answer = await worker.exchange(Settlement.succeeded(lost).causing(effects))
    assert answer.lost or answer.not_yours
    assert await settle_all(keeper) == ["a", "z"]


async def test_a_job_that_is_not_stored_holds_up_nobody(store: Store) -> None:
    """Another one has its unique key, so its own end never comes."""
    key = Unique(b"key", "finished", MINUTE_MS)
    await put(store, placed("first", unique=key))
    places = await put(
        store,
        placed("a", None, "end", unique=key, on_failure="run"),
        placed("z", "end"),
        end=1,
    )
    assert places[0] == Placed(ref("first"), "there")
    assert ids(await (await store.worker()).take()) == ["first", "z"]


async def test_a_job_behind_a_barrier_holds_its_unique_key(store: Store) -> None:
    key = Unique(b"key", "finished", MINUTE_MS)
    await put(store, placed("a", None, "end"), placed("z", "end", unique=key), end=1)
    (place,) = await put(store, placed("other", unique=key))
    assert place == Placed(ref("z"), "there")
    assert await settle_all(await store.worker()) == ["a", "z"]
    assert await put(store, placed("other", unique=key)) == [None]


async def test_a_job_behind_a_barrier_gets_the_call_of_a_later_one(store: Store) -> None:
    key = Unique(b"key", "finished", MINUTE_MS, replace=True)
    await put(store, placed("a", None, "end"), placed("z", "end", unique=key), end=1)
    newer = placed("newer", unique=key, priority=1)
    assert await put(store, newer) == [Placed(ref("z"), "replaced")]
    assert await store.state("z") is State.HELD
    worker = await store.worker()
    answer = await worker.exchange(Settlement.succeeded(await worker.take_one()), demand=5)
    assert [(job.id, job.priority, job.envelope) for job in answer.jobs] == [("z", 1, b"newer")]


async def test_a_job_waits_for_a_barrier_or_for_a_key(store: Store) -> None:
    key = Unique(b"key", "finished", MINUTE_MS, hold=True)
    with pytest.raises(UsageError, match=r"work/z.*behind the barrier 'end'.*unique key"):
        await put(store, placed("z", "end", unique=key), end=1)


async def test_a_paused_queue_lets_nothing_behind_a_barrier_run(store: Store) -> None:
    await put(store, placed("a", None, "end"), placed("z", "end"), end=1)
    worker = await store.worker()
    job = await worker.take_one()
    await store.backend.control.queues.pause(["work"], None, b"{}")
    assert (await worker.exchange(Settlement.succeeded(job), demand=5)).jobs == []
    assert await store.state("z") is State.READY
    await store.backend.control.queues.resume(["work"], None)
    assert ids(await worker.take()) == ["z"]


async def test_what_is_known_of_what_is_in_front(store: Store) -> None:
    await put(store, placed("a", None, "end"), placed("z", "end"), end=2)
    jobs = [ref("a"), ref("z"), ref("never")]
    assert await store.backend.flows.obstacles(jobs) == [None, Obstacle("end", 2), None]
    worker = await store.worker()
    await worker.exchange(Settlement.succeeded(await worker.take_one()))
    assert await store.backend.flows.obstacles(jobs) == [None, Obstacle("end", 1), None]


async def test_a_barrier_keeps_its_queue(store: Store, flows: Flows) -> None:
    await put(store, placed("z", "end"), end=1)
    store.clock.ms += 90_000_000
    (left,) = await store.backend.inspect.queues.forget(["work"], 0)
    assert (left.barriers, left.indexed, left.is_forgotten) == (1, 1, False)
    await store.backend.cancel([ref("z")], None, 0)
    await flows.start(FlowRef("work", "none"), [("work", "end")])
    store.clock.ms += 90_000_000
    (left,) = await store.backend.inspect.queues.forget(["work"], 0)
    assert left.barriers == 0
    assert left.is_forgotten
