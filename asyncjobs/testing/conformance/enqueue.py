"""Jobs come in once, and never twice."""

from __future__ import annotations

import pytest

from asyncjobs.model.job import NewJob, State
from asyncjobs.model.refs import JobRef
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.answers import Placed
from asyncjobs.store.seam import EnqueueBatch
from asyncjobs.testing.conformance.store import Store, are_new, eventually, ids

pytestmark = pytest.mark.anyio


async def test_a_new_job_is_ready(store: Store) -> None:
    assert await store.enqueue("a", priority=1) == [True]
    record = await store.look("a")
    assert record.state is State.READY
    assert (record.priority, record.envelope, record.holder) == (1, b"a", None)
    assert (await store.counts()).ready == (0, 1, 0, 0)


async def test_jobs_of_one_priority_keep_their_order(store: Store) -> None:
    await store.enqueue("a", "b", "c")
    await store.enqueue("d", "e")
    assert ids(await (await store.worker()).take()) == ["a", "b", "c", "d", "e"]


async def test_the_envelope_comes_back_byte_by_byte(store: Store) -> None:
    envelope = bytes(range(256))
    await store.backend.enqueue(EnqueueBatch("token", [NewJob("work", "a", 0, envelope)]))
    taken = await (await store.worker()).take_one()
    assert (taken.envelope, taken.priority, taken.crashes) == (envelope, 0, 0)
    assert taken.ready_ms > 0


@pytest.mark.parametrize("id", ["ünïcode ✓", "a b", "a:b/c", "{tag}", "-", "0", "%s", '"'])
async def test_any_text_can_be_an_id_and_a_queue(store: Store, id: str) -> None:
    assert await store.enqueue(id, queue=id) == [True]
    worker = await store.worker(id)
    taken = await worker.take_one()
    assert (taken.queue, taken.id) == (id, id)
    await worker.exchange(Settlement.succeeded(taken))
    assert await store.state(id, id) is State.SUCCEEDED


async def test_an_empty_batch_stores_nothing(store: Store) -> None:
    assert await store.enqueue() == []


@pytest.mark.parametrize("delay_ms", [0, 1000])
async def test_an_id_that_is_queued_is_known(store: Store, delay_ms: int) -> None:
    await store.enqueue("a", delay_ms=delay_ms)
    assert await store.enqueue("a", "b") == [False, True]


async def test_the_first_of_a_batch_wins(store: Store) -> None:
    jobs = [NewJob("work", "a", 2, b"first"), NewJob("work", "a", 0, b"second")]
    answer = await store.backend.enqueue(EnqueueBatch("token", jobs))
    assert answer.places == [None, Placed(JobRef("work", "a"), "there")]
    (taken,) = await (await store.worker()).take()
    assert taken.envelope == b"first"


async def test_an_id_that_runs_is_known(store: Store) -> None:
    await store.enqueue("a")
    await (await store.worker()).take_one()
    assert await store.enqueue("a") == [False]


async def test_ids_are_unique_within_a_queue_only(store: Store) -> None:
    assert await store.enqueue("a", queue="one") == [True]
    assert await store.enqueue("a", queue="two") == [True]


async def test_a_finished_id_stays_known_without_a_result(store: Store) -> None:
    worker = await store.worker()
    await store.enqueue("a")
    await worker.exchange(Settlement.succeeded(await worker.take_one()))
    await store.pass_time(store.settings.id_ttl_ms - 1, worker)
    assert await store.enqueue("a") == [False]
    # Known ids may be kept in buckets, so up to twice as long.
    await store.pass_time(store.settings.id_ttl_ms + 1, worker)
    assert await store.enqueue("a") == [True]
    assert ids(await worker.take()) == ["a"]


async def test_a_batch_sent_again_has_the_same_answer(store: Store) -> None:
    await store.enqueue("b")
    first = await store.enqueue("a", "b", token="once")
    assert first == [True, False]
    assert await store.enqueue("a", "b", token="once") == first
    assert (await store.counts()).ready == (0, 0, 2, 0)


@pytest.mark.parametrize("has_new_id", [False, True])
async def test_a_batch_sent_again_after_its_jobs_have_finished(
    store: Store, has_new_id: bool
) -> None:
    worker = await store.worker()
    batch = EnqueueBatch("once", [NewJob("work", "a", 2, b"a", has_new_id=has_new_id)])
    await store.backend.enqueue(batch)
    await worker.exchange(Settlement.succeeded(await worker.take_one()))
    assert are_new((await store.backend.enqueue(batch)).places) == [True]
    assert await worker.take() == []


async def test_a_lone_new_job_signals_is_found_and_counted(store: Store) -> None:
    job = NewJob("work", "a", 1, b"a", has_new_id=True)
    assert are_new((await store.backend.enqueue(EnqueueBatch("once", [job]))).places) == [True]
    assert await store.state("a") is State.READY
    assert (await store.counts()).ready == (0, 1, 0, 0)
    (flow,) = await store.backend.inspect.queues.flow(["work"])
    assert flow.enqueued == 1
    worker = await store.worker()
    assert await worker.signalled() == ["work"]
    (taken,) = await worker.take()
    assert (taken.id, taken.priority, taken.envelope) == ("a", 1, b"a")
    # A second one of the same minute, and one that a later batch names again.
    other = NewJob("work", "b", 1, b"b", has_new_id=True)
    assert are_new((await store.backend.enqueue(EnqueueBatch("twice", [other]))).places) == [True]
    assert await store.enqueue("b") == [False]


async def test_new_and_given_ids_in_one_batch(store: Store) -> None:
    await store.enqueue("given")
    jobs = [
        NewJob("work", "new", 1, b"new", has_new_id=True),
        NewJob("work", "given", 0, b"again"),
        NewJob("work", "later", 1, b"later", 1_000, has_new_id=True),
    ]
    batch = EnqueueBatch("once", jobs)
    assert are_new((await store.backend.enqueue(batch)).places) == [True, False, True]
    assert are_new((await store.backend.enqueue(batch)).places) == [True, False, True]
    counts = await store.counts()
    assert (counts.ready, counts.scheduled) == ((0, 1, 1, 0), 1)


async def test_a_batch_over_several_queues(store: Store) -> None:
    jobs = [
        NewJob("one", "a", 2, b"1a"),
        NewJob("two", "a", 2, b"2a"),
        NewJob("one", "b", 2, b"1b"),
        NewJob("one", "a", 2, b"again"),
    ]
    batch = EnqueueBatch("token", jobs)
    assert are_new((await store.backend.enqueue(batch)).places) == [True, True, True, False]
    assert are_new((await store.backend.enqueue(batch)).places) == [True, True, True, False]
    worker = await store.worker("one", "two")
    assert {job.envelope for job in await worker.take()} == {b"1a", b"1b", b"2a"}


@pytest.mark.parametrize("by", ["delay", "at"])
async def test_a_scheduled_job_is_taken_when_it_is_due(store: Store, by: str) -> None:
    due = store.clock.ms + 1000
    if by == "delay":
        await store.enqueue("a", delay_ms=1000)
    else:
        await store.enqueue("a", at_ms=due)
    record = await store.look("a")
    assert (record.state, record.due_ms, record.envelope) == (State.SCHEDULED, due, b"a")
    worker = await store.worker()
    store.clock.ms = due - 1
    answer = await worker.exchange(demand=5)
    assert (answer.jobs, answer.next_due_ms) == ([], {"work": due})
    store.clock.ms = due
    answer = await worker.exchange(demand=5)
    assert (ids(answer.jobs), answer.next_due_ms) == (["a"], {"work": None})


async def test_a_time_that_has_passed_means_now(store: Store) -> None:
    await store.enqueue("past", at_ms=store.clock.ms - 1)
    await store.enqueue("now", at_ms=store.clock.ms)
    assert ids(await (await store.worker()).take()) == ["past", "now"]


async def test_due_jobs_come_in_the_order_of_their_times(store: Store) -> None:
    for delay_ms, id in ((300, "c"), (100, "a"), (200, "b")):
        await store.enqueue(id, delay_ms=delay_ms)
    worker = await store.worker()
    store.clock.ms += 300
    assert ids(await worker.take()) == ["a", "b", "c"]


async def test_a_scheduled_job_keeps_its_priority(store: Store) -> None:
    await store.enqueue("low", priority=3)
    await store.enqueue("critical", priority=0, delay_ms=100)
    store.clock.ms += 100
    assert ids(await (await store.worker()).take()) == ["critical", "low"]


async def test_thousands_of_jobs_in_one_batch(store: Store) -> None:
    names = [f"job-{number}" for number in range(5000)]
    assert await store.enqueue(*names) == [True] * 5000
    assert await store.enqueue(*names) == [False] * 5000
    assert (await store.counts()).ready == (0, 0, 5000, 0)


async def test_more_jobs_become_due_than_one_exchange_promotes(store: Store) -> None:
    names = [f"job-{number}" for number in range(250)]
    await store.enqueue(*names, delay_ms=10)
    worker = await store.worker()
    store.clock.ms += 10
    answer = await worker.exchange(demand=1)
    assert len(answer.jobs) == 1
    # What is still to be promoted shows as due, so the caller knows to come back.
    counts = await store.counts()
    assert counts.scheduled + sum(counts.ready) == 249
    assert counts.scheduled == 0 or answer.next_due_ms["work"] == store.clock.ms
    seen = ids(answer.jobs)
    for _ in range(5):
        seen += ids(await worker.take(100))
    assert sorted(seen) == sorted(names)


async def test_one_exchange_promotes_a_bounded_number(store: Store) -> None:
    # A day's worth of jobs promoted at once would keep the server from everybody else.
    names = [f"job-{number}" for number in range(250)]
    await store.enqueue(*names, delay_ms=10)
    worker = await store.worker()
    store.clock.ms += 10
    for slots, promoted in ((1, 100), (120, 220), (1, 250)):
        assert len(await worker.take(slots)) == slots
        counts = await store.counts()
        assert counts.scheduled == 250 - promoted


async def test_an_exchange_says_how_many_jobs_it_promoted(store: Store) -> None:
    await store.enqueue("a", "b", "c", delay_ms=10)
    await store.enqueue("later", delay_ms=20)
    await store.enqueue("other", queue="mail", delay_ms=10)
    await store.enqueue("now", queue="idle")
    worker = await store.worker("work", "mail", "idle")
    assert (await worker.exchange(demand=1)).promoted == ()
    store.clock.ms += 10
    assert dict((await worker.exchange(demand=1)).promoted) == {"work": 3, "mail": 1}
    assert (await worker.exchange(demand=1)).promoted == ()
    store.clock.ms += 10
    assert (await worker.exchange(demand=0)).promoted == (("work", 1),)


async def test_a_retry_that_is_due_at_once_is_promoted_by_its_own_exchange(store: Store) -> None:
    await store.enqueue("a")
    worker = await store.worker()
    (job,) = await worker.take(1)
    answer = await worker.exchange(Settlement.reschedule(job, b"again", 0), demand=1)
    assert answer.promoted == (("work", 1),)
    assert ids(answer.jobs) == ["a"]


async def test_the_clock_of_the_store_rules_when_none_is_given(store: Store) -> None:
    backend = store.make(store.settings, None)
    await backend.open()
    try:
        unpinned = Store(backend, store.clock, store.settings, store.make)
        await unpinned.enqueue("later", queue="unpinned", delay_ms=50)
        worker = await unpinned.worker("unpinned")
        seen: list[str] = []

        async def taken() -> bool:
            seen.extend(ids(await worker.take()))
            return seen == ["later"]

        await eventually(taken)
        await worker.lease.leave()
    finally:
        await backend.close()


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize(("token_ttl_ms", "is_kept"), [(3_600_000, True), (1, False)])
async def test_a_token_with_a_time_of_its_own(
    store: Store, number: int, token_ttl_ms: int, is_kept: bool
) -> None:
    """A token that is kept for longer protects a batch that is sent again late."""
    jobs = [NewJob("work", f"j{n}", 2, b"{}", has_new_id=True) for n in range(number)]
    batch = EnqueueBatch("late", jobs, token_ttl_ms=token_ttl_ms)
    worker = await store.worker()
    await store.backend.enqueue(batch)
    await worker.exchange(*map(Settlement.succeeded, await worker.take()))
    # Longer than ids are known, so only the token is left.
    await store.pass_time(store.settings.id_ttl_ms * 2 + 1, worker)
    assert are_new((await store.backend.enqueue(batch)).places) == [True] * number
    assert len(await worker.take()) == (0 if is_kept else number)
