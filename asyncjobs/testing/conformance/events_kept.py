"""Events for jobs: what is seen of a wait, and for how long events are kept."""

from __future__ import annotations

from dataclasses import replace

import pytest

from asyncjobs.model.awaiting import NewEvent
from asyncjobs.model.clock import new_id
from asyncjobs.model.job import State
from asyncjobs.store.listing import JobQuery
from asyncjobs.store.seam import StoreSettings
from asyncjobs.testing.conformance.events import HOUR_MS, asleep, come, running, send, wait
from asyncjobs.testing.conformance.store import SHORT_S, Store, ids

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def keeps_events(store: Store) -> None:
    if not store.backend.capabilities.events:
        pytest.skip("no capability events")


# What is seen of it


async def test_a_record_says_what_the_job_waits_for(store: Store) -> None:
    worker = await store.worker()
    await asleep(store, worker)
    await asleep(store, worker, "b", key="")
    await store.enqueue("c", delay_ms=10)
    record = await store.look("a")
    assert (record.held_by, record.due_ms) == ("event paid:7", store.clock.ms + HOUR_MS)
    assert (await store.look("b")).held_by == "event paid"
    assert (await store.look("c")).held_by is None
    page = await store.backend.inspect.jobs.page(JobQuery(State.SCHEDULED))
    seen = {listed.record.ref.id: listed.record.held_by for listed in page.jobs}
    assert seen == {"a": "event paid:7", "b": "event paid", "c": None}
    await send(store)
    assert (await store.look("a")).held_by is None


async def test_a_paused_queue_wakes_its_jobs_and_hands_none_out(store: Store) -> None:
    worker = await store.worker()
    await asleep(store, worker)
    await store.backend.control.queues.pause(["work"], None, b"{}")
    assert (await send(store)).woken == 1
    assert await store.state("a") is State.READY
    assert not await worker.take()
    await store.backend.control.queues.resume(["work"], None)
    assert ids(await worker.take()) == ["a"]


async def test_who_waits_signals_nobody(store: Store) -> None:
    worker = await store.worker()
    await asleep(store, worker)
    await worker.settle_signals()
    await send(store, key="other")
    assert await worker.signalled(SHORT_S) == []


# What is kept


class TestKeptEvents:
    """Events are kept for a time, and the oldest go when there are too many."""

    @pytest.fixture
    def new_settings(self) -> StoreSettings:
        return StoreSettings(
            prefix=f"test-{new_id()}", event_ttl_ms=1_000, event_max_count=3, event_max_bytes=2_000
        )

    async def test_they_go_after_their_time(self, store: Store) -> None:
        worker = await store.worker()
        job = await running(store, worker)
        await send(store)
        store.clock.ms += 1_001
        answer = await wait(worker, job)
        assert answer is not None
        assert answer.how == "waits"

    async def test_they_stay_until_then(self, store: Store) -> None:
        worker = await store.worker()
        job = await running(store, worker)
        sent = await send(store)
        store.clock.ms += 999
        await send(store, key="other")
        assert await wait(worker, job) == come(sent)

    async def test_the_oldest_go_when_they_are_too_many(self, store: Store) -> None:
        worker = await store.worker()
        job = await running(store, worker)
        sent = [await send(store, b"%d" % n) for n in range(5)]
        assert await wait(worker, job) == come(sent[2], b"2")

    async def test_the_oldest_go_when_they_are_too_large(self, store: Store) -> None:
        worker = await store.worker()
        job = await running(store, worker)
        await send(store, bytes(900))
        sent = await send(store, bytes(901))
        await send(store, bytes(902))
        assert await wait(worker, job) == come(sent, bytes(901))

    async def test_the_newest_stays_however_large(self, store: Store) -> None:
        worker = await store.worker()
        job = await running(store, worker)
        sent = await send(store, bytes(3_000))
        assert await wait(worker, job) == come(sent, bytes(3_000))


async def test_a_clock_that_was_set_back_keeps_the_order(store: Store) -> None:
    worker = await store.worker()
    job = await running(store, worker)
    first = await send(store, b"1")
    store.clock.ms -= 60_000
    second = await send(store, b"2")
    assert second.id > first.id
    assert await wait(worker, job) == come(first, b"1")
    assert await wait(worker, job, note="second", after=first.id) == come(second, b"2")


async def test_an_event_for_a_queue_that_nobody_uses(store: Store) -> None:
    answer = await store.backend.send_event(NewEvent("paid", "", b"1"), ["nobody"])
    assert answer.by_queue["nobody"].woken == 0
    assert "nobody" not in await store.backend.inspect.queues.names()


async def test_an_event_that_is_sent_again_is_one(store: Store) -> None:
    """Its reply was lost. One without a token, or with another one, is another event."""
    worker = await store.worker()
    job = await running(store, worker)
    event = NewEvent("paid", "7", b"1", "token")
    one = (await store.backend.send_event(event, ["work"])).by_queue["work"]
    assert (await store.backend.send_event(event, ["work"])).by_queue["work"].id == one.id
    assert await wait(worker, job) == come(one)
    two = (await store.backend.send_event(event._replace(token="2"), ["work"])).by_queue["work"]
    assert await wait(worker, job, note="second", after=one.id) == come(two)
    three = await send(store)
    assert (await send(store)).id > three.id > two.id


async def test_an_event_that_is_sent_again_wakes_those_that_wait_meanwhile(store: Store) -> None:
    worker = await store.worker()
    await asleep(store, worker)
    event = NewEvent("paid", "7", b"1", "token")
    assert (await store.backend.send_event(event, ["work"])).by_queue["work"].woken == 1
    assert (await store.backend.send_event(event, ["work"])).by_queue["work"].woken == 0


async def test_each_event_is_kept_for_its_own_time(store: Store) -> None:
    """Programs with other settings may send to the same queue."""
    worker = await store.worker()
    job = await running(store, worker)
    sent = await send(store)
    short = store.make(replace(store.settings, event_ttl_ms=1), store.clock)
    await short.open()
    store.clock.ms += 1_000
    await short.send_event(NewEvent("other", "", b"x"), ["work"])
    await short.close()
    assert await wait(worker, job) == come(sent)
