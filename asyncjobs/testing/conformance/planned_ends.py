"""A worker that was told to end dies before it has left: no job is charged with a crash."""

from __future__ import annotations

import pytest

from asyncjobs.testing.conformance.store import LEASE_MS, Store, Worker, ids

pytestmark = pytest.mark.anyio


async def tell(worker: Worker) -> None:
    """A heartbeat that says so; later ones of the worker need not."""
    await worker.lease.beat(leaves=True)


async def test_a_planned_death_is_no_crash(store: Store) -> None:
    await store.enqueue("a", "b", "c")
    worker, keeper = await store.worker(), await store.worker()
    await worker.take(2)
    await tell(worker)
    await worker.lease.beat()
    answer = await store.end_leases(keeper)
    assert (answer.returned, answer.leases) == (2, 1)
    assert [(job.id, job.crashes) for job in await keeper.take()] == [
        ("a", 0),
        ("b", 0),
        ("c", 0),
    ]


async def test_the_death_of_another_worker_is_one(store: Store) -> None:
    await store.enqueue("a", "b")
    planned, other, keeper = await store.worker(), await store.worker(), await store.worker()
    await planned.take_one()
    await other.take_one()
    await tell(planned)
    assert (await store.end_leases(keeper)).leases == 2
    assert sorted((job.id, job.crashes) for job in await keeper.take()) == [("a", 0), ("b", 1)]


async def test_suspects_keep_their_crashes(store: Store) -> None:
    await store.enqueue("a")
    first, keeper = await store.worker(), await store.worker()
    await first.take_one()
    await store.end_leases(keeper)
    second = await store.worker()
    assert (await second.take_one()).crashes == 1
    await tell(second)
    await store.end_leases(keeper)
    assert (await keeper.take_one()).crashes == 1


async def test_it_holds_for_all_jobs_of_a_bounded_reclaim(store: Store) -> None:
    names = [f"job-{number}" for number in range(5)]
    await store.enqueue(*names)
    worker, keeper = await store.worker(), await store.worker()
    await worker.take(5)
    await tell(worker)
    returned = (await store.end_leases(keeper, limit=2)).returned
    while returned < 5:
        returned += (await store.reclaim(limit=2)).returned
    taken = await keeper.take()
    assert ids(taken) == names
    assert {job.crashes for job in taken} == {0}


async def test_a_lease_that_is_gone_is_not_told_of(store: Store) -> None:
    # Nothing may stay of the word of a worker that has lost its lease: the audit would see it.
    worker, keeper = await store.worker(), await store.worker()
    await store.end_leases(keeper)
    await worker.lease.beat(leaves=True)
    assert (await store.counts()).workers == 1


async def test_a_queue_that_is_entered_again_is_told_anew(store: Store) -> None:
    await store.enqueue("a", "b")
    worker, keeper = await store.worker(), await store.worker()
    await worker.take_one()
    await tell(worker)
    await store.end_leases(keeper)
    await worker.lease.rejoin(["work"])
    assert (await worker.take_one()).crashes == 0
    await store.end_leases(keeper)
    assert [(job.id, job.crashes) for job in await keeper.take()] == [("a", 1), ("b", 0)]


async def test_a_farewell_still_charges_whom_it_names(store: Store) -> None:
    await store.enqueue("a", "b")
    worker, keeper = await store.worker(), await store.worker()
    jobs = await worker.take(2)
    await tell(worker)
    await store.pass_time(LEASE_MS // 2, keeper)
    await worker.lease.leave(jobs[:1])
    assert sorted((job.id, job.crashes) for job in await keeper.take()) == [("a", 1), ("b", 0)]
