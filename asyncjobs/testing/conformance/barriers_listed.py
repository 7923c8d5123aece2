"""Lists of jobs behind barriers, and actions on them."""

from __future__ import annotations

from typing import Any

import pytest

from asyncjobs.model.job import State, held_behind
from asyncjobs.model.settlement import Settlement
from asyncjobs.model.terms import Unique
from asyncjobs.store.changes import Change, Changed, Target
from asyncjobs.store.control import Purge
from asyncjobs.store.listing import JobQuery, ListedJob
from asyncjobs.testing.conformance.barriers import MINUTE_MS, placed, put, settle_all
from asyncjobs.testing.conformance.listing import names, pages
from asyncjobs.testing.conformance.store import Store, ref

pytestmark = pytest.mark.anyio


async def held(store: Store, **about: Any) -> list[ListedJob]:
    return await pages(store, JobQuery(State.HELD)._replace(**about))


async def test_jobs_behind_barriers_are_listed(store: Store) -> None:
    start = store.clock.ms
    await put(store, placed("a", None, "end"), placed("y", "end", priority=1), end=1)
    store.clock.ms += 1000
    key = Unique(b"key", "finished", MINUTE_MS, hold=True)
    await put(store, placed("first", unique=key))
    worker = await store.worker()
    await worker.take()
    await put(store, placed("keyed", unique=key))
    store.clock.ms += 1000
    await put(store, placed("z", "end"))
    assert names(await held(store)) == ["z", "keyed", "y"]
    assert names(await held(store, limit=1, oldest_first=True)) == ["y", "keyed", "z"]
    assert names(await held(store, since_ms=start + 2000)) == ["z"]
    job = (await held(store))[-1]
    assert (job.time_ms, job.stored, job.record) == (start, b"y", await store.look("y"))
    assert (job.record.priority, job.record.held_by) == (1, held_behind("end"))
    assert (await store.counts()).held == 3


async def test_only_the_stay_behind_a_barrier_that_was_chosen_is_deleted(store: Store) -> None:
    await put(store, placed("a", None, "end"), placed("z", "end"), end=1)
    (job,) = await held(store)
    jobs = store.backend.inspect.jobs
    target = Target(job.ref, job.seen)
    assert await jobs.delete([target._replace(seen=job.seen + b"1")]) == [Changed.MOVED]
    assert await jobs.run_now([target]) == [Changed.HELD]
    assert await jobs.delete([target]) == [Changed.DONE]
    assert await store.find("z") is None
    assert await settle_all(await store.worker()) == ["a"]


async def test_a_job_behind_a_barrier_is_changed(store: Store) -> None:
    await put(store, placed("a", None, "end"), placed("z", "end"), end=1)
    due = store.clock.ms + 9000
    change = store.backend.inspect.jobs.change
    assert await change([Change(ref("z"), b"z", b"newer", due)]) == [Changed.DONE]
    assert await change([Change(ref("z"), b"z", b"newest", None)]) == [Changed.MOVED]
    worker = await store.worker()
    await worker.exchange(Settlement.succeeded(await worker.take_one()))
    record = await store.look("z")
    assert (record.state, record.due_ms, record.envelope) == (State.SCHEDULED, due, b"newer")


async def test_a_purge_takes_jobs_behind_barriers(store: Store) -> None:
    behind = [placed(f"z{n}", "end") for n in range(5)]
    await put(store, placed("a", None, "end", on_failure="run"), *behind, end=1)
    purged = 0
    place: bytes | None = b""
    while place is not None:
        part = await store.backend.control.queues.purge(Purge("work"), 2, place or None)
        purged, place = purged + part.jobs, part.after
    assert purged == 6
    assert await (await store.worker()).take() == []
    assert await store.state("z4") is State.CANCELLED
