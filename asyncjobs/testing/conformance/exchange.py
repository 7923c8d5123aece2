"""Taking jobs: the fence, the order, the bounds."""

from __future__ import annotations

import pytest

from asyncjobs.model.clock import new_id
from asyncjobs.model.demand import Demand
from asyncjobs.model.job import NewJob, State
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.answers import StaleSequence
from asyncjobs.store.seam import EnqueueBatch
from asyncjobs.testing.conformance.store import LEASE_MS, Store, ids

pytestmark = pytest.mark.anyio


async def test_a_taken_job_is_running_and_has_a_holder(store: Store) -> None:
    await store.enqueue("a")
    worker = await store.worker()
    taken = await worker.take_one()
    assert taken.holder == worker.lease.spec.entry("work")
    record = await store.look("a")
    assert (record.state, record.holder) == (State.RUNNING, worker.lease.spec.id)
    assert record.envelope == b"a"


async def test_a_job_is_taken_once(store: Store) -> None:
    await store.enqueue("a", "b", "c")
    first, second = await store.worker(), await store.worker()
    assert ids(await first.take(2)) == ["a", "b"]
    assert ids(await second.take()) == ["c"]
    assert await first.take() == []


async def test_urgent_jobs_come_first(store: Store) -> None:
    for priority in (3, 1, 2, 0):
        await store.enqueue(f"p{priority}-1", f"p{priority}-2", priority=priority)
    worker = await store.worker()
    assert ids(await worker.take(3)) == ["p0-1", "p0-2", "p1-1"]
    assert ids(await worker.take()) == ["p1-2", "p2-1", "p2-2", "p3-1", "p3-2"]


async def test_the_guard_takes_from_the_least_urgent(store: Store) -> None:
    for priority in range(4):
        await store.enqueue(*(f"p{priority}-{n}" for n in range(3)), priority=priority)
    worker = await store.worker()
    assert sorted(ids(await worker.take(4, guard=1))) == ["p0-0", "p0-1", "p0-2", "p3-0"]
    assert sorted(ids(await worker.take(4, guard=4))) == ["p2-0", "p2-1", "p3-1", "p3-2"]


async def test_a_guard_without_low_jobs_goes_to_the_others(store: Store) -> None:
    await store.enqueue("a", "b", "c", priority=1)
    assert ids(await (await store.worker()).take(2, guard=1)) == ["a", "b"]


async def test_a_guard_never_takes_more_than_there_are_slots(store: Store) -> None:
    await store.enqueue("a", "b", "c", "d")
    worker = await store.worker()
    assert len(await worker.take(2, guard=4)) == 2
    assert (await store.counts()).running == 2


async def test_no_demand_takes_nothing(store: Store) -> None:
    await store.enqueue("a")
    worker = await store.worker()
    answer = await worker.exchange(demand=0)
    assert (answer.jobs, answer.left_ready) == ([], frozenset({"work"}))
    assert await store.state("a") is State.READY


async def test_left_ready_says_whether_jobs_are_left(store: Store) -> None:
    await store.enqueue("a", "b")
    worker = await store.worker()
    assert (await worker.exchange(demand=1)).left_ready == {"work"}
    assert (await worker.exchange(demand=1)).left_ready == frozenset()
    assert (await worker.exchange(demand=1)).left_ready == frozenset()


async def test_left_ready_after_returned_jobs_were_taken(store: Store) -> None:
    await store.enqueue("a", "b")
    worker = await store.worker()
    await worker.exchange(*map(Settlement.release, await worker.take()))
    answer = await worker.exchange(demand=2)
    assert (ids(answer.jobs), answer.left_ready) == (["a", "b"], frozenset())


async def test_left_ready_after_returned_jobs_were_cancelled(store: Store) -> None:
    await store.enqueue("a")
    worker = await store.worker()
    taken = await worker.take_one()
    await worker.exchange(Settlement.release(taken))
    await store.backend.cancel([taken.ref], None, 0)
    assert (await worker.exchange(demand=0)).left_ready == frozenset()


async def test_one_exchange_over_several_queues(store: Store) -> None:
    for queue in ("one", "two", "three"):
        await store.enqueue(f"{queue}-a", f"{queue}-b", queue=queue)
    await store.enqueue("later", queue="three", delay_ms=500)
    worker = await store.worker("one", "two", "three")
    answer = await worker.exchange(demand={"one": Demand(1), "two": Demand(0), "three": Demand(9)})
    assert sorted(ids(answer.jobs)) == ["one-a", "three-a", "three-b"]
    assert answer.left_ready == {"one", "two"}
    assert answer.next_due_ms == {"one": None, "two": None, "three": store.clock.ms + 500}
    assert answer.now_ms == store.clock.ms


async def test_a_settlement_alone_covers_its_queue(store: Store) -> None:
    await store.enqueue("a", "b")
    worker = await store.worker()
    taken = await worker.take(1)
    answer = await worker.exchange(Settlement.succeeded(taken[0]), demand={})
    assert (answer.jobs, answer.not_yours) == ([], [])
    assert answer.left_ready == {"work"}
    assert set(answer.next_due_ms) == {"work"}
    assert await store.state("a") is State.SUCCEEDED


async def test_an_exchange_about_nothing(store: Store) -> None:
    answer = await (await store.worker()).exchange(demand={})
    assert (answer.jobs, answer.lost, answer.next_due_ms) == ([], (), {})


async def test_the_next_lease_end_is_that_of_others(store: Store) -> None:
    worker = await store.worker()
    assert (await worker.exchange(demand=0)).next_lease_end_ms is None
    store.clock.ms += 1000
    other = await store.worker()
    end = store.clock.ms + LEASE_MS
    assert (await worker.exchange(demand=0)).next_lease_end_ms == end
    assert (await other.exchange(demand=0)).next_lease_end_ms == end - 1000
    assert (await worker.lease.beat()).next_lease_end_ms == end


async def test_a_lease_that_ends_after_many_others_is_known(store: Store) -> None:
    workers = []
    for _ in range(4):
        workers.append(await store.worker())
        store.clock.ms += 1000
    end = store.clock.ms - 4000 + LEASE_MS
    for worker in workers[2:]:
        answer = await worker.exchange(demand=1)
        assert (answer.lost, answer.next_lease_end_ms) == ((), end)
        assert (await worker.lease.beat()).lost == ()


async def test_a_sequence_is_applied_once(store: Store) -> None:
    await store.enqueue("a", "b", "c")
    worker = await store.worker()
    (taken,) = await worker.take(1)
    for stale in (worker.sequence, worker.sequence - 1):
        with pytest.raises(StaleSequence):
            await worker.lease.exchange(stale, [Settlement.succeeded(taken)], {"work": Demand(5)})
    assert await store.state("a") is State.RUNNING
    assert (await store.counts()).ready == (0, 0, 2, 0)
    worker.sequence += 10
    assert ids(await worker.take()) == ["b", "c"]


async def test_a_lease_that_was_never_registered_is_lost(store: Store) -> None:
    await store.enqueue("a", queue="other")
    worker = await store.worker()
    answer = await worker.exchange(demand={"work": Demand(1), "other": Demand(1)})
    assert (answer.jobs, answer.lost) == ([], ("other",))
    assert await store.state("a", "other") is State.READY


async def test_a_reclaimed_lease_is_lost_and_changes_nothing(store: Store) -> None:
    await store.enqueue("a", "b")
    lost, keeper = await store.worker(), await store.worker()
    taken = await lost.take_one()
    await store.end_leases(keeper)
    answer = await lost.exchange(Settlement.succeeded(taken), demand=5)
    assert (answer.lost, answer.jobs, answer.not_yours) == (("work",), [], [])
    assert await store.state("a") is State.READY
    assert ids(await keeper.take()) == ["a", "b"]


async def test_a_lease_lost_in_one_queue_goes_on_in_the_others(store: Store) -> None:
    await store.enqueue("a", queue="one")
    await store.enqueue("b", queue="two")
    worker = await store.worker("one", "two")
    await store.pass_time(LEASE_MS + 1, await store.worker("keeper"))
    await store.end_unheard("one")
    answer = await worker.exchange(demand=5)
    assert (answer.lost, ids(answer.jobs)) == (("one",), ["b"])
    assert (await worker.lease.beat()).lost == ("one",)


async def test_a_lease_that_is_over_works_until_it_is_reclaimed(store: Store) -> None:
    await store.enqueue("a")
    worker = await store.worker()
    store.clock.ms += LEASE_MS * 2
    taken = await worker.take_one()
    assert (await worker.exchange(Settlement.succeeded(taken))).not_yours == []


async def test_large_jobs_are_handed_out_in_portions(store: Store) -> None:
    size, count = 200_000, 64
    for first in range(0, count, 16):
        jobs = [NewJob("work", f"{first + n}", 2, bytes(size)) for n in range(16)]
        await store.backend.enqueue(EnqueueBatch(new_id(), jobs))
    worker = await store.worker()
    answer = await worker.exchange(demand=count)
    assert 0 < len(answer.jobs) < count
    assert answer.left_ready == {"work"}
    rest = await worker.take(count) + await worker.take(count) + await worker.take(count)
    assert ids(answer.jobs + rest) == [str(number) for number in range(count)]


async def test_thousands_of_jobs_in_one_exchange(store: Store) -> None:
    names = [f"job-{number}" for number in range(3000)]
    await store.enqueue(*names)
    worker = await store.worker()
    taken = await worker.take(3000)
    assert ids(taken) == names
    answer = await worker.exchange(*map(Settlement.succeeded, taken), demand=3000)
    assert (answer.jobs, answer.not_yours) == ([], [])
    assert sum((await store.counts())[1]) + (await store.counts()).running == 0
