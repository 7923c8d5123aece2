"""A queue whose keys cannot be read, asked about beside others: these are answered in time."""

from __future__ import annotations

import asyncio

import pytest

from asyncjobs.errors import StoreError
from asyncjobs.model.job import JobRecord, JobRef, Settlement, State
from asyncjobs.store.answers import CancelVerdict
from asyncjobs.store.redis.backend import RedisBackend
from asyncjobs.testing.conformance.spoiled import ALL, BAD, Spoil
from asyncjobs.testing.conformance.store import LIMIT_S, Store, eventually, outcome, ref

pytestmark = pytest.mark.anyio

KEYS = pytest.mark.parametrize("key", ["index", "known:0", "dead:data"])


async def test_who_asks_about_another_queue_is_answered(store: Store, spoil: Spoil) -> None:
    await store.enqueue("a", queue="one")
    await store.enqueue("b", queue=BAD)
    await spoil("index")
    assert await store.state("a", "one") is State.READY
    with pytest.raises(StoreError, match="WRONGTYPE"):
        await store.backend.get([ref("b", BAD), ref("a", "one")])
    await spoil(ALL, is_sound=True)


async def test_the_jobs_of_the_others_are_cancelled(store: Store, spoil: Spoil) -> None:
    for queue in ("one", BAD, "two"):
        await store.enqueue("a", queue=queue)
    await spoil("index")
    refs = [ref("a", queue) for queue in ("one", BAD, "two")]
    with pytest.raises(StoreError, match="WRONGTYPE"):
        await store.backend.cancel(refs, None, 0)
    assert await store.backend.cancel([refs[0]], None, 0) == [CancelVerdict.FINISHED]
    assert await store.state("a", "two") is State.CANCELLED
    await spoil(ALL, is_sound=True)


@KEYS
async def test_waiters_of_others_hear_of_an_end_in_time(
    store: Store, spoil: Spoil, key: str
) -> None:
    """Some wait before the queue goes bad and some after it; an outcome is told and not looked
    for, so a second waiter that only a look can serve is there too."""
    worker = await store.worker("one")
    await store.enqueue("a", "b", queue="one")
    await store.enqueue("c", queue=BAD)
    bad = await _waits(store, ref("c", BAD))
    good = await _waits(store, ref("a", "one"))
    await spoil(key)
    jobs = {job.id: job for job in await worker.take()}
    await worker.exchange(Settlement.succeeded(jobs["a"], outcome(value=1), 60_000))
    record = await asyncio.wait_for(good, LIMIT_S)
    assert (record.state, record.outcome) == (State.SUCCEEDED, outcome(value=1))
    late = await _waits(store, ref("b", "one"))
    await worker.exchange(Settlement.succeeded(jobs["b"]))
    assert (await asyncio.wait_for(late, LIMIT_S)).state is State.SUCCEEDED
    bad.cancel()
    await asyncio.gather(bad, return_exceptions=True)
    await spoil(ALL, is_sound=True)


async def test_who_waits_in_the_bad_queue_hears_why(store: Store, spoil: Spoil) -> None:
    await store.enqueue("c", queue=BAD)
    await store.enqueue("a", queue="one")
    bad, good = await _waits(store, ref("c", BAD)), await _waits(store, ref("a", "one"))
    await spoil("index")
    with pytest.raises(StoreError, match="WRONGTYPE"):
        await asyncio.wait_for(bad, LIMIT_S)
    assert not good.done()
    worker = await store.worker("one")
    await worker.exchange(Settlement.succeeded(await worker.take_one()))
    assert (await asyncio.wait_for(good, LIMIT_S)).state is State.SUCCEEDED
    await spoil(ALL, is_sound=True)


async def _waits(store: Store, about: JobRef) -> asyncio.Task[JobRecord]:
    """A task that waits for the end of this job; the store knows of it."""

    async def wait() -> JobRecord:
        (record,) = await store.backend.wait_results([about], None)
        assert record is not None
        return record

    task = asyncio.create_task(wait())

    async def is_heard() -> bool:
        if isinstance(store.backend, RedisBackend):
            board = store.backend._board
            channel = store.backend._keys.result(about)
            return board is not None and channel in board._subscribed and not board._new
        return about in store.backend._queues.results  # type: ignore[attr-defined]

    await eventually(is_heard)
    return task
