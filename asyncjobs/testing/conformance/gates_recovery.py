"""Permits when workers stop, die or lose a reply: none is lost, and none counts twice."""

from __future__ import annotations

import pytest

from asyncjobs.model.demand import Demand
from asyncjobs.model.job import State, TakenJob
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.answers import CancelVerdict, StaleSequence
from asyncjobs.store.lease import Offer
from asyncjobs.testing.conformance.gates import (
    enqueue,
    fill,
    finish,
    gate,
    gated,
    need_gates,
    states,
    use,
)
from asyncjobs.testing.conformance.store import LEASE_MS, Store, Worker, ids, outcome, ref

pytestmark = pytest.mark.anyio


async def running(store: Store, count: int = 3, number: int = 1) -> tuple[Worker, list[TakenJob]]:
    """A worker that runs as many of `count` jobs as there are permits."""
    await fill(store, count, gate(use(number)))
    worker = await store.worker()
    return worker, await worker.take()


# Giving back


async def test_a_released_job_is_the_next_of_its_lane(store: Store) -> None:
    worker, (job,) = await running(store)
    answer = await worker.exchange(Settlement.release(job), demand=100)
    assert ids(answer.jobs) == ["j0"]


async def test_released_jobs_keep_their_order(store: Store) -> None:
    worker, jobs = await running(store, 6, number=3)
    await worker.exchange(*map(Settlement.release, reversed(jobs)))
    assert (await store.counts()).running == 0
    assert ids(await worker.take()) == ["j0", "j1", "j2"]


async def test_a_release_lets_in_another_lane(store: Store) -> None:
    need_gates(store)
    jobs = [gated("a", gate(turn="x")), gated("b", gate(turn="y"))]
    await enqueue(store, *jobs)
    first, second = await store.worker(), await store.worker()
    job = await first.take_one()
    assert await second.take() == []
    await first.exchange(Settlement.release(job))
    assert len(await second.take()) == 1
    assert await first.take() == []


async def test_a_release_that_is_sent_again_gives_nothing_back(store: Store) -> None:
    worker, (job,) = await running(store)
    await worker.exchange(Settlement.release(job))
    second = await store.worker()
    await second.take_one()
    answer = await worker.exchange(Settlement.release(job), Settlement.succeeded(job), demand=100)
    assert answer.jobs == []
    assert len(answer.not_yours) == 2


async def test_a_farewell_gives_the_permits_back(store: Store) -> None:
    worker, (job,) = await running(store)
    other = await store.worker()
    await other.settle_signals()
    await worker.lease.leave()
    assert await other.signalled() == ["work"]
    (again,) = await other.take()
    assert (again.id, again.crashes) == (job.id, 0)


async def test_a_planned_end_puts_the_job_at_the_head_of_its_lane(store: Store) -> None:
    worker, _ = await running(store)
    await worker.lease.beat(leaves=True)
    other = await store.worker()
    await store.end_leases(other)
    (again,) = await other.take()
    assert (again.id, again.crashes) == ("j0", 0)


# A worker dies


async def test_a_permit_outlives_a_lease_that_is_over(store: Store) -> None:
    """Elsewhere the time of a permit ends while its job runs, and another one runs beside it."""
    worker, _ = await running(store)
    other = await store.worker()
    await store.pass_time(LEASE_MS + 1, other)
    # The lease is over, and its worker may live on: only a reclaim takes its jobs.
    assert await other.take() == []
    await store.pass_time(10 * LEASE_MS, other, worker)
    assert await other.take() == []
    await worker.lease.beat()


async def test_a_reclaim_gives_the_permits_back(store: Store) -> None:
    worker, jobs = await running(store, 6, number=3)
    other = await store.worker()
    await other.settle_signals()
    assert (await store.end_leases(other)).returned == 3
    assert await other.signalled() == ["work"]
    taken = await other.take()
    assert len(taken) == 3
    again = [job for job in taken if job.id in ids(jobs)]
    assert [job.crashes for job in again] == [1] * len(again)
    answer = await worker.exchange(*map(Settlement.succeeded, jobs))
    assert answer.lost == ("work",)
    assert await other.take() == []


async def test_all_jobs_of_a_dead_worker_run_again_with_their_permits(store: Store) -> None:
    await running(store, 9, number=3)
    other = await store.worker()
    await store.end_leases(other)
    done: list[str] = []
    jobs = await other.take()
    while jobs:
        assert len(jobs) <= 3
        done += ids(jobs)
        jobs = await finish(other, *jobs, slots=100)
    assert sorted(done) == [f"j{n}" for n in range(9)]


async def test_a_reclaim_in_parts_gives_back_as_many(store: Store) -> None:
    await running(store, 6, number=4)
    other = await store.worker()
    assert (await store.end_leases(other, limit=1)).returned == 1
    first = await other.take()
    assert len(first) == 1
    await store.reclaim(limit=2)
    assert len(await other.take()) == 2
    await store.reclaim()
    assert len(await other.take()) == 1
    assert await other.take() == []


async def test_suspects_at_a_gate_wait_for_their_room(store: Store) -> None:
    await running(store, 4, number=3)
    other = await store.worker()
    await store.end_leases(other)
    demand = {"work": Demand(10, suspects=(1,))}
    taken: list[TakenJob] = []
    for _ in range(3):
        taken += (await other.exchange(demand=demand)).jobs
        if len(taken) > 2:
            break
    suspects = [job for job in taken if job.crashes]
    # One at a time, so one of them and the innocent one.
    assert sorted(job.crashes for job in taken[:2]) == [0, 1]
    assert len(suspects) >= 1


async def test_suspects_without_room_hold_nobody_up(store: Store) -> None:
    await running(store, 3, number=1)
    other = await store.worker()
    await store.end_leases(other)
    none = {"work": Demand(10)}
    taken = (await other.exchange(demand=none)).jobs
    assert [job.crashes for job in taken] == [0]
    assert (await other.exchange(*map(Settlement.succeeded, taken), demand=none)).jobs != []


async def test_a_suspect_is_named_to_workers(store: Store) -> None:
    await running(store, 1)
    other = await store.worker()
    await store.end_leases(other)
    answer = await other.exchange(demand={"work": Demand(10)})
    assert (answer.jobs, answer.suspects) == ([], {"work": 1})
    (job,) = await other.take()
    assert (job.id, job.crashes) == ("j0", 1)


# A lost reply


async def test_a_resync_brings_back_a_job_whose_reply_was_lost(store: Store) -> None:
    await fill(store, 3)
    worker = await store.worker()
    await worker.take()
    worker.sequence += 1
    answer = await worker.lease.resync(worker.sequence, [])
    assert ids(answer.missing) == ["j0"]
    (job,) = answer.missing
    assert (job.priority, job.envelope, job.crashes) == (2, b"j0", 0)
    # It has its permit still.
    assert await worker.take() == []
    assert ids(await finish(worker, job, slots=100)) == ["j1"]


async def test_a_resync_names_no_job_that_the_worker_knows_of(store: Store) -> None:
    worker, jobs = await running(store, 4, number=2)
    worker.sequence += 1
    answer = await worker.lease.resync(worker.sequence, jobs[:1])
    assert ids(answer.missing) == ids(jobs[1:])


async def test_an_exchange_that_comes_late_takes_no_permit(store: Store) -> None:
    await fill(store, 3)
    worker = await store.worker()
    await worker.lease.resync(10, [])
    with pytest.raises(StaleSequence):
        await worker.lease.exchange(9, (), {"work": Demand(10)})
    other = await store.worker()
    assert ids(await other.take()) == ["j0"]


async def test_settlements_after_a_resync_count_once(store: Store) -> None:
    worker, (job,) = await running(store)
    end = Settlement.succeeded(job)
    await worker.exchange(end, demand=0)
    worker.sequence += 1
    await worker.lease.resync(worker.sequence, [job])
    answer = await worker.exchange(end, demand=100)
    assert (ids(answer.jobs), answer.not_yours) == (["j1"], [end])


async def test_a_rejoined_lease_holds_no_old_permit(store: Store) -> None:
    worker, (job,) = await running(store)
    await store.end_leases(await store.worker())
    await worker.lease.rejoin(["work"])
    end = Settlement.succeeded(job)
    answer = await worker.exchange(end, demand=100)
    assert answer.not_yours == [end]
    assert len(answer.jobs) == 1


# Somebody wants to stop it


async def test_a_running_job_keeps_its_permit_until_it_has_stopped(store: Store) -> None:
    worker, (job,) = await running(store)
    verdict = await store.backend.cancel([job.ref], outcome(State.CANCELLED), 60_000)
    assert verdict == [CancelVerdict.REQUESTED]
    assert (await worker.exchange(demand=100)).jobs == []
    answer = await worker.exchange(Settlement.cancelled(job), demand=100)
    assert ids(answer.jobs) == ["j1"]


async def test_a_marked_job_that_asks_for_a_retry_gives_its_permit_back(store: Store) -> None:
    worker, (job,) = await running(store)
    await store.backend.cancel([job.ref], None, 0)
    retry = Settlement.reschedule(job, b"again", 1000)
    answer = await worker.exchange(retry, demand=100)
    assert (answer.cancelled, ids(answer.jobs)) == ([retry], ["j1"])


async def test_a_job_that_waits_at_a_gate_is_cancelled_at_once(store: Store) -> None:
    worker, (job,) = await running(store)
    verdict = await store.backend.cancel([ref("j1")], outcome(State.CANCELLED), 60_000)
    assert verdict == [CancelVerdict.CANCELLED]
    record = await store.look("j1")
    assert (record.state, record.outcome) == (State.CANCELLED, outcome(State.CANCELLED))
    assert ids(await finish(worker, job, slots=100)) == ["j2"]


async def test_a_reclaimed_job_that_somebody_wants_to_stop_is_told_again(store: Store) -> None:
    _, (job,) = await running(store, 1)
    await store.backend.cancel([job.ref], None, 0)
    other = await store.worker()
    await store.end_leases(other)
    (again,) = await other.take()
    answer = await other.exchange()
    assert answer.cancels == [again.ref]
    assert (await other.exchange(Settlement.cancelled(again))).not_yours == []


# Waiting for work


async def test_an_offer_takes_permits_as_an_exchange_does(store: Store) -> None:
    await fill(store, 5, gate(use(2)))
    first, second = await store.worker(), await store.worker()
    taken: list[TakenJob] = []
    for worker in (first, second):
        worker.sequence += 1
        offer = Offer(worker.sequence, {"work": Demand(10)})
        parked = await worker.lease.park(0.2, offer)
        if parked.exchange is not None:
            taken += parked.exchange.jobs
        taken += await worker.take()
    assert ids(taken) == ["j0", "j1"]
    assert await states(store, "j2", "j3", "j4") == [State.HELD] * 3


async def test_an_offer_hands_out_no_suspect(store: Store) -> None:
    await running(store, 1)
    other = await store.worker()
    await store.end_leases(other)
    other.sequence += 1
    offer = Offer(other.sequence, {"work": Demand(10, suspects=(10,))})
    parked = await other.lease.park(0.2, offer)
    assert parked.exchange is not None
    assert parked.exchange.jobs == []
    assert ids(await other.take()) == ["j0"]
