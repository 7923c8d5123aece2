"""Events that jobs wait for: found once each, in the step that puts the job to sleep, too."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from asyncjobs.model.awaiting import Awaited, EventWait, NewEvent, Sent
from asyncjobs.model.job import State, TakenJob
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.changes import Changed, Target
from asyncjobs.store.control import Purge
from asyncjobs.store.letters import LetterQuery, Revival, Revived
from asyncjobs.testing.conformance.store import LIMIT_S, Store, Worker, ids, ref

pytestmark = pytest.mark.anyio

HOUR_MS = 3_600_000


@pytest.fixture(autouse=True)
def needs_events(store: Store) -> None:
    if not store.backend.capabilities.events:
        pytest.skip("no capability events")


async def send(store: Store, value: bytes = b"1", key: str = "7", name: str = "paid") -> Sent:
    answer = await store.backend.send_event(NewEvent(name, key, value), ["work"])
    assert not answer.refused
    return answer.by_queue["work"]


async def wait(
    worker: Worker,
    job: TakenJob,
    *,
    key: str = "7",
    name: str = "paid",
    note: str = "first",
    after: str = "0000000000000",
    timeout_ms: int = HOUR_MS,
) -> Awaited | None:
    asked = EventWait(job, name, key, note, after, timeout_ms, b"nobody")
    (answer,) = await worker.lease.await_events([asked])
    return answer


async def running(store: Store, worker: Worker, id: str = "a") -> TakenJob:
    await store.enqueue(id)
    return await worker.take_one()


async def asleep(store: Store, worker: Worker, id: str = "a", key: str = "7") -> TakenJob:
    """A job that waits for the event `paid` with this key, and holds no slot."""
    job = await running(store, worker, id)
    answer = await wait(worker, job, key=key)
    assert answer is not None
    assert answer.how == "waits"
    await worker.exchange(Settlement.waiting(job, b"again", HOUR_MS))
    assert await store.state(id) is State.SCHEDULED
    return job


async def notes(worker: Worker, job: TakenJob) -> dict[str, bytes]:
    (found,) = await worker.lease.notes([job])
    assert found is not None
    return found


def come(sent: Sent, value: bytes = b"1") -> Awaited:
    return Awaited("come", sent.id.encode() + b" " + value)


# It comes before, while, and after the job falls asleep


async def test_an_event_wakes_a_job_that_sleeps(store: Store) -> None:
    worker = await store.worker()
    await asleep(store, worker)
    await worker.settle_signals()
    store.clock.ms += 5
    sent = await send(store, b"42")
    assert sent.woken == 1
    assert await worker.signalled(LIMIT_S) == ["work"]
    job = await worker.take_one()
    assert (job.id, job.envelope, job.crashes) == ("a", b"again", 0)
    assert await wait(worker, job) == come(sent, b"42")


async def test_an_event_that_came_before_the_wait_is_found(store: Store) -> None:
    worker = await store.worker()
    job = await running(store, worker)
    sent = await send(store, b"\xff\0 x")
    assert sent.woken == 0
    assert await wait(worker, job) == come(sent, b"\xff\0 x")


async def test_an_event_between_the_wait_and_the_sleep_makes_the_job_due(store: Store) -> None:
    worker = await store.worker()
    job = await running(store, worker)
    answer = await wait(worker, job)
    assert answer == Awaited("waits", until_ms=store.clock.ms + HOUR_MS, left_ms=HOUR_MS)
    sent = await send(store)
    assert sent.woken == 1
    exchange = await worker.exchange(Settlement.waiting(job, b"again", HOUR_MS), demand=1)
    assert ids(exchange.jobs) == ["a"]
    assert await wait(worker, exchange.jobs[0]) == come(sent)


async def test_a_wait_that_nobody_has_noted_makes_the_job_due(store: Store) -> None:
    worker = await store.worker()
    job = await running(store, worker)
    exchange = await worker.exchange(Settlement.waiting(job, b"again", HOUR_MS), demand=1)
    assert ids(exchange.jobs) == ["a"]


async def test_a_retry_keeps_its_delay_although_the_event_has_come(store: Store) -> None:
    worker = await store.worker()
    job = await running(store, worker)
    await wait(worker, job)
    await send(store)
    exchange = await worker.exchange(Settlement.reschedule(job, b"again", HOUR_MS), demand=1)
    assert not exchange.jobs
    assert (await store.look("a")).due_ms == store.clock.ms + HOUR_MS


async def test_an_old_event_does_not_count(store: Store) -> None:
    worker = await store.worker()
    await send(store, b"old")
    store.clock.ms += 1
    job = await running(store, worker)
    answer = await wait(worker, job, after=f"{store.clock.ms:013d}")
    assert answer is not None
    assert answer.how == "waits"
    sent = await send(store, b"new")
    assert sent.woken == 1
    assert await wait(worker, job) == come(sent, b"new")


# Each wait gets one, and each one all who wait


async def test_one_event_wakes_all_that_wait_for_it_and_no_other(store: Store) -> None:
    worker = await store.worker()
    for id, key in (("a", "7"), ("b", "7"), ("c", "70"), ("d", "")):
        await asleep(store, worker, id, key)
    sent = await send(store)
    assert sent.woken == 2
    assert sorted(ids(await worker.take())) == ["a", "b"]
    assert await store.state("c") is State.SCHEDULED
    assert (await send(store, name="pai", key="d7")).woken == 0
    assert (await send(store, key="")).woken == 1
    assert ids(await worker.take()) == ["d"]


async def test_a_second_event_is_for_the_second_wait(store: Store) -> None:
    worker = await store.worker()
    job = await running(store, worker)
    one, two = await send(store, b"1"), await send(store, b"2")
    assert await wait(worker, job) == come(one, b"1")
    assert await wait(worker, job, note="second", after=one.id) == come(two, b"2")
    answer = await wait(worker, job, note="third", after=two.id)
    assert answer is not None
    assert answer.how == "waits"
    three = await send(store, b"3")
    assert three.woken == 1
    assert await wait(worker, job, note="third", after=two.id) == come(three, b"3")
    assert sorted(await notes(worker, job)) == ["first", "second", "third"]


async def test_a_second_event_does_not_replace_the_first(store: Store) -> None:
    worker = await store.worker()
    await asleep(store, worker)
    first = await send(store, b"1")
    assert (await send(store, b"2")).woken == 0
    job = await worker.take_one()
    assert await wait(worker, job) == come(first, b"1")


async def test_who_asks_again_has_the_same_answer(store: Store) -> None:
    worker = await store.worker()
    job = await running(store, worker)
    sent = await send(store)
    assert await wait(worker, job) == come(sent)
    # Also when nobody keeps the event any more.
    store.clock.ms += store.settings.event_ttl_ms + 1
    assert await wait(worker, job) == come(sent)
    later = await store.worker()
    await store.end_leases(later)
    assert await wait(later, await later.take_one()) == come(sent)


async def test_many_waits_in_one_call(store: Store) -> None:
    worker = await store.worker()
    await store.enqueue(*(f"n{n:04d}" for n in range(1_100)))
    jobs = [*await worker.take(600), *await worker.take(600)]
    asked = [EventWait(job, "paid", "7", "n", "0", HOUR_MS, b"") for job in jobs]
    assert {answer and answer.how for answer in await worker.lease.await_events(asked)} == {"waits"}
    await worker.exchange(*(Settlement.waiting(job, b"again", HOUR_MS) for job in jobs))
    assert (await send(store, b"x")).woken == 1_100
    taken = [*await worker.take(600), *await worker.take(600)]
    assert sorted(ids(taken)) == sorted(ids(jobs))
    assert (await send(store)).woken == 0


async def test_large_values_for_many_jobs(store: Store) -> None:
    worker = await store.worker()
    for number in range(80):
        await asleep(store, worker, f"n{number}")
    value = bytes(65_536)
    sent = await send(store, value)
    assert sent.woken == 80
    jobs = await worker.take()
    assert len(jobs) == 80
    assert await wait(worker, jobs[-1]) == come(sent, value)


async def test_no_waits(store: Store) -> None:
    worker = await store.worker()
    assert await worker.lease.await_events([]) == []
    assert (await store.backend.send_event(NewEvent("paid", "", b""), [])).by_queue == {}


async def test_each_queue_keeps_its_own(store: Store) -> None:
    worker = await store.worker("work", "other")
    await asleep(store, worker)
    answer = await store.backend.send_event(NewEvent("paid", "7", b"1"), ["other", "work"])
    assert {name: sent.woken for name, sent in answer.by_queue.items()} == {"other": 0, "work": 1}
    await store.enqueue("b", queue="other")
    jobs = {job.queue: job for job in await worker.take()}
    assert await wait(worker, jobs["other"]) == come(answer.by_queue["other"])


# The time-out


async def test_a_wait_ends_at_its_time_out(store: Store) -> None:
    worker = await store.worker()
    await asleep(store, worker)
    end_ms = store.clock.ms + HOUR_MS
    await store.pass_time(HOUR_MS - 1, worker)
    assert not await worker.take()
    store.clock.ms = end_ms
    job = await worker.take_one()
    # It has come in time for nobody: the job is ready because of its time-out.
    assert (await send(store)).woken == 0
    assert await wait(worker, job) == Awaited("over", b"nobody")
    assert await wait(worker, job) == Awaited("over", b"nobody")


async def test_an_event_in_the_last_moment_counts(store: Store) -> None:
    worker = await store.worker()
    await asleep(store, worker)
    await store.pass_time(HOUR_MS - 1, worker)
    sent = await send(store)
    assert sent.woken == 1
    store.clock.ms += 1
    assert await wait(worker, await worker.take_one()) == come(sent)


async def test_a_late_event_is_for_the_next_wait(store: Store) -> None:
    worker = await store.worker()
    await asleep(store, worker)
    await store.pass_time(HOUR_MS, worker)
    sent = await send(store)
    job = await worker.take_one()
    assert await wait(worker, job) == Awaited("over", b"nobody")
    assert await wait(worker, job, note="second") == come(sent)


async def test_a_wait_without_time_looks_once(store: Store) -> None:
    worker = await store.worker()
    job = await running(store, worker)
    assert await wait(worker, job, timeout_ms=0) == Awaited("over", b"nobody")
    sent = await send(store)
    assert await wait(worker, job, note="second", timeout_ms=0) == come(sent)


async def test_a_job_that_runs_in_between_waits_on_with_its_old_end(store: Store) -> None:
    worker = await store.worker()
    await asleep(store, worker)
    end_ms = store.clock.ms + HOUR_MS
    store.clock.ms += 1_000
    assert await store.backend.inspect.jobs.run_now([Target(ref("a"))]) == [Changed.DONE]
    job = await worker.take_one()
    assert await wait(worker, job) == Awaited("waits", until_ms=end_ms, left_ms=HOUR_MS - 1_000)


# Whose wait it is


async def test_a_lost_lease_neither_waits_nor_sleeps(store: Store) -> None:
    worker, other = await store.worker(), await store.worker()
    job = await running(store, worker)
    await store.end_leases(other)
    assert await wait(worker, job) is None
    again = await other.take_one()
    assert await wait(worker, job) is None
    assert (await send(store)).woken == 0
    late = await worker.exchange(Settlement.waiting(job, b"late", HOUR_MS))
    assert late.lost == ("work",)
    assert (await store.look("a")).envelope == b"a"
    await other.exchange(Settlement.succeeded(again))


async def test_a_job_that_was_given_back_does_not_wait(store: Store) -> None:
    worker = await store.worker()
    job = await running(store, worker)
    await worker.exchange(Settlement.release(job))
    assert await wait(worker, job) is None
    assert (await send(store)).woken == 0


async def test_a_wait_outlives_the_worker_that_began_it(store: Store) -> None:
    worker, other = await store.worker(), await store.worker()
    job = await running(store, worker)
    await wait(worker, job)
    await store.end_leases(other)
    sent = await send(store)
    assert sent.woken == 1
    assert await wait(other, await other.take_one()) == come(sent)


async def test_a_job_that_waits_for_something_else_waits_for_that_alone(store: Store) -> None:
    worker = await store.worker()
    job = await running(store, worker)
    await wait(worker, job)
    await wait(worker, job, key="8", note="other")
    assert (await send(store)).woken == 0
    assert (await send(store, key="8")).woken == 1


@pytest.mark.parametrize("end", [Settlement.succeeded, Settlement.discarded, Settlement.cancelled])
async def test_a_job_that_ends_waits_no_more(
    store: Store, end: Callable[[TakenJob], Settlement]
) -> None:
    worker = await store.worker()
    job = await running(store, worker)
    await wait(worker, job)
    await worker.exchange(end(job))
    assert (await send(store)).woken == 0


async def test_a_job_that_is_cancelled_waits_no_more(store: Store) -> None:
    worker = await store.worker()
    await asleep(store, worker)
    await store.backend.cancel([ref("a")], None, 0)
    assert (await send(store)).woken == 0
    assert await store.state("a") is State.CANCELLED


async def test_a_job_that_is_cancelled_before_it_sleeps_waits_no_more(store: Store) -> None:
    worker = await store.worker()
    job = await running(store, worker)
    await wait(worker, job)
    await store.backend.cancel([ref("a")], None, 0)
    settled = Settlement.waiting(job, b"again", HOUR_MS)
    assert (await worker.exchange(settled)).cancelled == [settled]
    assert (await send(store)).woken == 0
    assert await store.state("a") is State.CANCELLED


@pytest.mark.parametrize("way", ["delete", "purge"])
async def test_a_job_that_is_taken_out_waits_no_more(store: Store, way: str) -> None:
    worker = await store.worker()
    await asleep(store, worker)
    if way == "delete":
        await store.backend.inspect.jobs.delete([Target(ref("a"))])
    else:
        after = None
        while True:
            _, after = await store.backend.control.queues.purge(Purge("work"), 100, after)
            if after is None:
                break
    assert (await send(store)).woken == 0
    await store.pass_time(store.settings.id_ttl_ms * 2 + 1, worker)
    answer = await wait(worker, await running(store, worker), after=f"{store.clock.ms:013d}")
    assert answer is not None
    assert answer.how == "waits"


async def test_a_dead_job_waits_no_more_and_keeps_what_has_come(store: Store) -> None:
    worker = await store.worker()
    job = await running(store, worker)
    sent = await send(store)
    await wait(worker, job)
    await wait(worker, job, key="8", note="second")
    await worker.exchange(Settlement.dead(job, b"{}\n{}"))
    assert (await send(store, key="8")).woken == 0
    (letter,) = (await store.backend.dead.page(LetterQuery("work"))).letters
    assert await store.backend.dead.revive([Revival(letter.key, b"again")]) == [Revived.READY]
    assert (await send(store, key="8")).woken == 0
    again = await worker.take_one()
    assert await wait(worker, again) == come(sent)
    assert sorted(await notes(worker, again)) == ["first"]


async def test_a_job_that_ends_without_its_second_event(store: Store) -> None:
    """Nothing is left of it that a later job under its id would meet."""
    worker = await store.worker()
    job = await running(store, worker)
    await send(store)
    await wait(worker, job)
    await wait(worker, job, key="8", note="second")
    await worker.exchange(Settlement.succeeded(job))
    await store.pass_time(store.settings.id_ttl_ms * 2 + 1, worker)
    assert await notes(worker, await running(store, worker)) == {}
