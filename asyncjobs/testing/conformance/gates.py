"""Limits on how many jobs run at once: never more than there are permits, for each key apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from asyncjobs.model.demand import Demand
from asyncjobs.model.job import NewJob, State, TakenJob, held_at
from asyncjobs.model.settlement import Settlement
from asyncjobs.model.terms import Gate, LimitKind, LimitRule, LimitUse, Terms, Unique
from asyncjobs.store.answers import Placed
from asyncjobs.store.lease import Offer
from asyncjobs.store.seam import EnqueueBatch
from asyncjobs.testing.conformance.store import SHORT_S, Store, Worker, ids, outcome, ref

pytestmark = pytest.mark.anyio

HOUR_MS = 3_600_000


def use(number: int = 1, key: str = "acme", limit: str = "api", **own: Any) -> LimitUse:
    """At most `number` at once under this key."""
    return LimitUse(limit, key, LimitRule(LimitKind.CONCURRENCY, number), **own)


def gate(*uses: LimitUse, **own: Any) -> Gate:
    """A gate with these limits; by default with room for one."""
    return Gate(uses or (use(),), **own)


def gated(
    id: str,
    its: Gate | None = None,
    *,
    priority: int = 2,
    delay_ms: int = 0,
    envelope: bytes = b"",
    has_new_id: bool = True,
    queue: str = "work",
    unique: Unique | None = None,
) -> NewJob:
    """A job with a gate; by default with room for one."""
    terms = Terms(unique=unique, gate=its or gate())
    call = envelope or id.encode()
    return NewJob(queue, id, priority, call, delay_ms, None, has_new_id, terms)


async def enqueue(store: Store, *jobs: NewJob, token: str | None = None) -> list[Placed | None]:
    """Enqueue them. Skips the case for a store without gates."""
    need_gates(store)
    answer = await store.backend.enqueue(EnqueueBatch(token or store.token(), jobs))
    for refusal in answer.refused.values():
        raise refusal
    return list(answer.places)


def need_gates(store: Store) -> None:
    if not store.backend.capabilities.gates:
        pytest.skip("no capability gates")


async def fill(store: Store, count: int, its: Gate | None = None, name: str = "j") -> list[str]:
    """So many jobs in one lane; their ids in order."""
    names = [f"{name}{n}" for n in range(count)]
    await enqueue(store, *(gated(id, its) for id in names))
    return names


async def finish(worker: Worker, *jobs: TakenJob, slots: int = 0) -> list[TakenJob]:
    """Settle these as succeeded, and take up to so many in the same exchange."""
    answer = await worker.exchange(*map(Settlement.succeeded, jobs), demand=slots)
    assert answer.not_yours == []
    return answer.jobs


async def drain(store: Store, worker: Worker, slots: int = 100) -> list[str]:
    """Run everything that is let in, until nothing more comes; the ids in order."""
    done: list[str] = []
    jobs = await worker.take(slots)
    while jobs:
        done += ids(jobs)
        jobs = await finish(worker, *jobs, slots=slots)
    return done


async def states(store: Store, *names: str) -> list[State]:
    return [await store.state(name) for name in names]


# Never more than the number


@pytest.mark.parametrize("number", [1, 2, 5])
async def test_never_more_run_than_there_are_permits(store: Store, number: int) -> None:
    names = await fill(store, 12, gate(use(number)))
    first, second = await store.worker(), await store.worker()
    running = [*await first.take(3), *await second.take()]
    assert ids(running) == names[:number]
    assert await first.take() == []
    assert await second.take() == []
    counts = await store.counts()
    assert (counts.running, counts.held, sum(counts.ready)) == (number, 12 - number, 0)
    await store.backend.cancel([ref(name) for name in names], None, 0)


async def test_each_permit_that_comes_back_lets_in_one(store: Store) -> None:
    names = await fill(store, 6, gate(use(2)))
    worker = await store.worker()
    running = await worker.take()
    assert ids(running) == names[:2]
    assert ids(third := await finish(worker, running[0], slots=100)) == names[2:3]
    assert ids(await finish(worker, running[1], *third, slots=100)) == names[3:5]


async def test_each_key_counts_by_itself(store: Store) -> None:
    jobs = [gated(f"{key}{n}", gate(use(1, key))) for key in "ab" for n in range(3)]
    await enqueue(store, *jobs)
    worker = await store.worker()
    running = await worker.take()
    assert sorted(ids(running)) == ["a0", "b0"]
    (b,) = [job for job in running if job.id == "b0"]
    assert ids(await finish(worker, b, slots=100)) == ["b1"]


async def test_each_limit_counts_by_itself(store: Store) -> None:
    jobs = [gated(f"{limit}{n}", gate(use(1, limit=limit))) for limit in "ab" for n in range(2)]
    await enqueue(store, *jobs)
    assert sorted(ids(await (await store.worker()).take())) == ["a0", "b0"]


async def test_a_limit_counts_in_its_own_queue(store: Store) -> None:
    await enqueue(store, gated("a"), gated("b", queue="second"))
    worker = await store.worker("work", "second")
    assert sorted(ids(await worker.take())) == ["a", "b"]


async def test_jobs_of_two_lanes_share_a_limit(store: Store) -> None:
    """Two job functions with one named limit, each with turns of its own."""
    for turn in ("x", "y"):
        await enqueue(store, *(gated(f"{turn}{n}", gate(use(2), turn=turn)) for n in range(4)))
    worker = await store.worker()
    done: list[str] = []
    jobs = await worker.take()
    while jobs:
        assert len(jobs) <= 2
        done += ids(jobs)
        jobs = await finish(worker, *jobs, slots=100)
    assert sorted(done) == sorted(f"{turn}{n}" for turn in "xy" for n in range(4))


async def test_a_job_passes_all_of_its_limits_or_none(store: Store) -> None:
    both = gate(use(5, "acme"), use(1, "all", "global"))
    other = gate(use(5, "bolt"), use(1, "all", "global"))
    await enqueue(store, gated("a", both), gated("b", other), gated("c", gate(use(5, "bolt"))))
    worker = await store.worker()
    running = await worker.take()
    assert sorted(ids(running)) == ["a", "c"]
    assert (await store.look("b")).held_by == held_at("global", "all")
    # The one that waits has taken nothing: all other permits of its key are free.
    await enqueue(store, *(gated(f"d{n}", gate(use(5, "bolt"))) for n in range(5)))
    assert len(await worker.take()) == 4
    (a,) = [job for job in running if job.id == "a"]
    assert ids(await finish(worker, a, slots=100)) == []
    assert (await store.look("b")).held_by == held_at("api", "bolt")


async def test_one_lane_that_waits_for_one_limit_lets_others_pass_the_other(store: Store) -> None:
    """What a lane cannot use, the next one gets."""
    shared = use(1, "all", "global")
    await enqueue(store, gated("first", gate(shared)), gated("slow", gate(use(1, "slow"))))
    worker = await store.worker()
    first, slow = sorted(await worker.take(), key=lambda job: job.id)
    # Both wait for the shared one; the first of them for another one besides.
    await enqueue(store, gated("a", gate(shared, use(1, "slow"))), gated("b", gate(shared)))
    (b,) = await finish(worker, first, slots=100)
    assert b.id == "b"
    assert ids(await finish(worker, slow, slots=100)) == []
    assert ids(await finish(worker, b, slots=100)) == ["a"]


async def test_a_lane_without_a_job_lets_in_the_next(store: Store) -> None:
    await enqueue(store, gated("running"))
    worker = await store.worker()
    running = await worker.take_one()
    await enqueue(store, gated("a", gate(turn="x")), gated("b", gate(turn="y")))
    await finish(worker, running)
    # One of the two lanes was let in. Its job goes before anybody has taken it.
    ready = [name for name in "ab" if await store.state(name) is State.READY]
    await store.backend.cancel([ref(name) for name in ready[:1]], None, 0)
    assert len(await worker.take()) == 1


# What people see


async def test_a_job_without_room_is_held_and_says_by_what(store: Store) -> None:
    names = await fill(store, 2)
    assert await states(store, *names) == [State.READY, State.READY]
    worker = await store.worker()
    running = await worker.take_one()
    await enqueue(store, gated("later"))
    for name in (names[1], "later"):
        record = await store.look(name)
        assert (record.state, record.held_by) == (State.HELD, held_at("api", "acme"))
        assert record.envelope == name.encode()
    await finish(worker, running)
    assert await states(store, names[1], "later") == [State.READY, State.READY]
    assert (await store.look(names[1])).held_by is None


async def test_counts_of_jobs_at_gates(store: Store) -> None:
    await enqueue(store, gated("a", priority=0), gated("b", priority=1), gated("c", priority=3))
    counts = await store.counts()
    assert (counts.ready, counts.held, counts.running) == ((1, 1, 0, 1), 0, 0)
    worker = await store.worker()
    job = await worker.take_one()
    counts = await store.counts()
    assert (counts.ready, counts.held, counts.running) == ((0, 0, 0, 0), 2, 1)
    await finish(worker, job)
    counts = await store.counts()
    assert (counts.ready, counts.held, counts.running) == ((0, 1, 0, 1), 0, 0)


# The order in a lane


async def test_priorities_count_inside_a_lane(store: Store) -> None:
    order = {"low": 3, "normal": 2, "high": 1, "critical": 0}
    await enqueue(store, *(gated(name, priority=priority) for name, priority in order.items()))
    assert await drain(store, await store.worker()) == [*order][::-1]


async def test_jobs_of_one_priority_keep_their_order_in_their_lane(store: Store) -> None:
    names = await fill(store, 30, gate(use(3)))
    assert await drain(store, await store.worker(), slots=7) == names


# Each end gives the permit back

ENDS: dict[str, Callable[[TakenJob], Settlement]] = {
    "succeeded": Settlement.succeeded,
    "discarded": Settlement.discarded,
    "cancelled": Settlement.cancelled,
    "dead": lambda job: Settlement.dead(job, b"letter"),
    "retry": lambda job: Settlement.reschedule(job, b"again", HOUR_MS),
    "event": lambda job: Settlement.waiting(job, b"again", HOUR_MS),
    "result": lambda job: Settlement.succeeded(job, outcome(), 60_000),
}


@pytest.mark.parametrize("how", ENDS)
async def test_each_end_gives_the_permit_back(store: Store, how: str) -> None:
    names = await fill(store, 3)
    worker = await store.worker()
    answer = await worker.exchange(ENDS[how](await worker.take_one()), demand=100)
    assert ids(answer.jobs) == names[1:2]


@pytest.mark.parametrize("how", ENDS)
async def test_a_settlement_that_is_sent_again_gives_nothing_back(store: Store, how: str) -> None:
    """Elsewhere a permit that was given back twice ran a job with room for one eleven times."""
    names = await fill(store, 4)
    worker = await store.worker()
    end = ENDS[how](await worker.take_one())
    assert ids((await worker.exchange(end, demand=100)).jobs) == names[1:2]
    again = await worker.exchange(end, end, demand=100)
    assert (again.jobs, again.not_yours) == ([], [end, end])


async def test_a_number_stays_what_it_is(store: Store) -> None:
    """Elsewhere a limit of 5 has decayed to 1 in the course of time."""
    worker = await store.worker()
    for turn in range(20):
        await fill(store, 8, gate(use(5)), name=f"{turn}-")
        # Without one that is due again at once: its event has come meanwhile.
        ends = [end for how, end in ENDS.items() if how != "event"]
        first = await worker.take()
        assert len(first) == 5
        made = [ends[(turn + n) % len(ends)](job) for n, job in enumerate(first)]
        rest = (await worker.exchange(*made, demand=100)).jobs
        assert len(rest) == 3
        await finish(worker, *rest)


# Later


async def test_a_retry_waits_outside_and_comes_back_to_its_lane(store: Store) -> None:
    names = await fill(store, 3)
    worker = await store.worker()
    first = await worker.take_one()
    answer = await worker.exchange(Settlement.reschedule(first, b"again", 5_000), demand=100)
    assert ids(answer.jobs) == names[1:2]
    assert await store.state(names[0]) is State.SCHEDULED
    store.clock.ms += 5_000
    assert await worker.take() == []
    assert await store.state(names[0]) is State.HELD
    # It came to the lane later than the other one.
    assert ids(third := await finish(worker, *answer.jobs, slots=100)) == names[2:]
    assert ids(await finish(worker, *third, slots=100)) == names[:1]


async def test_a_delayed_job_comes_to_its_gate_when_it_is_due(store: Store) -> None:
    await enqueue(store, gated("late", delay_ms=1_000), gated("now"))
    assert await states(store, "late", "now") == [State.SCHEDULED, State.READY]
    worker = await store.worker()
    running = await worker.take_one()
    assert running.id == "now"
    store.clock.ms += 1_000
    assert await worker.take() == []
    assert (await store.look("late")).held_by == held_at("api", "acme")
    assert ids(await finish(worker, running, slots=100)) == ["late"]


# Signals


async def test_a_job_that_finds_room_signals(store: Store) -> None:
    need_gates(store)
    worker = await store.worker()
    await worker.settle_signals()
    await enqueue(store, gated("a"))
    assert await worker.signalled() == ["work"]


async def test_a_job_without_room_signals_nobody(store: Store) -> None:
    await enqueue(store, gated("a"))
    worker = await store.worker()
    running = await worker.take_one()
    await worker.settle_signals()
    await fill(store, 20)
    assert await worker.signalled(SHORT_S) == []
    # Nor is any of them left behind, so nobody is sent to look for them.
    assert (await worker.exchange()).left_ready == frozenset()
    assert (await worker.lease.beat()).ready == ()
    assert await worker.signalled(SHORT_S) == []
    answer = await worker.exchange(Settlement.succeeded(running))
    assert answer.left_ready == {"work"}
    assert await worker.signalled() == ["work"]


async def test_room_that_another_worker_makes_signals(store: Store) -> None:
    await fill(store, 2)
    busy, idle = await store.worker(), await store.worker()
    running = await busy.take_one()
    await idle.settle_signals()
    # The one that has made the room has no slot free.
    await busy.exchange(Settlement.succeeded(running), demand=0)
    assert await idle.signalled() == ["work"]
    assert len(await idle.take()) == 1


async def test_who_parks_with_an_offer_gets_a_job_with_a_gate(store: Store) -> None:
    names = await fill(store, 3)
    worker = await store.worker()
    worker.sequence += 1
    parked = await worker.lease.park(5, Offer(worker.sequence, {"work": Demand(10)}))
    assert parked.exchange is not None
    taken = parked.exchange.jobs or await worker.take()
    assert ids(taken) == names[:1]


# Beside jobs without a gate


@pytest.mark.parametrize("slots", [1, 2, 7])
async def test_jobs_with_a_gate_and_without_one_do_not_starve_each_other(
    store: Store, slots: int
) -> None:
    await fill(store, 30, gate(use(100)))
    await store.enqueue(*(f"plain{n}" for n in range(30)))
    worker = await store.worker()
    taken: list[str] = []
    while len(taken) < 14:
        taken += ids(await worker.take(slots))
    of_gates = sum(name.startswith("j") for name in taken)
    assert 4 <= of_gates <= len(taken) - 4


async def test_plain_jobs_pass_those_without_room(store: Store) -> None:
    await fill(store, 50)
    worker = await store.worker()
    await worker.take_one()
    names = [f"plain{n}" for n in range(10)]
    await store.enqueue(*names)
    assert ids(await worker.take()) == names


async def test_what_plain_jobs_leave_is_for_those_with_a_gate(store: Store) -> None:
    await fill(store, 20, gate(use(100)))
    await store.enqueue("plain")
    assert len(await (await store.worker()).take(21)) == 21


async def test_ids_and_batches_are_as_for_other_jobs(store: Store) -> None:
    same = gated("a", has_new_id=False)
    assert await enqueue(store, same, token="same") == [None]
    assert await enqueue(store, same, token="same") == [None]
    assert await enqueue(store, same) == [Placed(ref("a"), "there")]
    assert await drain(store, await store.worker()) == ["a"]
    assert await enqueue(store, same) == [Placed(ref("a"), "there")]
