"""Jobs that were running when a worker died. Each death must narrow down which one kills it."""

from __future__ import annotations

import pytest

from asyncjobs.model.demand import Demand
from asyncjobs.model.job import TakenJob
from asyncjobs.model.settlement import Settlement
from asyncjobs.testing.conformance.store import QUEUE, SHORT_S, Store, Worker, ids

pytestmark = pytest.mark.anyio


async def crashed(
    store: Store, keeper: Worker, count: int, times: int, name: str = "job", priority: int = 2
) -> list[str]:
    """So many jobs that have been on a worker at its death, so many times."""
    names = [f"{name}-{number:03}" for number in range(count)]
    await store.enqueue(*names, priority=priority)
    for crashes in range(times):
        worker = await store.worker()
        # These, and no other suspects that wait.
        demand = Demand(count, count, priority, (count,) if crashes else ())
        assert ids((await worker.exchange(demand={QUEUE: demand})).jobs) == names
        assert (await store.end_leases(keeper)).returned == count
    return names


async def take(worker: Worker, demand: Demand) -> list[TakenJob]:
    return (await worker.exchange(demand={QUEUE: demand})).jobs


async def test_no_more_suspects_than_there_is_room_for(store: Store) -> None:
    keeper = await store.worker()
    names = await crashed(store, keeper, 70, 1)
    assert ids(await take(keeper, Demand(100, suspects=(32,)))) == names[:32]
    assert await take(keeper, Demand(100)) == []
    assert await take(keeper, Demand(100, suspects=(0,))) == []
    assert ids(await take(keeper, Demand(100, suspects=(40,)))) == names[32:]


async def test_suspects_do_not_hold_up_the_innocent(store: Store) -> None:
    keeper = await store.worker()
    await crashed(store, keeper, 40, 1)
    await store.enqueue("innocent")
    assert ids(await take(keeper, Demand(100))) == ["innocent"]


async def test_released_jobs_are_no_suspects(store: Store) -> None:
    worker = await store.worker()
    await store.enqueue("a", "b")
    jobs = await worker.take(2)
    await worker.exchange(*(Settlement.release(job) for job in jobs))
    assert ids(await take(worker, Demand(10))) == ["a", "b"]


async def test_more_crashes_leave_less_room(store: Store) -> None:
    keeper = await store.worker()
    names = await crashed(store, keeper, 9, 2)
    assert ids(await take(keeper, Demand(10, suspects=(8, 3, 1)))) == names[:3]
    # The last number is for all above.
    assert ids(await take(keeper, Demand(10, suspects=(4,)))) == names[3:7]
    (last, _) = await take(keeper, Demand(10, suspects=(8, 2, 1)))
    assert (last.id, last.crashes) == (names[7], 2)


async def test_those_with_the_fewest_crashes_come_first(store: Store) -> None:
    keeper = await store.worker()
    twice = await crashed(store, keeper, 3, 2, "twice")
    once = await crashed(store, keeper, 3, 1, "once")
    taken = await take(keeper, Demand(4, suspects=(10, 10)))
    assert [(job.id, job.crashes) for job in taken] == [
        *((id, 1) for id in once),
        (twice[0], 2),
    ]


async def test_the_one_with_the_most_crashes_decides(store: Store) -> None:
    keeper = await store.worker()
    twice = await crashed(store, keeper, 3, 2, "twice")
    once = await crashed(store, keeper, 4, 1, "once", priority=3)
    # Three of the one kind leave no room for the other, which has a later turn.
    assert ids(await take(keeper, Demand(10, suspects=(4, 3)))) == twice
    assert ids(await take(keeper, Demand(10, suspects=(3, 2)))) == once[:3]


async def test_a_suspect_that_has_to_be_alone_does_not_join_others(store: Store) -> None:
    keeper = await store.worker()
    lone = await crashed(store, keeper, 2, 2, "lone")
    await crashed(store, keeper, 1, 1, "once")
    assert ids(await take(keeper, Demand(10, suspects=(5, 1)))) == ["once-000"]
    assert ids(await take(keeper, Demand(10, suspects=(5, 1)))) == lone[:1]
    assert await take(keeper, Demand(10, suspects=(0, 0))) == []


async def test_the_room_is_shared_by_the_priorities(store: Store) -> None:
    keeper = await store.worker()
    urgent = await crashed(store, keeper, 2, 1, "urgent", priority=0)
    await crashed(store, keeper, 5, 1)
    taken = ids(await take(keeper, Demand(10, suspects=(3,))))
    assert taken == [*urgent, "job-000"]


async def test_the_room_is_shared_with_the_guard(store: Store) -> None:
    keeper = await store.worker()
    names = await crashed(store, keeper, 10, 1)
    demand = Demand(8, guard=4, guard_from=2, suspects=(3,))
    assert ids(await take(keeper, demand)) == names[:3]


async def test_the_store_says_which_suspects_wait(store: Store) -> None:
    keeper = await store.worker()
    twice = await crashed(store, keeper, 1, 2, "twice")
    await crashed(store, keeper, 1, 1, "once", priority=0)
    answer = await keeper.exchange(demand={QUEUE: Demand(10)})
    assert (answer.jobs, dict(answer.suspects)) == ([], {QUEUE: 1})
    answer = await keeper.exchange(demand={QUEUE: Demand(10, suspects=(1, 1))})
    assert (ids(answer.jobs), dict(answer.suspects)) == (["once-000"], {QUEUE: 2})
    answer = await keeper.exchange(demand={QUEUE: Demand(10, suspects=(1, 1))})
    assert (ids(answer.jobs), dict(answer.suspects)) == (twice, {})


async def test_a_suspect_that_was_cancelled_does_not_wait(store: Store) -> None:
    keeper = await store.worker()
    await crashed(store, keeper, 1, 1)
    assert (await keeper.exchange()).suspects == {QUEUE: 1}
    await store.backend.cancel([(await store.look("job-000")).ref], None, 0)
    assert (await keeper.exchange()).suspects == {}


async def test_a_suspect_given_back_stays_one(store: Store) -> None:
    keeper = await store.worker()
    await crashed(store, keeper, 2, 2)
    jobs = await take(keeper, Demand(2, suspects=(2,)))
    await keeper.exchange(Settlement.release(jobs[0]))
    await keeper.lease.leave()
    other = await store.worker()
    assert (await other.exchange(demand={QUEUE: Demand(10)})).suspects == {QUEUE: 2}
    taken = await take(other, Demand(10, suspects=(2,)))
    assert [(job.id, job.crashes) for job in taken] == [("job-000", 2), ("job-001", 2)]


async def test_crashes_beyond_count_are_told_exactly(store: Store) -> None:
    keeper = await store.worker()
    await crashed(store, keeper, 1, 18)
    (job,) = await take(keeper, Demand(1, suspects=(1,)))
    assert job.crashes == 18


async def test_what_is_passed_over_is_not_left_ready(store: Store) -> None:
    # Otherwise a worker that may not take them would ask again and again, and signal others.
    keeper, other = await store.worker(), await store.worker()
    await crashed(store, keeper, 5, 1)
    await other.settle_signals()
    await store.enqueue("a")
    await other.settle_signals()
    answer = await keeper.exchange(demand={QUEUE: Demand(1)})
    assert (ids(answer.jobs), answer.left_ready) == (["a"], frozenset())
    assert await other.signalled(SHORT_S) == []


async def test_suspects_that_only_a_slot_is_missing_for_signal_another_worker(store: Store) -> None:
    keeper, other = await store.worker(), await store.worker()
    await crashed(store, keeper, 5, 1)
    await other.settle_signals()
    answer = await keeper.exchange(demand={QUEUE: Demand(0, suspects=(5,))})
    assert answer.left_ready == {QUEUE}
    assert await other.signalled() == [QUEUE]


async def test_who_takes_some_suspects_signals_another_worker_for_the_rest(store: Store) -> None:
    keeper, other = await store.worker(), await store.worker()
    await crashed(store, keeper, 5, 1)
    await other.settle_signals()
    answer = await keeper.exchange(demand={QUEUE: Demand(10, suspects=(3,))})
    assert (len(answer.jobs), answer.left_ready) == (3, frozenset())
    assert await other.signalled() == [QUEUE]


async def test_the_guard_starts_where_it_is_told(store: Store) -> None:
    for priority in range(4):
        await store.enqueue(f"p{priority}-0", f"p{priority}-1", priority=priority)
    worker = await store.worker()
    assert ids(await take(worker, Demand(1, guard=1, guard_from=2))) == ["p2-0"]
    assert ids(await take(worker, Demand(1, guard=1, guard_from=1))) == ["p1-0"]
    assert sorted(ids(await take(worker, Demand(3, guard=3, guard_from=1)))) == [
        "p1-1",
        "p3-0",
        "p3-1",
    ]


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
    await worker.lease.leave([taken["b"]])
    found = await other.take()
    assert sorted((job.id, job.crashes) for job in found) == [("a", 0), ("b", 1), ("c", 0)]


async def test_a_farewell_charges_once_however_many_jobs_are_held(store: Store) -> None:
    await store.enqueue(*(f"job-{number:04}" for number in range(1200)))
    worker, other = await store.worker(), await store.worker()
    taken = [job for _ in range(6) for job in await worker.take(200)]
    assert len(taken) == 1200
    await worker.lease.leave([taken[1100]])
    found = [job for _ in range(6) for job in await other.take(200)]
    assert {job.id: job.crashes for job in found if job.crashes} == {"job-1100": 1}
    assert len(found) == 1200


async def test_a_farewell_charges_nobody_for_what_the_lease_does_not_hold(store: Store) -> None:
    await store.enqueue("a", "b")
    worker, other = await store.worker(), await store.worker()
    a = await worker.take_one()
    await worker.exchange(Settlement.release(a))
    assert (await other.take_one()).id == "a"
    await worker.lease.leave([a])
    # Given back and taken again, a job is the same entry: only the holder tells them apart.
    await other.lease.leave([a])
    keeper = await store.worker()
    assert [(job.id, job.crashes) for job in await keeper.take()] == [("a", 0), ("b", 0)]
