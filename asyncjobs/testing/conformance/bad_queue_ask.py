"""Questions about a queue that cannot be read and about others: the others are answered in time."""

from __future__ import annotations

import asyncio

import pytest

from asyncjobs.errors import StoreError
from asyncjobs.model.job import JobRecord, State
from asyncjobs.model.notes import Note
from asyncjobs.model.refs import JobRef
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.answers import CancelVerdict
from asyncjobs.testing.conformance.spoiled import BAD, Part, Spoil
from asyncjobs.testing.conformance.store import LIMIT_S, Store, eventually, outcome, ref

pytestmark = pytest.mark.anyio

PARTS = pytest.mark.parametrize("part", [Part.PLACES, Part.KNOWN, Part.LETTERS])


async def test_who_asks_about_another_queue_is_answered(store: Store, spoil: Spoil) -> None:
    await store.enqueue("a", queue="one")
    await store.enqueue("b", queue=BAD)
    await spoil(Part.PLACES)
    assert await store.state("a", "one") is State.READY
    with pytest.raises(StoreError, match=spoil.error):
        await store.backend.get([ref("b", BAD), ref("a", "one")])
    await spoil.mend()


async def test_the_jobs_of_the_others_are_cancelled(store: Store, spoil: Spoil) -> None:
    for queue in ("one", BAD, "two"):
        await store.enqueue("a", queue=queue)
    await spoil(Part.PLACES)
    refs = [ref("a", queue) for queue in ("one", BAD, "two")]
    with pytest.raises(StoreError, match=spoil.error):
        await store.backend.cancel(refs, None, 0)
    assert await store.backend.cancel([refs[0]], None, 0) == [CancelVerdict.FINISHED]
    assert await store.state("a", "two") is State.CANCELLED
    await spoil.mend()


@PARTS
async def test_waiters_of_others_hear_of_an_end_in_time(
    store: Store, spoil: Spoil, part: Part
) -> None:
    """One waits before the queue goes bad, and one after it. The first outcome is announced. The
    second job has none, so its waiter hears of the end only by a look at the store."""
    worker = await store.worker("one")
    await store.enqueue("a", "b", queue="one")
    await store.enqueue("c", queue=BAD)
    bad = await _waits(store, spoil, ref("c", BAD))
    good = await _waits(store, spoil, ref("a", "one"))
    await spoil(part)
    jobs = {job.id: job for job in await worker.take()}
    await worker.exchange(Settlement.succeeded(jobs["a"], outcome(value=1), 60_000))
    record = await asyncio.wait_for(good, LIMIT_S)
    assert (record.state, record.outcome) == (State.SUCCEEDED, outcome(value=1))
    late = await _waits(store, spoil, ref("b", "one"))
    await worker.exchange(Settlement.succeeded(jobs["b"]))
    assert (await asyncio.wait_for(late, LIMIT_S)).state is State.SUCCEEDED
    bad.cancel()
    await asyncio.gather(bad, return_exceptions=True)
    await spoil.mend()


async def test_who_waits_in_the_bad_queue_hears_why(store: Store, spoil: Spoil) -> None:
    await store.enqueue("c", queue=BAD)
    await store.enqueue("a", queue="one")
    bad = await _waits(store, spoil, ref("c", BAD))
    good = await _waits(store, spoil, ref("a", "one"))
    await spoil(Part.PLACES)
    with pytest.raises(StoreError, match=spoil.error):
        await asyncio.wait_for(bad, LIMIT_S)
    assert not good.done()
    worker = await store.worker("one")
    await worker.exchange(Settlement.succeeded(await worker.take_one()))
    assert (await asyncio.wait_for(good, LIMIT_S)).state is State.SUCCEEDED
    await spoil.mend()


async def _waits(store: Store, spoil: Spoil, about: JobRef) -> asyncio.Task[JobRecord]:
    """A task that waits for the end of this job. The store knows that it waits."""

    async def wait() -> JobRecord:
        (record,) = await store.backend.wait_results([about], None)
        assert record is not None
        return record

    task = asyncio.create_task(wait())

    await eventually(lambda: spoil.has_waiter(about))
    return task


async def test_notes_of_sound_queues_are_kept(store: Store, spoil: Spoil) -> None:
    if not store.backend.capabilities.notes:
        pytest.skip("no capability notes")
    queues = (BAD, "one", "two")
    worker = await store.worker(*queues)
    for queue in queues:
        await store.enqueue("a", queue=queue)
    jobs = sorted(await worker.take())
    await spoil(Part.LEASES)
    with pytest.raises(StoreError):
        await worker.lease.note([Note(job, "x", b"1") for job in jobs])
    await spoil.mend(Part.LEASES)
    assert await worker.lease.notes(jobs) == [{}, {"x": b"1"}, {"x": b"1"}]
    await worker.exchange(*map(Settlement.succeeded, jobs))
