"""A write fails in the middle of a step: no job is lost, and none is there twice."""

from __future__ import annotations

import pytest

from asyncjobs.errors import StoreError
from asyncjobs.model.clock import new_id
from asyncjobs.model.job import NewJob, Priority, State
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.letters import LetterQuery, Revival, Revived
from asyncjobs.store.seam import EnqueueBatch
from asyncjobs.testing.conformance.spoiled import BAD, Part, Spoil
from asyncjobs.testing.conformance.store import LEASE_MS, Store, Worker, are_new, ids

pytestmark = pytest.mark.anyio


async def _after_its_death(store: Store) -> Worker:
    """Another worker, once the lease of the first one has been reclaimed."""
    other = await store.worker(BAD)
    await store.pass_time(LEASE_MS + 1, other)
    await store.reclaim(BAD)
    return other


@pytest.mark.parametrize("part", [Part.DUE_TIMES, Part.SCHEDULED])
async def test_a_job_that_shall_run_again_later(store: Store, spoil: Spoil, part: Part) -> None:
    worker = await store.worker(BAD)
    await store.enqueue("a", queue=BAD)
    again = Settlement.reschedule(await worker.take_one(), b"again", 1000)
    await spoil(part)
    assert list((await worker.exchange(again)).away) == [BAD]
    await spoil.mend(part)
    # Its worker would send the settlement again, but dies before that.
    assert ids(await (await _after_its_death(store)).take()) == ["a"]


@pytest.mark.parametrize("part", [Part.DEATHS, Part.LETTERS, Part.LETTER_BYTES])
async def test_a_job_that_is_dead(store: Store, spoil: Spoil, part: Part) -> None:
    worker = await store.worker(BAD)
    await store.enqueue("a", "b", queue=BAD)
    first, second = await worker.take()
    ends = [Settlement.dead(first, b"{}\n{}"), Settlement.reschedule(second, b"again", 1000)]
    await spoil(part)
    answer = await worker.exchange(*ends)
    await spoil.mend(part)
    if answer.away:
        assert ids(await (await _after_its_death(store)).take()) == ["a", "b"]
        return
    assert await store.state("a", BAD) is State.DEAD
    assert await store.state("b", BAD) is State.SCHEDULED
    await spoil.mend()


@pytest.mark.parametrize(("part", "priority"), [(Part.CRITICAL, 0), (Part.LOW, 3)])
async def test_due_jobs_before_one_that_cannot_be_made_ready(
    store: Store, spoil: Spoil, part: Part, priority: int
) -> None:
    worker = await store.worker(BAD)
    for name, own in (("a", 2), ("b", priority), ("c", 2)):
        await store.enqueue(name, queue=BAD, priority=own, delay_ms=1000)
        store.clock.ms += 1
    await spoil(part)
    store.clock.ms += 1000
    for _ in range(3):
        assert list((await worker.exchange(demand=10)).away) == [BAD]
    await spoil.mend(part)
    worker.sequence += 1
    held = (await worker.lease.resync(worker.sequence, [])).missing
    assert sorted(ids([*held, *await worker.take()])) == ["a", "b", "c"]


async def test_small_jobs_given_back_beside_a_large_one(store: Store) -> None:
    first, second = await store.worker(), await store.worker()
    await store.enqueue(*(f"job-{number:03}" for number in range(200)))
    jobs = await first.take(200)
    large = NewJob("work", new_id(), 2, bytes(2_000_000), has_new_id=True)
    await store.backend.enqueue(EnqueueBatch(new_id(), [large]))
    await first.exchange(*map(Settlement.release, jobs))
    answer = await second.exchange(demand=250)
    taken = ids(answer.jobs)
    if len(taken) < 201:
        assert answer.left_ready == {"work"}
        taken += ids(await second.take(250))
    assert sorted(taken) == sorted([*ids(jobs), large.id])


@pytest.mark.parametrize("has_new_id", [False, True])
@pytest.mark.parametrize("part", [Part.LOW, Part.DUE_TIMES, Part.PLACES])
async def test_a_batch_that_is_refused_leaves_nothing(
    store: Store, spoil: Spoil, part: Part, has_new_id: bool
) -> None:
    """A caller that is refused enqueues these jobs again, in another batch."""
    jobs = [
        NewJob(BAD, "a", 2, b"{}", has_new_id=has_new_id),
        NewJob(BAD, "b", 2, b"{}", 500, has_new_id=has_new_id),
        NewJob(BAD, "c", 3, b"{}", has_new_id=has_new_id),
        NewJob(BAD, "d", 2, b"{}", 1000, has_new_id=has_new_id),
    ]
    await spoil(part)
    assert list((await store.backend.enqueue(EnqueueBatch(new_id(), jobs))).refused) == [BAD]
    await spoil.mend(part)
    assert are_new((await store.backend.enqueue(EnqueueBatch(new_id(), jobs))).places) == [True] * 4
    store.clock.ms += 1000
    worker = await store.worker(BAD)
    assert sorted(ids(await worker.take())) == ["a", "b", "c", "d"]


async def test_a_lone_job_that_is_refused_leaves_nothing(store: Store, spoil: Spoil) -> None:
    job = NewJob(BAD, "a", 2, b"{}", has_new_id=True)
    await spoil(Part.PLACES)
    assert (await store.backend.enqueue(EnqueueBatch(new_id(), [job]))).refused
    await spoil.mend(Part.PLACES)
    assert not (await store.backend.enqueue(EnqueueBatch(new_id(), [job]))).refused
    worker = await store.worker(BAD)
    assert ids(await worker.take()) == ["a"]


async def test_a_letter_whose_job_cannot_be_made_ready(store: Store, spoil: Spoil) -> None:
    worker = await store.worker(BAD)
    await store.enqueue("a", queue=BAD)
    await worker.exchange(Settlement.dead(await worker.take_one(), b"{}\n{}"))
    (letter,) = (await store.backend.dead.page(LetterQuery(BAD))).letters
    revival = Revival(letter.key, b"again")
    await spoil(Part.CRITICAL)
    with pytest.raises(StoreError):
        await store.backend.dead.revive([revival], priority=Priority.CRITICAL)
    await spoil.mend(Part.CRITICAL)
    assert await store.state("a", BAD) is State.DEAD
    assert await store.backend.dead.revive([revival]) == [Revived.READY]
    assert ids(await worker.take()) == ["a"]
