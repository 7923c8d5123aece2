"""Lists of jobs that wait for a unique key, and actions on them."""

from __future__ import annotations

import pytest

from asyncjobs.model.job import NewJob, State, TakenJob, held_by
from asyncjobs.model.settlement import Settlement
from asyncjobs.model.terms import Terms, Unique
from asyncjobs.store.answers import Placed
from asyncjobs.store.changes import Changed, Target
from asyncjobs.store.listing import JobQuery, ListedJob
from asyncjobs.store.seam import EnqueueBatch
from asyncjobs.testing.conformance.listing import envelope, names, pages
from asyncjobs.testing.conformance.store import Store, Worker, ref

pytestmark = pytest.mark.anyio

HOUR_MS = 3_600_000


async def hold(
    store: Store, *held: str, queue: str = "work", priority: int = 2, function: str = "send"
) -> tuple[Worker, list[TakenJob]]:
    """Let a job run for each of these, and store it behind that one, a second after the other."""
    if not store.backend.capabilities.unique:
        pytest.skip("no capability unique")
    worker = await store.worker(queue)
    running: list[TakenJob] = []
    for name in held:
        terms = Terms(unique=Unique(name.encode(), "finished", HOUR_MS, replace=True, hold=True))
        raw = envelope(function)
        first = NewJob(queue, f"first-{name}", 2, envelope("first"), terms=terms)
        await store.backend.enqueue(EnqueueBatch(store.token(), [first]))
        running.append(await worker.take_one())
        jobs = [NewJob(queue, name, priority, raw, terms=terms)]
        (place,) = (await store.backend.enqueue(EnqueueBatch(store.token(), jobs))).places
        assert place == Placed(ref(name, queue), "held")
        store.clock.ms += 1000
    return worker, running


async def listed(store: Store, **about: object) -> list[ListedJob]:
    return await pages(store, JobQuery(State.HELD)._replace(**about))  # type: ignore[arg-type]


async def test_held_jobs_with_what_they_wait_for(store: Store) -> None:
    start = store.clock.ms
    await hold(store, "a", "b", priority=1)
    await store.enqueue("ready")
    await store.enqueue("scheduled", delay_ms=5000)
    second, first = await listed(store)
    assert (first.ref, second.ref) == (ref("a"), ref("b"))
    assert first.record.held_by == held_by(ref("first-a"))
    assert (first.time_ms, second.time_ms) == (start, start + 1000)
    assert first.record == await store.look("a")
    assert first.size == len(first.stored) > 0
    for state in (State.READY, State.SCHEDULED):
        assert names(await pages(store, JobQuery(state))) == [state]


async def test_filters_orders_and_pages_of_held_jobs(store: Store) -> None:
    start = store.clock.ms
    await hold(store, "a", "b")
    await hold(store, "c", function="pay")
    await hold(store, "d", queue="second")
    assert names(await listed(store, limit=1)) == ["d", "c", "b", "a"]
    assert names(await listed(store, limit=1, oldest_first=True)) == ["a", "b", "c", "d"]
    assert names(await listed(store, queues=("second",))) == ["d"]
    assert names(await listed(store, function="p*")) == ["c"]
    assert names(await listed(store, since_ms=start + 1000, before_ms=start + 3000)) == ["c", "b"]
    assert names(await listed(store, error="Error")) == []


async def test_a_call_in_the_place_of_a_held_one_waits_as_long(store: Store) -> None:
    start = store.clock.ms
    await hold(store, "a")
    terms = Terms(unique=Unique(b"a", "finished", HOUR_MS, replace=True, hold=True))
    jobs = [NewJob("work", "later", 2, envelope("newer"), terms=terms)]
    await store.backend.enqueue(EnqueueBatch(store.token(), jobs))
    (job,) = await listed(store)
    assert (job.ref, job.time_ms, job.stored) == (ref("a"), start, envelope("newer"))


async def test_a_job_that_goes_on_or_is_cancelled_is_held_no_longer(store: Store) -> None:
    worker, (first, _) = await hold(store, "a", "b")
    await store.backend.cancel([ref("b")], None, 0)
    assert names(await listed(store)) == ["a"]
    await worker.exchange(Settlement.succeeded(first))
    assert names(await listed(store)) == []
    assert names(await pages(store, JobQuery(State.READY))) == ["a"]


async def test_only_the_stay_that_was_chosen_is_deleted(store: Store) -> None:
    await hold(store, "a")
    (job,) = await listed(store)
    target = Target(job.ref, job.seen)
    delete = store.backend.inspect.jobs.delete
    assert await delete([target._replace(seen=job.seen + b"1")]) == [Changed.MOVED]
    assert await store.backend.inspect.jobs.run_now([target]) == [Changed.HELD]
    assert await delete([target]) == [Changed.DONE]
    assert await listed(store) == []
    assert await store.find("a") is None
