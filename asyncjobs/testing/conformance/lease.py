"""Leases: how they are renewed, how they end, and what becomes of their jobs."""

from __future__ import annotations

import pytest

from asyncjobs.model.clock import new_id
from asyncjobs.model.job import State
from asyncjobs.model.notes import PROGRESS, Note
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.answers import Registered, StaleSequence
from asyncjobs.store.lease import LeaseSpec
from asyncjobs.testing.conformance.store import GRACE_MS, LEASE_MS, QUEUE, Store, ids, outcome, ref

pytestmark = pytest.mark.anyio


async def test_registering_returns_the_stores_time(store: Store) -> None:
    lease = LeaseSpec(new_id(), "worker", ("work", "other"), LEASE_MS)
    assert (await store.backend.lease(lease)).entered == Registered(store.clock.ms)
    assert [
        counts.workers for counts in await store.backend.inspect.queues.counts(["work", "other"])
    ] == [1, 1]


async def test_a_heartbeat_renews(store: Store) -> None:
    worker, other = await store.worker(), await store.worker()
    store.clock.ms += 5000
    beat = await worker.lease.beat()
    assert (beat.lost, beat.cancels, beat.now_ms) == ((), [], store.clock.ms)
    beat = await other.lease.beat()
    assert beat.next_lease_end_ms == store.clock.ms + LEASE_MS


async def test_a_heartbeat_tells_of_a_reclaim_that_is_not_done(store: Store) -> None:
    await store.enqueue("a", "b", "c")
    worker, keeper = await store.worker(), await store.worker()
    await worker.take(3)
    await store.pass_time(LEASE_MS + 1, keeper)
    assert (await store.reclaim(limit=2)).again_ms == 0
    # The worker that began it may be dead by now, and the ended lease is not shown any more.
    for _ in range(2):
        beat = await keeper.lease.beat()
        assert beat.next_lease_end_ms == store.clock.ms
    await store.reclaim()
    assert (await keeper.lease.beat()).next_lease_end_ms is None


async def test_a_heartbeat_says_which_queues_hold_work(store: Store) -> None:
    worker = await store.worker("one", "two")

    async def ready() -> tuple[str, ...]:
        return (await worker.lease.beat()).ready

    assert await ready() == ()
    await store.enqueue("a", "b", queue="two", priority=3)
    assert await ready() == ("two",)
    taken = await worker.exchange(demand=2)
    assert len(taken.jobs) == 2
    assert await ready() == ()  # running jobs are nobody else's work
    await worker.exchange(Settlement.release(taken.jobs[0]))
    assert await ready() == ("two",)
    await store.enqueue("later", queue="one", delay_ms=1_000)
    assert await ready() == ("two",)
    store.clock.ms += 1_000
    assert await ready() == ("one", "two")


async def test_a_heartbeat_renews_a_lease_that_is_over(store: Store) -> None:
    await store.enqueue("a")
    worker, keeper = await store.worker(), await store.worker()
    taken = await worker.take_one()
    await store.pass_time(LEASE_MS * 2, keeper)
    assert (await worker.lease.beat()).lost == ()
    assert (await store.reclaim()).leases == 0
    assert (await worker.exchange(Settlement.succeeded(taken))).not_yours == []


async def test_a_heartbeat_never_brings_a_lease_back(store: Store) -> None:
    worker, keeper = await store.worker("work", "other"), await store.worker("work", "other")
    await store.pass_time(LEASE_MS + 1, keeper)
    await store.reclaim("work", "other")
    for _ in range(2):
        assert (await worker.lease.beat()).lost == ("work", "other")
    assert (await store.counts()).workers == 1


async def test_a_lease_ends_after_its_time_and_not_before(store: Store) -> None:
    await store.enqueue("a")
    worker, keeper = await store.worker(), await store.worker()
    await worker.take_one()
    await store.pass_time(LEASE_MS, keeper)
    early = await store.reclaim()
    assert (early.returned, early.leases, early.again_ms) == (0, 0, 1)
    store.clock.ms += early.again_ms or 0
    done = await store.reclaim()
    assert (done.returned, done.leases, done.now_ms) == (1, 1, store.clock.ms)


async def test_again_is_none_when_nobody_holds_a_lease(store: Store) -> None:
    assert (await store.reclaim()).again_ms is None


async def test_again_is_the_earliest_of_the_queues(store: Store) -> None:
    await store.worker("one", duration_ms=LEASE_MS)
    await store.worker("two", duration_ms=LEASE_MS * 2)
    answer = await store.reclaim("one", "two", "three")
    assert answer.again_ms == LEASE_MS + 1


async def test_reclaimed_jobs_keep_place_and_order(store: Store) -> None:
    await store.enqueue("a", "b", "c", "d", "e")
    worker, keeper = await store.worker(), await store.worker()
    taken = await worker.take(3)
    await store.end_leases(keeper)
    counts = await store.counts()
    assert (counts.ready, counts.running, counts.workers) == ((0, 0, 5, 0), 0, 1)
    assert (await store.look("a")).state is State.READY
    again = await keeper.take()
    assert ids(again) == ["a", "b", "c", "d", "e"]
    assert [job.crashes for job in again] == [1, 1, 1, 0, 0]
    assert [job.ready_ms for job in again[:3]] == [job.ready_ms for job in taken]
    assert [job.envelope for job in again] == [b"a", b"b", b"c", b"d", b"e"]


async def test_jobs_of_several_dead_workers_come_back_in_their_old_order(store: Store) -> None:
    await store.enqueue(*"abcdef")
    first, second, keeper = await store.worker(), await store.worker(), await store.worker()
    for worker in (first, second, first, second):
        await worker.take_one()
    assert (await store.end_leases(keeper)).leases == 2
    assert ids(await keeper.take()) == list("abcdef")


async def test_crashes_add_up_and_only_by_reclaim(store: Store) -> None:
    await store.enqueue("a")
    keeper = await store.worker()
    for crashes in range(3):
        worker = await store.worker()
        taken = await worker.take_one()
        assert taken.crashes == crashes
        await worker.exchange(Settlement.release(taken))
        assert (await worker.take_one()).crashes == crashes
        await store.end_leases(keeper)
    leaver = await store.worker()
    assert (await leaver.take_one()).crashes == 3
    await leaver.lease.leave()
    assert (await keeper.take_one()).crashes == 3


async def test_a_retry_starts_without_crashes(store: Store) -> None:
    await store.enqueue("a")
    worker, keeper = await store.worker(), await store.worker()
    await worker.take_one()
    await store.end_leases(keeper)
    taken = await keeper.take_one()
    assert taken.crashes == 1
    await keeper.exchange(Settlement.reschedule(taken, b"again", 0))
    assert (await keeper.take_one()).crashes == 0


async def test_reclaim_is_bounded_and_says_to_come_back(store: Store) -> None:
    names = [f"job-{number}" for number in range(250)]
    await store.enqueue(*names)
    worker, keeper = await store.worker(), await store.worker()
    await worker.take(250)
    first = await store.end_leases(keeper, limit=100)
    assert (first.returned, first.leases, first.again_ms) == (100, 1, 0)
    # The whole lease is gone already, so what it says about the rest has no effect either.
    assert (await worker.exchange(demand=1)).lost == ("work",)
    second, third = await store.reclaim(limit=100), await store.reclaim(limit=100)
    assert (second.returned, second.again_ms) == (100, 0)
    assert third.returned == 50
    assert third.again_ms is not None
    assert third.again_ms > 0
    taken = await keeper.take(250)
    assert ids(taken) == names
    assert {job.crashes for job in taken} == {1}


async def test_a_lost_lease_hears_of_nothing_else(store: Store) -> None:
    await store.enqueue("a", "b", "c")
    worker, keeper = await store.worker(), await store.worker()
    await worker.take(2)
    assert (await store.end_leases(keeper, limit=1)).returned == 1
    await store.backend.cancel([ref("a"), ref("b")], None, 0)
    beat = await worker.lease.beat()
    assert (beat.lost, beat.cancels, beat.ready) == ((QUEUE,), [], ())


async def test_a_lone_reclaimer_is_held_back_once(store: Store) -> None:
    await store.enqueue("a")
    await (await store.worker()).take_one()
    store.clock.ms += LEASE_MS * 2
    answer = await store.reclaim()
    begun_ms = store.clock.ms
    while not answer.leases:
        assert answer.again_ms is not None
        assert store.clock.ms - begun_ms <= GRACE_MS
        store.clock.ms += answer.again_ms + 1  # nobody comes back to the very millisecond
        answer = await store.reclaim()
    assert answer.returned == 1


async def test_after_a_silence_live_workers_may_renew_first(store: Store) -> None:
    await store.enqueue("dead-job", "live-job")
    dead, live = await store.worker(), await store.worker()
    await dead.take_one()
    held = await live.take_one()
    store.clock.ms += LEASE_MS * 2  # the store was down: nobody could renew
    answer = await store.reclaim()
    assert (answer.returned, answer.leases, answer.again_ms) == (0, 0, GRACE_MS // 2)
    store.clock.ms += GRACE_MS - 1
    assert (await live.lease.beat()).lost == ()
    answer = await store.reclaim()
    assert (answer.leases, answer.again_ms) == (0, 1)
    store.clock.ms += 1
    answer = await store.reclaim()
    assert (answer.returned, answer.leases) == (1, 1)
    assert (await live.exchange(Settlement.succeeded(held))).not_yours == []


async def test_a_job_lost_and_taken_by_another_is_not_yours(store: Store) -> None:
    await store.enqueue("a")
    lost, keeper = await store.worker(), await store.worker()
    taken = await lost.take_one()
    await store.end_leases(keeper)
    again = await keeper.take_one()
    back = await store.worker()
    settlement = Settlement.succeeded(taken, outcome(), 60_000)
    assert (await lost.exchange(settlement)).lost == ("work",)
    assert await store.state("a") is State.RUNNING
    assert (await keeper.exchange(Settlement.discarded(again))).not_yours == []
    assert (await back.exchange(settlement)).not_yours == [settlement]
    record = await store.look("a")
    assert (record.state, record.outcome) == (State.DISCARDED, None)


async def test_a_job_that_another_runs_cannot_be_settled_or_released(store: Store) -> None:
    await store.enqueue("a")
    lost, keeper = await store.worker(), await store.worker()
    taken = await lost.take_one()
    await store.end_leases(keeper)
    again = await keeper.take_one()
    # The same process under a new lease: the fence alone does not stop it.
    back = await store.worker()
    attempts = [
        Settlement.release(taken),
        Settlement.reschedule(taken, b"second", 0),
        Settlement.dead(taken, b"letter", outcome(State.DEAD), 60_000),
        Settlement.succeeded(taken, outcome(), 60_000),
    ]
    for settlement in attempts:
        answer = await back.exchange(settlement, demand=1)
        assert (answer.not_yours, answer.jobs) == ([settlement], [])
        assert (await store.look("a")).holder == keeper.lease.spec.id
    assert (await keeper.exchange(Settlement.discarded(again))).not_yours == []
    assert await store.state("a") is State.DISCARDED


async def test_what_one_lease_took_another_cannot_settle(store: Store) -> None:
    # Given back and taken again, a job is the same entry: only the holder tells them apart.
    await store.enqueue("a")
    first, second = await store.worker(), await store.worker()
    taken = await first.take_one()
    await first.exchange(Settlement.release(taken))
    again = await second.take_one()
    assert (await second.exchange(old := Settlement.succeeded(taken))).not_yours == [old]
    await second.lease.note([Note(taken, PROGRESS, b"not yours")])
    record = await store.look("a")
    assert (record.state, record.holder, record.progress) == (State.RUNNING, again.holder, None)
    assert (await second.exchange(Settlement.succeeded(again))).not_yours == []


async def test_a_lost_queue_is_entered_again_under_a_new_name(store: Store) -> None:
    await store.enqueue("a", "b", "c", queue="one")
    await store.enqueue("d", queue="two")
    worker, keeper = await store.worker("one", "two"), await store.worker("keeper")
    old = await worker.take(2)
    await store.pass_time(LEASE_MS + 1, keeper)
    # Not all at once: the jobs of the lost entry are still on their way back.
    await store.end_unheard("one", 1)
    lease, before = worker.lease, worker.lease.spec
    assert (await lease.rejoin(["one"])).now_ms == store.clock.ms
    name = lease.spec.entry("one")
    assert name != before.entry("one")
    assert lease.spec.entry("two") == before.id
    stale = store.backend.attach(before)
    assert (await lease.beat()).lost == ()
    answer = await worker.exchange(*map(Settlement.succeeded, old), demand=0)
    assert [settled.job for settled in answer.not_yours] == [j for j in old if j.queue == "one"]
    assert answer.lost == ()
    taken = [job for job in await worker.take() if job.queue == "one"]
    assert [(job.id, job.crashes) for job in taken] == [("a", 1), ("c", 0)]
    assert {job.holder for job in taken} == {name}
    assert (await store.look("a", "one")).holder == name
    assert (await stale.beat()).lost == ("one",)
    await store.reclaim("one")
    assert [(job.id, job.crashes) for job in await worker.take()] == [("b", 1)]
    await store.backend.cancel([taken[0].ref], None, 0)
    assert (await lease.beat()).cancels == [taken[0].ref]
    await lease.note([Note(taken[1], PROGRESS, b"1/2")])
    assert (await store.look("c", "one")).progress == b"1/2"
    await lease.leave()
    counts = await store.counts("one")
    assert (counts.workers, counts.running, sum(counts.ready)) == (0, 0, 3)


async def test_deregister_releases_what_is_held(store: Store) -> None:
    await store.enqueue("a", "b", queue="one")
    await store.enqueue("c", queue="two")
    worker, other = await store.worker("one", "two"), await store.worker("one", "two")
    assert len(await worker.take()) == 3
    await worker.lease.leave()
    assert [
        counts.workers for counts in await store.backend.inspect.queues.counts(["one", "two"])
    ] == [1, 1]
    taken = await other.take()
    assert sorted((job.id, job.crashes) for job in taken) == [("a", 0), ("b", 0), ("c", 0)]


async def test_a_lease_that_left_is_lost(store: Store) -> None:
    await store.enqueue("a")
    worker = await store.worker()
    await worker.lease.leave()
    assert (await worker.lease.beat()).lost == ("work",)
    assert (await worker.exchange(demand=1)).lost == ("work",)
    assert await store.state("a") is State.READY
    await worker.lease.leave()


async def test_resync_after_an_exchange_that_took_effect(store: Store) -> None:
    await store.enqueue("a", "b", "c")
    worker = await store.worker()
    a, b = await worker.take(2)
    applied = worker.sequence
    answer = await worker.lease.resync(applied + 1, [a])
    assert (answer.applied, answer.missing, answer.lost) == ({"work": applied}, [b], ())


async def test_resync_refuses_what_arrives_late(store: Store) -> None:
    await store.enqueue("a", "b")
    worker = await store.worker()
    taken = await worker.take_one()
    answer = await worker.lease.resync(5, [taken])
    assert (answer.applied, answer.missing) == ({"work": 1}, [])
    for sequence in (2, 5):
        with pytest.raises(StaleSequence):
            await worker.lease.exchange(sequence, [Settlement.succeeded(taken)], {})
    assert await store.state("a") is State.RUNNING
    worker.sequence = 5
    answer_to_six = await worker.exchange(Settlement.succeeded(taken), demand=1)
    assert (answer_to_six.not_yours, ids(answer_to_six.jobs)) == ([], ["b"])


async def test_resync_asked_again_has_the_same_answer(store: Store) -> None:
    await store.enqueue("a", "b")
    worker = await store.worker()
    a = await worker.take_one()
    for sequence in (5, 6):
        answer = await worker.lease.resync(sequence, [])
        assert (answer.applied, answer.missing) == ({"work": 1}, [a])
    worker.sequence = 6
    await worker.exchange(Settlement.succeeded(a))
    assert (await worker.lease.resync(8, [])).applied == {"work": 7}


async def test_resync_before_any_exchange(store: Store) -> None:
    worker = await store.worker()
    answer = await worker.lease.resync(1, [])
    assert (answer.applied, answer.missing, answer.lost) == ({"work": 0}, [], ())


async def test_resync_needs_a_higher_sequence(store: Store) -> None:
    worker = await store.worker()
    await worker.exchange()
    with pytest.raises(StaleSequence):
        await worker.lease.resync(worker.sequence, [])


async def test_resync_does_not_touch_the_jobs(store: Store) -> None:
    await store.enqueue("a", "b", priority=1)
    worker, keeper = await store.worker(), await store.worker()
    await worker.take()
    await store.end_leases(keeper)
    a, b = await keeper.take()
    for sequence in (10, 20):
        answer = await keeper.lease.resync(sequence, [])
        assert answer.missing == [a, b]
    keeper.sequence = 20
    await keeper.exchange(Settlement.release(a), Settlement.release(b))
    assert [job.crashes for job in await keeper.take()] == [1, 1]


async def test_resync_over_queues_of_which_one_is_lost(store: Store) -> None:
    await store.enqueue("a", queue="one")
    await store.enqueue("b", queue="two")
    worker = await store.worker("one", "two")
    assert len(await worker.take()) == 2
    await store.pass_time(LEASE_MS + 1, await store.worker("keeper"))
    await store.end_unheard("one")
    answer = await worker.lease.resync(9, [])
    assert (answer.applied, answer.lost) == ({"two": 1}, ("one",))
    assert ids(answer.missing) == ["b"]


async def test_resync_finds_more_than_a_few_jobs(store: Store) -> None:
    names = [f"job-{number}" for number in range(1200)]
    await store.enqueue(*names)
    worker = await store.worker()
    taken = await worker.take(1200)
    answer = await worker.lease.resync(9, taken[::2])
    assert answer.missing == taken[1::2]


async def test_a_twin_for_another_thread_renews_the_same_lease(store: Store) -> None:
    if not store.backend.capabilities.threaded_heartbeat:
        pytest.skip("no capability threaded_heartbeat")
    await store.enqueue("a")
    worker = await store.worker()
    taken = await worker.take_one()
    twin = store.backend.for_thread()
    await twin.open()
    try:
        store.clock.ms += LEASE_MS
        await store.backend.cancel([taken.ref], None, 0)
        beat = await twin.attach(worker.lease.spec).beat()
        assert (beat.lost, beat.cancels) == ((), [taken.ref])
        assert (await store.reclaim()).leases == 0
    finally:
        await twin.close()
