"""Jobs that were running when a worker died: each death must narrow who is to blame."""

from __future__ import annotations

import pytest

from asyncjobs.job import Demand, Settlement, TakenJob
from tests.conformance.store import QUEUE, Store, Worker, ids

pytestmark = pytest.mark.anyio


async def crashed(store: Store, keeper: Worker, count: int, times: int) -> list[str]:
    """So many jobs that have been on a worker at its death, so many times."""
    names = [f"job-{number:03}" for number in range(count)]
    await store.enqueue(*names)
    for _ in range(times):
        worker = await store.worker()
        demand = {QUEUE: Demand(count, suspects=count, lone_crashes=99)}
        assert ids((await worker.exchange(demand=demand)).jobs) == names
        assert (await store.end_leases(keeper)).returned == count
    return names


async def take(worker: Worker, demand: Demand) -> list[TakenJob]:
    return (await worker.exchange(demand={QUEUE: demand})).jobs


async def test_no_more_suspects_than_asked_for(store: Store) -> None:
    keeper = await store.worker()
    names = await crashed(store, keeper, 70, 1)
    assert ids(await take(keeper, Demand(100, suspects=32))) == names[:32]
    assert await take(keeper, Demand(100, suspects=0)) == []
    assert ids(await take(keeper, Demand(100, suspects=40))) == names[32:]


async def test_suspects_do_not_hold_up_the_innocent(store: Store) -> None:
    keeper = await store.worker()
    await crashed(store, keeper, 40, 1)
    await store.enqueue("innocent")
    assert ids(await take(keeper, Demand(100, suspects=0))) == ["innocent"]


async def test_released_jobs_are_no_suspects(store: Store) -> None:
    worker = await store.worker()
    await store.enqueue("a", "b")
    jobs = await worker.take(2)
    await worker.exchange(*(Settlement.release(job) for job in jobs))
    assert ids(await take(worker, Demand(10, suspects=0))) == ["a", "b"]


async def test_the_last_chance_is_taken_alone(store: Store) -> None:
    keeper = await store.worker()
    names = await crashed(store, keeper, 3, 2)
    (first,) = await take(keeper, Demand(10))
    assert (first.id, first.crashes) == (names[0], 2)
    assert await take(keeper, Demand(10, alone=False)) == []
    answer = await keeper.exchange(Settlement.succeeded(first), demand={QUEUE: Demand(10)})
    assert ids(answer.jobs) == names[1:2]


async def test_a_lone_suspect_does_not_join_others(store: Store) -> None:
    keeper = await store.worker()
    lone = await crashed(store, keeper, 1, 2)
    worker = await store.worker()
    await store.enqueue("once")
    assert ids(await take(worker, Demand(1, suspects=0))) == ["once"]
    await store.end_leases(keeper)
    assert ids(await take(keeper, Demand(10))) == lone
    assert ids(await take(keeper, Demand(10, alone=False))) == ["once"]


async def test_what_is_passed_over_is_not_left_ready(store: Store) -> None:
    # Else a worker that may not take them would ask again and again.
    keeper = await store.worker()
    await crashed(store, keeper, 5, 1)
    answer = await keeper.exchange(demand={QUEUE: Demand(10, suspects=0)})
    assert (answer.jobs, answer.left_ready) == ([], frozenset())


async def test_the_guard_starts_where_it_is_told(store: Store) -> None:
    for priority in range(4):
        await store.enqueue(f"p{priority}-0", f"p{priority}-1", priority=priority)
    worker = await store.worker()
    assert ids(await take(worker, Demand(1, guard=1, guard_from=2))) == ["p2-0"]
    assert ids(await take(worker, Demand(1, guard=1, guard_from=1))) == ["p1-0"]
    assert sorted(ids(await take(worker, Demand(3, guard=3, guard_from=1)))) == [
        "p1-1", "p3-0", "p3-1",
    ]  # fmt: skip


async def test_the_guard_keeps_the_old_order_of_returned_jobs(store: Store) -> None:
    worker = await store.worker()
    await store.enqueue("a", "b", "c")
    jobs = await worker.take(3)
    await worker.exchange(*(Settlement.release(job) for job in jobs))
    await store.enqueue("younger")
    taken = await take(worker, Demand(4, guard=1, guard_from=2))
    assert ids(taken) == ["a", "b", "c", "younger"]


async def test_a_farewell_charges_only_whom_it_names(store: Store) -> None:
    await store.enqueue("a", "b", queue="one")
    await store.enqueue("c", queue="two")
    worker, other = await store.worker("one", "two"), await store.worker("one", "two")
    taken = {job.id: job for job in await worker.take()}
    await store.backend.deregister(worker.lease, [taken["b"]])
    found = await other.take()
    assert sorted((job.id, job.crashes) for job in found) == [("a", 0), ("b", 1), ("c", 0)]


async def test_a_farewell_charges_once_however_many_jobs_are_held(store: Store) -> None:
    await store.enqueue(*(f"job-{number:04}" for number in range(1200)))
    worker, other = await store.worker(), await store.worker()
    taken = [job for _ in range(6) for job in await worker.take(200)]
    assert len(taken) == 1200
    await store.backend.deregister(worker.lease, [taken[1100]])
    found = [job for _ in range(6) for job in await other.take(200)]
    assert {job.id: job.crashes for job in found if job.crashes} == {"job-1100": 1}
    assert len(found) == 1200


async def test_a_farewell_charges_nobody_for_what_the_lease_does_not_hold(store: Store) -> None:
    await store.enqueue("a", "b")
    worker, other = await store.worker(), await store.worker()
    a = await worker.take_one()
    await worker.exchange(Settlement.release(a))
    assert (await other.take_one()).id == "a"
    await store.backend.deregister(worker.lease, [a])
    # Given back and taken again, a job is the same entry: only the holder tells them apart.
    await store.backend.deregister(other.lease, [a])
    keeper = await store.worker()
    assert [(job.id, job.crashes) for job in await keeper.take()] == [("a", 0), ("b", 0)]
