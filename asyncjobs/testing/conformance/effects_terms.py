"""What a success causes keeps its terms: it is placed as an enqueue would place it."""

from __future__ import annotations

import contextlib

import pytest

from asyncjobs.errors import StoreError
from asyncjobs.model.job import NewJob, State, TakenJob
from asyncjobs.model.settlement import Effects, Settlement
from asyncjobs.model.terms import Terms, Unique
from asyncjobs.store.seam import EnqueueBatch
from asyncjobs.testing.conformance.spoiled import BAD, Spoil
from asyncjobs.testing.conformance.store import LEASE_MS, SHORT_S, Store, Worker, ids, ref

pytestmark = pytest.mark.anyio

HOUR_MS = 3_600_000
FINISHED = Unique(b"key", "finished", HOUR_MS)
STARTED = FINISHED._replace(until="started")
WINDOW = FINISHED._replace(until="window")
REPLACE = FINISHED._replace(replace=True)
HOLD = FINISHED._replace(hold=True)


def new(
    id: str,
    unique: Unique | None = FINISHED,
    *,
    delay_ms: int = 0,
    has_new_id: bool = False,
    envelope: bytes = b"",
) -> NewJob:
    terms = None if unique is None else Terms(unique=unique)
    call = envelope or id.encode()
    return NewJob("work", id, 2, call, delay_ms, None, has_new_id, terms)


async def enqueue(store: Store, *jobs: NewJob) -> None:
    """Enqueue them. Skips the case for a store without unique keys."""
    if not store.backend.capabilities.unique:
        pytest.skip("no capability unique")
    assert not (await store.backend.enqueue(EnqueueBatch(store.token(), jobs))).refused


async def parent(store: Store, worker: Worker, unique: Unique | None = None) -> TakenJob:
    """A job that runs."""
    await enqueue(store, new("parent", unique))
    return await worker.take_one()


def causing(job: TakenJob, *jobs: NewJob) -> Settlement:
    return Settlement.succeeded(job).causing(Effects(jobs))


@pytest.mark.parametrize("has_new_id", [False, True])
async def test_a_job_of_a_success_holds_its_unique_key(store: Store, has_new_id: bool) -> None:
    worker = await store.worker()
    job = await parent(store, worker)
    stored = (new("plain", None), new("a", has_new_id=has_new_id), new("b", has_new_id=has_new_id))
    await worker.exchange(causing(job, *stored))
    # The second one is not stored, as by an enqueue.
    assert await store.state("a") is State.READY
    assert await store.state("plain") is State.READY
    assert await store.backend.get([ref("b")]) == [None]
    await enqueue(store, new("c"))
    assert await store.backend.get([ref("c")]) == [None]
    taken = await worker.take()
    assert sorted(ids(taken)) == ["a", "plain"]
    await worker.exchange(*map(Settlement.succeeded, taken))
    await enqueue(store, new("d"))
    assert await store.state("d") is State.READY
    (flow,) = await store.backend.inspect.queues.flow(["work"])
    assert flow.enqueued == 4


async def test_a_key_that_another_job_holds_is_not_taken_by_a_success(store: Store) -> None:
    worker = await store.worker()
    job = await parent(store, worker)
    await enqueue(store, new("holder", delay_ms=HOUR_MS))
    answer = await worker.exchange(causing(job, new("a")), demand=10)
    assert (answer.jobs, answer.not_yours) == ([], [])
    assert await store.backend.get([ref("a")]) == [None]
    assert await store.state("holder") is State.SCHEDULED


async def test_a_job_that_ends_leaves_its_key_to_a_job_of_its_success(store: Store) -> None:
    worker = await store.worker()
    job = await parent(store, worker, FINISHED)
    await worker.exchange(causing(job, new("next")))
    assert await store.state("next") is State.READY
    await enqueue(store, new("other"))
    assert await store.backend.get([ref("other")]) == [None]
    # And so on, for as long as each one stores the next.
    await worker.exchange(causing(await worker.take_one(), new("last")))
    assert await store.state("last") is State.READY


async def test_a_job_that_is_held_goes_before_a_job_of_the_success(store: Store) -> None:
    worker = await store.worker()
    job = await parent(store, worker, FINISHED)
    await enqueue(store, new("held", HOLD))
    assert await store.state("held") is State.HELD
    await worker.exchange(causing(job, new("next")))
    assert await store.state("held") is State.READY
    assert await store.backend.get([ref("next")]) == [None]


async def test_a_job_of_a_success_takes_the_place_of_one_that_waits(store: Store) -> None:
    worker = await store.worker()
    job = await parent(store, worker)
    await enqueue(store, new("holder", REPLACE, delay_ms=HOUR_MS))
    await worker.exchange(causing(job, new("a", REPLACE, envelope=b"newer")))
    record = await store.look("holder")
    assert (record.state, record.envelope) == (State.READY, b"newer")
    assert await store.backend.get([ref("a")]) == [None]


async def test_a_job_of_a_success_is_held_behind_one_that_runs(store: Store) -> None:
    worker, other = await store.worker(), await store.worker()
    await enqueue(store, new("holder"))
    holder = await other.take_one()
    await worker.exchange(causing(await parent(store, worker), new("a", HOLD)))
    assert await store.state("a") is State.HELD
    await other.exchange(Settlement.succeeded(holder))
    assert ids(await worker.take()) == ["a"]


async def test_a_key_until_the_start_is_free_when_the_settling_exchange_takes(store: Store) -> None:
    worker = await store.worker()
    job = await parent(store, worker)
    assert ids((await worker.exchange(causing(job, new("a", STARTED)), demand=1)).jobs) == ["a"]
    await enqueue(store, new("b", STARTED))
    assert await store.state("b") is State.READY


async def test_a_success_that_is_sent_again_takes_no_key(store: Store) -> None:
    worker = await store.worker()
    end = causing(await parent(store, worker), new("a"))
    await worker.exchange(end)
    again = end._replace(effects=Effects((new("b", FINISHED._replace(key=b"other")),)))
    assert (await worker.exchange(again)).not_yours == [again]
    await enqueue(store, new("c", FINISHED._replace(key=b"other")))
    assert await store.state("c") is State.READY
    assert await store.backend.get([ref("b")]) == [None]


async def test_a_success_of_a_lost_lease_takes_no_key(store: Store) -> None:
    first, second = await store.worker(), await store.worker()
    job = await parent(store, first, FINISHED)
    await store.end_leases(second)
    again = await second.take_one()
    await first.lease.rejoin(["work"])
    late = causing(job, new("late", WINDOW._replace(key=b"other")))
    assert (await first.exchange(late)).not_yours == [late]
    # And the key of the job stays with it.
    await enqueue(store, new("other"), new("w", WINDOW._replace(key=b"other")))
    assert await store.backend.get([ref("other"), ref("late")]) == [None, None]
    assert await store.state("w") is State.READY
    await second.exchange(Settlement.succeeded(again))


async def test_a_job_of_a_success_with_a_key_may_be_for_later(store: Store) -> None:
    worker, other = await store.worker(), await store.worker()
    job = await parent(store, worker)
    await other.settle_signals()
    answer = await worker.exchange(causing(job, new("a", delay_ms=LEASE_MS // 2)))
    assert answer.next_due_ms == {"work": store.clock.ms + LEASE_MS // 2}
    # A sleeping worker would sleep past a new earliest time.
    assert await other.signalled() == ["work"]
    # The net of the key includes the delay.
    store.clock.ms += HOUR_MS
    await enqueue(store, new("b"))
    assert await store.backend.get([ref("b")]) == [None]


async def test_a_job_with_a_key_that_the_settling_exchange_takes_signals_nobody(
    store: Store,
) -> None:
    worker, other = await store.worker(), await store.worker()
    job = await parent(store, worker)
    await other.settle_signals()
    assert ids((await worker.exchange(causing(job, new("a")), demand=10)).jobs) == ["a"]
    assert await other.signalled(SHORT_S) == []


async def test_many_jobs_of_successes_with_and_without_keys(store: Store) -> None:
    worker = await store.worker()
    await enqueue(store, *(new(f"parent-{n}", None) for n in range(4)))
    parents = await worker.take(4)
    ends = []
    for n, job in enumerate(parents):
        some = [new(f"{n}-{k}", FINISHED._replace(key=b"%d" % k)) for k in range(50)]
        plain = [new(f"{n}-plain-{k}", None) for k in range(50)]
        both = [each for pair in zip(some, plain, strict=True) for each in pair]
        ends.append(causing(job, *both))
    await worker.exchange(*ends)
    counts = await store.counts()
    # Of four with the same key one is stored.
    assert sum(counts.ready) == 50 + 4 * 50


async def test_whatever_fails_jobs_with_keys_are_stored_once(
    store: Store, spoil: Spoil, any_part: str
) -> None:
    """With the success, or when the job has run again."""
    if not store.backend.capabilities.unique:
        pytest.skip("no capability unique")
    worker = await store.worker(BAD)
    await store.enqueue("parent", queue=BAD, priority=1)
    taken = await worker.take_one()
    jobs = [
        new("a")._replace(queue=BAD, has_new_id=True),
        new("b", STARTED._replace(key=b"other"), delay_ms=1)._replace(queue=BAD),
        new("c", None)._replace(queue=BAD),
    ]
    await spoil(any_part)
    with contextlib.suppress(StoreError):
        await worker.exchange(causing(taken, *jobs))
    await spoil.mend(any_part)
    other = await store.worker(BAD)
    await store.pass_time(LEASE_MS + 1, other)
    await store.reclaim(BAD)
    found = await other.take()
    if "parent" in ids(found):
        assert ids(found) == ["parent"]
        await other.exchange(causing(found.pop(), *jobs))
    store.clock.ms += 1
    found += await other.take()
    assert sorted(ids(found)) == ["a", "b", "c"]
    assert (await other.exchange(*map(Settlement.succeeded, found))).not_yours == []
    assert (await store.backend.inspect.unique.page(BAD)).locks == []
