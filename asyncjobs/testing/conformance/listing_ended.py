"""Lists of jobs that have succeeded, or were discarded or cancelled."""

from __future__ import annotations

import pytest

from asyncjobs.errors import StoreError
from asyncjobs.model.history import never_begun
from asyncjobs.model.job import State
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.listing import ENDED_STATES, JobQuery, ListedJob
from asyncjobs.testing.conformance.finished import run_of
from asyncjobs.testing.conformance.listing import names, page, pages
from asyncjobs.testing.conformance.spoiled import BAD, Part, Spoil
from asyncjobs.testing.conformance.store import Store, ref

pytestmark = pytest.mark.anyio

SUCCEEDED = JobQuery(State.SUCCEEDED)


async def listed(store: Store, **about: object) -> list[str]:
    found: list[ListedJob] = await pages(store, SUCCEEDED._replace(**about))  # type: ignore[arg-type]
    return names(found)


async def succeed(store: Store, *ended: str, queue: str = "work", function: str = "send") -> None:
    """Let these jobs end, a second after the other."""
    worker = await store.worker(queue)
    for name in ended:
        await store.enqueue(name, queue=queue)
        job = await worker.take_one()
        await worker.exchange(Settlement.succeeded(job, run=run_of(job, function)))
        store.clock.ms += 1000
    await worker.lease.leave()


async def test_each_end_lists_its_jobs_and_no_other(store: Store) -> None:
    await store.enqueue("succeeded", "discarded", "cancelled", "dead", "running")
    worker = await store.worker()
    succeeded, discarded, cancelled, dead, _ = await worker.take()
    await worker.exchange(
        Settlement.succeeded(succeeded, run=run_of(succeeded)),
        Settlement.discarded(discarded).telling(never_begun("send", 2, 11, "expired")),
        Settlement.cancelled(cancelled, b"{}", 1000).telling(run_of(cancelled)),
        Settlement.dead(dead, b"{}\n{}").telling(run_of(dead)),
    )
    for state in ENDED_STATES:
        (job,) = await pages(store, JobQuery(state))
        assert job.ref == ref(state)
        assert (job.record.state, job.time_ms) == (state, store.clock.ms)
        assert job.ended is not None
        assert (job.ended.function, job.ended.worker) == ("send", "worker")
    assert names(await pages(store, JobQuery(State.DEAD))) == ["dead"]


async def test_jobs_that_never_ran(store: Store) -> None:
    await store.enqueue("a")
    await store.backend.cancel([ref("a")], None, 0)
    (job,) = await pages(store, JobQuery(State.CANCELLED))
    assert job.ref == ref("a")


async def test_filters_orders_and_pages(store: Store) -> None:
    start = store.clock.ms
    await succeed(store, "a")
    await succeed(store, "b", queue="second")
    await succeed(store, "c", function="pay")
    await succeed(store, "d", queue="second")
    for limit in (1, 3, 100):
        assert await listed(store, limit=limit) == ["d", "c", "b", "a"]
        assert await listed(store, limit=limit, oldest_first=True) == ["a", "b", "c", "d"]
    assert await listed(store, queues=("second",)) == ["d", "b"]
    assert await listed(store, function="p*") == ["c"]
    assert await listed(store, since_ms=start + 1000, before_ms=start + 3000) == ["c", "b"]
    assert await listed(store, error="Error") == []


async def test_by_error(store: Store) -> None:
    await store.enqueue("a", "b")
    worker = await store.worker()
    a, b = await worker.take()
    await worker.exchange(
        Settlement.discarded(a).telling(run_of(a, error="httpx.ReadTimeout: no answer")),
        Settlement.discarded(b).telling(never_begun("send", 1, 11, "expired")),
    )
    query = JobQuery(State.DISCARDED)
    assert names(await pages(store, query._replace(error="readtime"))) == ["a"]
    assert names(await pages(store, query._replace(message="NO ANSWER"))) == ["a"]
    assert names(await pages(store, query._replace(error="answer"))) == []


async def test_a_clock_that_was_set_back_repeats_and_loses_nothing(store: Store) -> None:
    await succeed(store, "a", queue="second")
    store.clock.ms += 5000
    await succeed(store, "b")
    store.clock.ms -= 10_000
    await succeed(store, "c")
    for oldest_first in (False, True):
        found = await listed(store, limit=1, oldest_first=oldest_first)
        assert sorted(found) == ["a", "b", "c"]


async def test_a_page_of_no_ended_job(store: Store) -> None:
    for state in ENDED_STATES:
        answer = await page(store, JobQuery(state, ("never", "used")))
        assert (answer.jobs, answer.after, answer.is_bounded) == ([], None, False)


async def test_a_history_that_cannot_be_read_hides_no_other(store: Store, spoil: Spoil) -> None:
    await succeed(store, "bad", queue=BAD)
    await succeed(store, "good")
    await spoil(Part.FINISHED)
    answer = await page(store, SUCCEEDED)
    assert names(answer.jobs) == ["good"]
    assert isinstance(answer.refused[BAD], StoreError)
    await spoil.mend()
