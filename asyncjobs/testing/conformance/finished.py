"""The history: jobs that have ended."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from asyncjobs.errors import StoreError
from asyncjobs.model.clock import new_id
from asyncjobs.model.envelope import Envelope
from asyncjobs.model.history import FinishedJob, Run, never_begun
from asyncjobs.model.job import NewJob, State, TakenJob
from asyncjobs.model.schedules import Overlap
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.answers import StaleSequence
from asyncjobs.store.changes import Target
from asyncjobs.store.control import Purge
from asyncjobs.store.history import FinishedPage, FinishedQuery
from asyncjobs.store.schedules import Schedules
from asyncjobs.store.seam import EnqueueBatch, StoreSettings
from asyncjobs.testing.conformance.schedules import one
from asyncjobs.testing.conformance.schedules_fire import earlier, fire, firing
from asyncjobs.testing.conformance.spoiled import BAD, Part, Spoil
from asyncjobs.testing.conformance.store import Store, Worker, outcome, ref

pytestmark = pytest.mark.anyio


def run_of(job: TakenJob, name: str = "send", error: str = "") -> Run:
    """An attempt of 250 ms that began 40 ms after its job was ready."""
    run = (name, 1, job.ready_ms - 5, job.ready_ms + 40, 7.0, 7.25)
    return (*run, error) if error else run


def done(job: TakenJob, name: str = "send") -> Settlement:
    return Settlement.succeeded(job, run=run_of(job, name))


async def page(store: Store, after: int | None = None, **query: Any) -> FinishedPage:
    asked = FinishedQuery("work")._replace(**query)
    return await store.backend.inspect.history.finished(asked, after)


async def finished(store: Store, **query: Any) -> list[FinishedJob]:
    return list((await page(store, **query)).jobs)


async def names(store: Store, **query: Any) -> list[str]:
    return [job.ref.id for job in await finished(store, **query)]


async def end(store: Store, worker: Worker, *names: str, **about: str) -> None:
    """Enqueue, run and settle these jobs in one exchange."""
    await store.enqueue(*names)
    jobs = await worker.take()
    assert [job.id for job in jobs] == [*names]
    await worker.exchange(*(done(job, **about) for job in jobs))


async def test_an_attempt_begins_between_ready_and_end(store: Store) -> None:
    """Its worker guesses the store's clock. Nobody may see a negative time for that."""
    await store.enqueue("early", "late", "never")
    worker = await store.worker()
    early, late, never = await worker.take()
    store.clock.ms += 100
    await worker.exchange(
        Settlement.succeeded(early, run=("send", 1, 1, early.ready_ms - 1, 7.0, 7.1)),
        Settlement.succeeded(late, run=("send", 1, 1, store.clock.ms + 1, 7.0, 7.1)),
        Settlement.discarded(never).telling(never_begun("send", 1, 1, "expired")),
    )
    last = {job.ref.id: job for job in await finished(store)}
    assert last["early"].began_ms == last["early"].ready_ms == early.ready_ms
    assert last["early"].queued_ms == 0
    assert last["late"].began_ms == last["late"].ended_ms == store.clock.ms
    assert last["never"].began_ms is None


async def test_each_kind_of_end_with_what_its_worker_says(store: Store) -> None:
    await store.enqueue("a", "b", "c", "d", "e")
    worker = await store.worker()
    a, b, c, d, e = await worker.take()
    store.clock.ms += 300
    await worker.exchange(
        done(a),
        Settlement.dead(b, b"{}\n{}").telling(run_of(b, "pay", "ValueError: no")),
        Settlement.discarded(c).telling(never_begun("send", 2, 11, "expired")),
        Settlement.cancelled(d, outcome(State.CANCELLED), 1000).telling(run_of(d)),
        Settlement.succeeded(e),
    )
    last = await finished(store)
    assert [(job.number, job.ref) for job in last] == [
        (5, ref("e")),
        (4, ref("d")),
        (3, ref("c")),
        (2, ref("b")),
        (1, ref("a")),
    ]
    ready, now = a.ready_ms, store.clock.ms
    assert last[4] == FinishedJob(
        1, ref("a"), State.SUCCEEDED, now, "send", 1, "worker", ready - 5, ready, ready + 40, 0.25
    )
    assert last[4].queued_ms == 40
    assert (last[3].state, last[3].function, last[3].error) == (
        State.DEAD,
        "pay",
        "ValueError: no",
    )
    assert last[2] == FinishedJob(
        3, ref("c"), State.DISCARDED, now, "send", 2, "worker", 11, ready, error="expired"
    )
    assert last[2].queued_ms is None
    assert last[1].state is State.CANCELLED
    # A worker may tell nothing.
    assert last[0] == FinishedJob(
        5, ref("e"), State.SUCCEEDED, now, worker="worker", ready_ms=ready
    )


async def test_only_ends_that_count(store: Store) -> None:
    await store.enqueue("again", "back", "stolen", "mine")
    worker = await store.worker()
    again, back, stolen, mine = await worker.take()
    await worker.exchange(Settlement.release(stolen))
    other = await store.worker()
    await other.exchange(Settlement.succeeded(await other.take_one(), run=run_of(stolen, "other")))
    await worker.exchange(
        Settlement.release(back).telling(run_of(back)),
        done(stolen),
        done(mine),
        Settlement.reschedule(again, b"again", 1000).telling(run_of(again, error="E: x")),
    )
    assert [(job.number, job.ref.id, job.function) for job in await finished(store)] == [
        (2, "mine", "send"),
        (1, "stolen", "other"),
    ]


async def test_a_settlement_that_is_sent_again(store: Store) -> None:
    await store.enqueue("a", "b")
    worker = await store.worker()
    a, b = await worker.take()
    await worker.exchange(done(a))
    # As after a resync that has not said so: the job is no longer held.
    await worker.exchange(done(a), done(b))
    with pytest.raises(StaleSequence):
        await worker.lease.exchange(worker.sequence, [done(b)], {})
    assert await names(store) == ["b", "a"]


async def test_a_retry_that_is_cancelled_instead(store: Store) -> None:
    await store.enqueue("a", "b")
    worker = await store.worker()
    a, b = await worker.take()
    await store.backend.cancel([ref("b")], None, 0)
    await worker.exchange(
        Settlement.reschedule(a, b"again", 1000).telling(run_of(a, error="E: x")),
        Settlement.reschedule(b, b"again", 1000).telling(run_of(b, error="E: y")),
    )
    (job,) = await finished(store)
    assert (job.ref.id, job.state, job.error) == ("b", State.CANCELLED, "E: y")


async def test_jobs_that_are_cancelled_while_they_wait(store: Store) -> None:
    call = Envelope("send", [1], {}, 77).encode()
    jobs = [NewJob("work", "a", 2, call), NewJob("work", "b", 2, call, delay_ms=1000)]
    await store.backend.enqueue(EnqueueBatch(store.token(), jobs))
    await store.enqueue("unreadable")
    refs = [ref(name) for name in ("a", "b", "unreadable", "never")]
    await store.backend.cancel(refs, None, 0)
    last = await finished(store)
    assert [(job.ref.id, job.function) for job in last] == [
        ("unreadable", ""),
        ("b", "send"),
        ("a", "send"),
    ]
    assert {job.state for job in last} == {State.CANCELLED}
    assert (last[0].worker, last[0].began_ms) == ("", None)
    await store.backend.cancel(refs, None, 0)
    assert len(await finished(store)) == 3


async def test_pages_from_the_newest_on(store: Store) -> None:
    worker = await store.worker()
    await end(store, worker, *(f"job-{n}" for n in range(5)))
    await end(store, worker, *(f"job-{n}" for n in range(5, 8)))
    first = await page(store, limit=2)
    assert [job.ref.id for job in first.jobs] == ["job-7", "job-6"]
    assert first.now_ms == store.clock.ms
    # What ends meanwhile moves nothing to another page.
    await end(store, worker, "new")
    second = await page(store, first.after, limit=4)
    assert [job.ref.id for job in second.jobs] == ["job-5", "job-4", "job-3", "job-2"]
    third = await page(store, second.after, limit=4)
    assert [job.ref.id for job in third.jobs] == ["job-1", "job-0"]
    assert third.after is None
    assert await page(store, 1, limit=4) == FinishedPage([], None, 0, store.clock.ms)


async def test_filters(store: Store) -> None:
    worker = await store.worker()
    await end(store, worker, "a", name="pay")
    store.clock.ms += 1000
    since_ms = store.clock.ms
    await end(store, worker, "b")
    store.clock.ms += 1000
    await store.enqueue("c", "d")
    c, d = await worker.take()
    dead = Settlement.dead(c, b"{}\n{}").telling(run_of(c, "pay", "ValueError: No money"))
    await worker.exchange(dead, done(d))
    assert await names(store, functions={"pay"}) == ["c", "a"]
    assert await names(store, states={State.DEAD}) == ["c"]
    assert await names(store, error="no MONEY") == ["c"]
    assert await names(store, since_ms=since_ms) == ["d", "c", "b"]
    assert await names(store, before_ms=since_ms + 1) == ["b", "a"]
    assert await names(store, since_ms=since_ms, functions={"pay", "send"}, limit=2) == ["d", "c"]
    found = await page(store, error="nobody has this", functions={"pay"})
    assert (found.jobs, found.after, found.looked) == ([], None, 4)


async def test_queues_without_a_past(store: Store) -> None:
    await store.enqueue("a")
    assert await finished(store) == []
    assert await finished(store, queue="never") == []
    assert await store.backend.inspect.queues.names() == ["work"]


async def test_a_strange_id(store: Store) -> None:
    worker = await store.worker()
    await end(store, worker, "ümläut ✓", 'quote"\\')
    assert await names(store) == ['quote"\\', "ümläut ✓"]


async def test_a_forgotten_queue_has_no_past(store: Store) -> None:
    worker = await store.worker()
    await end(store, worker, "a")
    await worker.lease.leave()
    store.clock.ms += 2 * store.settings.id_ttl_ms + 1_000_000
    (left,) = await store.backend.inspect.queues.forget(["work"], 0)
    assert left.is_forgotten
    assert await finished(store) == []


class TestBounds:
    """A ring of five jobs."""

    @pytest.fixture
    def new_settings(self) -> StoreSettings:
        return StoreSettings(prefix=f"test-{new_id()}", history=5)

    async def test_the_oldest_go_job_by_job(self, store: Store) -> None:
        worker = await store.worker()
        for begin in range(0, 12, 4):
            await end(store, worker, *(f"job-{n}" for n in range(begin, begin + 4)))
        assert await names(store) == ["job-11", "job-10", "job-9", "job-8", "job-7"]
        await end(store, worker, "one")
        assert await names(store) == ["one", "job-11", "job-10", "job-9", "job-8"]

    async def test_more_than_fit_at_once(self, store: Store) -> None:
        worker = await store.worker()
        await end(store, worker, *(f"job-{n}" for n in range(8)))
        assert await names(store) == [f"job-{n}" for n in range(7, 2, -1)]


class TestSwitchedOff:
    @pytest.fixture
    def new_settings(self) -> StoreSettings:
        return StoreSettings(prefix=f"test-{new_id()}", history=0)

    async def test_nothing_is_kept(self, store: Store) -> None:
        worker = await store.worker()
        await end(store, worker, "a")
        await store.enqueue("b")
        await store.backend.cancel([ref("b")], None, 0)
        assert await finished(store) == []


@pytest.mark.parametrize("part", [Part.FINISHED, Part.FINISHED_NUMBER])
async def test_a_history_that_is_spoiled_begins_anew(
    store: Store, spoil: Spoil, part: Part
) -> None:
    worker = await store.worker(BAD)
    await store.enqueue("a", "b", "c", queue=BAD)
    a, b, c = await worker.take()
    await worker.exchange(done(a))
    await spoil(part)
    with contextlib.suppress(StoreError):
        assert (await worker.exchange(done(b))).not_yours == []
        # On a server it has begun anew by itself. In memory the whole queue is spoiled.
        (job,) = await finished(store, queue=BAD)
        assert (job.number, job.ref.id) == (1, "b")
    await spoil.mend()
    assert c.id == "c"


async def test_jobs_that_were_purged_or_deleted(store: Store) -> None:
    if not store.backend.capabilities.control:
        pytest.skip("no capability control")
    await store.enqueue("deleted", "purged")
    await store.enqueue("late", delay_ms=1000)
    await store.backend.inspect.jobs.delete([Target(ref("deleted"))])
    purge = Purge("work", states=frozenset({State.READY, State.SCHEDULED}))
    after = None
    while True:
        _, after = await store.backend.control.queues.purge(purge, 100, after)
        if after is None:
            break
    # What was deleted leaves nothing, as if it had never been enqueued.
    found = await finished(store)
    assert [(job.ref.id, job.state) for job in found] == [
        ("late", State.CANCELLED),
        ("purged", State.CANCELLED),
    ]


async def test_a_job_that_its_schedule_has_cancelled(store: Store, schedules: Schedules) -> None:
    _, name = await earlier(store, schedules, runs=False)
    record = await one(schedules)
    await fire(schedules, firing(record, overlap=Overlap.CANCEL_RUNNING))
    found = await finished(store)
    assert [(job.ref.id, job.state) for job in found] == [(name, State.CANCELLED)]
