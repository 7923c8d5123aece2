from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, cast

import pytest

from asyncjobs.client import Client, batcher, space
from asyncjobs.errors import NotOpen, PayloadTooLarge, StoreError, StoreFull, StoreUnavailable
from asyncjobs.events import Event, Events, JobEnqueued
from asyncjobs.model.job import NewJob
from asyncjobs.model.refs import JobRef
from asyncjobs.options.app import AppSettings
from asyncjobs.store.answers import Enqueued, Placed
from asyncjobs.store.seam import Backend, Capabilities, EnqueueBatch
from tests.tasks import every_task

pytestmark = pytest.mark.anyio

LIMIT_S = 20


def job(id: str, queue: str = "default", size: int = 1) -> NewJob:
    return NewJob(queue, id, 2, b"x" * size)


class FakeStore:
    """Keeps the batches it is sent. `gate` holds them up, as do so many `turns` of the loop;
    `answers` replaces the next answers: an exception to raise, or None for a normal answer."""

    address = "fake:"
    capabilities: Capabilities

    def __init__(self) -> None:
        self.batches: list[EnqueueBatch] = []
        self.ids: set[str] = set()
        self.gate = asyncio.Event()
        self.gate.set()
        self.sent = asyncio.Event()
        self.answers: list[Exception | None] = []
        self.refused: dict[str, StoreError] = {}
        self.turns = 0

    async def enqueue(self, batch: EnqueueBatch) -> Enqueued:
        self.batches.append(batch)
        self.sent.set()
        await self.gate.wait()
        for _ in range(self.turns):
            await asyncio.sleep(0)
        error = self.answers.pop(0) if self.answers else None
        if isinstance(error, StoreFull):
            queues = {one.queue for one in batch.jobs}
            return Enqueued([None] * len(batch.jobs), dict.fromkeys(queues, error))
        if error is not None:
            raise error
        places = []
        for one in batch.jobs:
            places.append(Placed(one.ref, "there") if one.id in self.ids else None)
            if one.queue not in self.refused:
                self.ids.add(one.id)
        return Enqueued(places, self.refused)

    def sizes(self) -> list[int]:
        return [len(batch.jobs) for batch in self.batches]


@asynccontextmanager
async def opened(**settings: Any) -> AsyncIterator[tuple[Client, FakeStore]]:
    store = FakeStore()
    client = Client(cast(Backend, store), AppSettings.of(**settings), Events())
    async with asyncio.timeout(LIMIT_S):
        try:
            yield client, store
        finally:
            store.gate.set()
            await client.close()


def start(*calls: Awaitable[Any]) -> list[asyncio.Future[Any]]:
    return [asyncio.ensure_future(call) for call in calls]


async def settled(check: Callable[[], bool]) -> None:
    """Let the loop turn until a fact holds."""
    async with asyncio.timeout(LIMIT_S):
        while not check():
            await asyncio.sleep(0)


def senders() -> list[asyncio.Task[Any]]:
    return [task for task in every_task() if task.get_name() == "asyncjobs enqueue"]


async def test_concurrent_enqueues_of_one_turn_are_one_batch_of_all_queues() -> None:
    async with opened() as (client, store):
        answers = await asyncio.gather(
            *(client.enqueue(job(str(n), f"q{n % 3}"), "f") for n in range(100)),
            client.enqueue(job("0", "q0"), "f"),
        )
        assert answers == [*[None] * 100, Placed(JobRef("q0", "0"), "there")]
        assert store.sizes() == [101]
        assert client.queues == {"q0", "q1", "q2"}


async def test_a_lone_caller_is_sent_in_the_next_turn_of_the_loop_in_no_other_task() -> None:
    async with opened() as (client, store):
        task = asyncio.create_task(client.enqueue(job("1"), "f"))
        for _ in range(2):
            await asyncio.sleep(0)
        assert store.sizes() == [1]
        assert not senders()
        assert await task is None


async def test_callers_who_come_after_a_lone_one_still_go_together() -> None:
    async with opened() as (client, store):
        for number in range(2):
            await client.enqueue(job(f"lone {number}"), "f")
            await asyncio.gather(*(client.enqueue(job(f"{number}-{n}"), "f") for n in range(9)))
        assert store.sizes() == [1, 9, 1, 9]
        assert [one.id for one in store.batches[1].jobs] == [f"0-{n}" for n in range(9)]


async def test_half_of_many_callers_get_a_lead_so_that_a_batch_is_always_on_its_way() -> None:
    async with opened() as (client, store):
        store.turns = 5
        order: list[str] = []

        async def caller(number: int) -> None:
            for turn in range(3):
                assert await client.enqueue(job(f"{number}-{turn}"), "f") is None
                order.append(f"{turn} after {len(store.batches)}")

        await asyncio.gather(*(caller(number) for number in range(32)))
        # The first half is answered alone; the second one only once the next batch is sent.
        assert store.sizes() == [32, 16, 16, 16, 16]
        assert order[:32] == ["0 after 1"] * 16 + ["0 after 2"] * 16


async def test_few_callers_are_answered_together() -> None:
    async with opened() as (client, store):

        async def caller(number: int) -> None:
            for turn in range(2):
                assert await client.enqueue(job(f"{number}-{turn}"), "f") is None

        await asyncio.gather(*(caller(number) for number in range(15)))
        assert store.sizes() == [15, 15]


async def test_callers_who_have_no_lead_get_their_answer_when_the_client_closes() -> None:
    async with opened() as (client, store):
        store.gate.clear()
        tasks = start(*(client.enqueue(job(str(number)), "f") for number in range(32)))
        await store.sent.wait()
        (sender,) = senders()
        store.gate.set()
        await settled(lambda: any(task.done() for task in tasks))
        sender.cancel()
        assert await asyncio.gather(*tasks) == [None] * 32


async def test_what_comes_while_a_batch_is_in_flight_becomes_the_next_batch() -> None:
    async with opened() as (client, store):
        store.gate.clear()
        tasks = start(client.enqueue(job("1"), "f"))
        await store.sent.wait()
        for n in range(2, 30):
            tasks += start(client.enqueue(job(str(n)), "f"))
            await asyncio.sleep(0)
        assert store.sizes() == [1]
        store.gate.set()
        assert await asyncio.gather(*tasks) == [None] * 29
        assert store.sizes() == [1, 28]


async def test_nothing_is_left_running_when_idle() -> None:
    async with opened() as (client, _):
        await client.enqueue(job("1"), "f")
        await asyncio.gather(*(client.enqueue(job(str(n)), "f") for n in range(2, 4)))
        await settled(lambda: not senders())
        # One timer for many calls: when it goes off and nobody waits, it is not set anew.
        assert client._alarm.timer is not None
        client._alarm.timer.cancel()
        client._alarm.go_off()
        assert client._alarm.timer is None


async def test_batches_are_bounded_in_jobs_and_bytes() -> None:
    async with opened() as (client, store):
        await asyncio.gather(*(client.enqueue(job(str(n)), "f") for n in range(2_500)))
        assert store.sizes() == [1_000, 1_000, 500]
        store.batches.clear()
        big = [job(f"b{n}", size=1 << 20) for n in range(9)]
        await asyncio.gather(*(client.enqueue(one, "f") for one in big))
        assert store.sizes() == [4, 4, 1]


async def test_many_go_in_chunks_in_their_order() -> None:
    async with opened() as (client, store):
        jobs = [job(str(n)) for n in range(2_500)] + [job("7"), job("new")]
        answers = await client.enqueue_many(jobs, ["f"] * len(jobs))
        assert store.sizes() == [1_000, 1_000, 502]
        there = Placed(JobRef("default", "7"), "there")
        assert answers == [None] * 2_500 + [there, None]
        assert await client.enqueue_many([], []) == []


async def test_enqueue_waits_for_space(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space, "MAX_WAITING_JOBS", 10)
    monkeypatch.setattr(batcher, "MAX_BATCH_JOBS", 5)
    async with opened() as (client, store):
        store.gate.clear()
        tasks = start(client.enqueue(job("first"), "f"))
        await store.sent.wait()
        tasks += start(*(client.enqueue(job(str(n)), "f") for n in range(40)))
        await settled(lambda: len(client._batcher.space.turns) == 30)
        assert client._batcher.space.jobs == 10
        for task in tasks[20:25]:
            task.cancel()
        store.gate.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert answers.count(None) == 36
        assert len(store.ids) == 36
        assert max(store.sizes()) == 5


async def test_space_is_counted_in_bytes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space, "MAX_WAITING_BYTES", 1_000)
    async with opened() as (client, store):
        store.gate.clear()
        tasks = start(client.enqueue(job("first"), "f"))
        await store.sent.wait()
        tasks += start(*(client.enqueue(job(str(n), size=600), "f") for n in range(4)))
        await settled(lambda: len(client._batcher.space.turns) == 2)
        store.gate.set()
        assert await asyncio.gather(*tasks) == [None] * 5


async def test_a_caller_who_leaves_takes_nobody_with_him() -> None:
    async with opened() as (client, store):
        store.gate.clear()
        in_flight = start(*(client.enqueue(job(f"a{n}"), "f") for n in range(3)))
        await store.sent.wait()
        waiting = start(*(client.enqueue(job(f"b{n}"), "f") for n in range(3)))
        await settled(lambda: client._batcher.space.jobs == 3)
        in_flight[1].cancel()
        waiting[1].cancel()
        store.gate.set()
        answers = await asyncio.gather(*in_flight, *waiting, return_exceptions=True)
        assert answers.count(None) == 4
        # In flight it may be stored; what was not sent yet is not sent any more.
        assert store.ids == {"a0", "a1", "a2", "b0", "b2"}


async def test_a_failed_batch_fails_its_own_callers_each_with_an_error_of_its_own() -> None:
    async with opened() as (client, store):
        store.gate.clear()
        store.answers = [StoreFull("no memory"), None]
        first = start(*(client.enqueue(job(f"a{n}"), "f") for n in range(3)))
        await store.sent.wait()
        second = start(*(client.enqueue(job(f"b{n}"), "f") for n in range(3)))
        await settled(lambda: client._batcher.space.jobs == 3)
        store.gate.set()
        errors = await asyncio.gather(*first, return_exceptions=True)
        assert [str(error) for error in errors] == ["no memory"] * 3
        assert len({id(error) for error in errors}) == 3
        assert all(isinstance(error, StoreFull) for error in errors)
        assert await asyncio.gather(*second) == [None] * 3
        assert store.sizes() == [3, 3]


async def test_an_error_of_the_backend_itself_reaches_the_callers() -> None:
    async with opened() as (client, store):
        store.answers = [ZeroDivisionError("a bug")]
        with pytest.raises(ZeroDivisionError, match="a bug"):
            await client.enqueue(job("1"), "f")
        assert await client.enqueue(job("1"), "f") is None


async def test_an_unavailable_store_is_sent_the_same_batch_again() -> None:
    async with opened() as (client, store):
        store.answers = [StoreUnavailable("down")] * 3
        assert await client.enqueue(job("1"), "f") is None
        assert store.sizes() == [1] * 4
        assert len({batch.token for batch in store.batches}) == 1
        assert await client.enqueue(job("2"), "f") is None
        assert store.batches[-1].token != store.batches[0].token


async def test_a_full_store_after_an_unsure_try_is_no_refusal() -> None:
    async with opened() as (client, store):
        store.answers = [StoreUnavailable("the reply was lost"), StoreFull("it is full")]
        with pytest.raises(StoreUnavailable, match="same job ids"):
            await client.enqueue(job("1"), "f")
        store.answers = [StoreFull("it is full")]
        with pytest.raises(StoreFull):
            await client.enqueue(job("2"), "f")


async def test_after_connect_timeout_the_caller_learns_that_it_may_be_stored() -> None:
    async with opened(connect_timeout=0.05) as (client, store):
        store.answers = [StoreUnavailable("connection refused")] * 1_000
        with pytest.raises(StoreUnavailable) as caught:
            await client.enqueue(job("1"), "f")
        text = str(caught.value)
        for part in ("fake:", "0.05 s", "connection refused", "may be stored", "job ids"):
            assert part in text
        assert isinstance(caught.value.__cause__, StoreUnavailable)


async def test_a_store_that_says_nothing_is_given_up_too_also_by_those_who_wait() -> None:
    async with opened(connect_timeout=0.05) as (client, store):
        store.gate.clear()
        tasks = start(client.enqueue(job("1"), "f"))
        await store.sent.wait()
        tasks += start(*(client.enqueue(job(str(n)), "f") for n in range(3)))
        errors = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(error, StoreUnavailable) for error in errors)
        assert len({id(error) for error in errors}) == 4
        # The store comes back: nobody waits for the given-up jobs, new ones go.
        late = start(client.enqueue(job("late"), "f"))
        store.gate.set()
        assert await asyncio.gather(*late) == [None]


async def test_each_caller_has_a_time_of_its_own() -> None:
    async with opened() as (client, store):
        store.answers = [StoreUnavailable("down")] * 1_000
        early = start(*(client.enqueue(job(f"early {n}"), "f") for n in range(2)))
        await store.sent.wait()
        late = start(client.enqueue(job("late"), "f"))
        await settled(lambda: client._batcher.space.jobs == 1)
        for call in client._batcher.in_flight:
            call.deadline_s = client.loop.time()
        client._alarm.go_off()
        for caller in early:
            with pytest.raises(StoreUnavailable, match="did not confirm"):
                await caller
        assert not late[0].done()
        store.answers.clear()
        assert await late[0] is None
        assert store.ids == {"late"}


async def test_a_lone_caller_is_given_up_too_and_those_behind_get_a_try() -> None:
    async with opened() as (client, store):
        store.answers = [StoreUnavailable("down")] * 1_000
        early = start(client.enqueue(job("early"), "f"))
        await store.sent.wait()
        late = start(*(client.enqueue(job(f"late {n}"), "f") for n in range(2)))
        await settled(lambda: client._batcher.space.jobs == 2)
        assert client._lone.current is not None
        client._lone.current.deadline_s = client.loop.time()
        client._alarm.go_off()
        with pytest.raises(StoreUnavailable, match="did not confirm"):
            await early[0]
        assert not any(task.done() for task in late)
        store.answers.clear()
        assert await asyncio.gather(*late) == [None, None]
        assert "early" not in store.ids


async def test_time_that_is_over_is_no_cancellation_of_the_caller() -> None:
    async with opened(connect_timeout=0.05) as (client, store):
        store.gate.clear()

        async def caller() -> int:
            with pytest.raises(StoreUnavailable):
                await client.enqueue(job("1"), "f")
            task = asyncio.current_task()
            assert task is not None
            return task.cancelling()

        assert await asyncio.create_task(caller()) == 0
        # A caller who is cancelled is, whatever else ends at the same time.
        task = asyncio.create_task(client.enqueue(job("2"), "f"))
        await settled(lambda: len(store.batches) == 2)
        assert client._lone.current is not None
        client._lone.current.deadline_s = client.loop.time()
        client._alarm.go_off()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_lone_caller_who_leaves_takes_nobody_with_him() -> None:
    async with opened() as (client, store):
        store.gate.clear()
        lone = start(client.enqueue(job("1"), "f"))
        await store.sent.wait()
        others = start(*(client.enqueue(job(str(n)), "f") for n in range(2, 5)))
        await settled(lambda: client._batcher.space.jobs == 3)
        lone[0].cancel()
        store.gate.set()
        assert await asyncio.gather(*others) == [None] * 3
        assert lone[0].cancelled()
        # Also one who leaves in the very turn in which the others have come.
        lone = start(client.enqueue(job("5"), "f"))
        await asyncio.sleep(0)
        others = start(client.enqueue(job("6"), "f"))
        lone[0].cancel()
        assert await asyncio.gather(*others) == [None]
        assert lone[0].cancelled()


async def test_a_payload_that_is_too_large_is_refused_before_anything_is_stored() -> None:
    async with opened(max_payload=1_000) as (client, store):
        large = job("2", size=1_001)
        with pytest.raises(PayloadTooLarge) as caught:
            await client.enqueue(large, "mail.send")
        for part in ("mail.send", "1,001", "1,000", "max_payload"):
            assert part in str(caught.value)
        with pytest.raises(PayloadTooLarge):
            await client.enqueue_many([job("1"), large], ["f", "f"])
        assert store.batches == []
        assert await client.enqueue(job("3", size=1_000), "f") is None


async def test_close_sends_what_waits_and_refuses_what_comes() -> None:
    async with opened() as (client, store):
        store.gate.clear()
        tasks = start(*(client.enqueue(job(str(n)), "f") for n in range(1_500)))
        await store.sent.wait()
        closing = asyncio.create_task(client.close())
        await asyncio.sleep(0)
        store.gate.set()
        await closing
        assert await asyncio.gather(*tasks) == [None] * 1_500
        with pytest.raises(NotOpen):
            await client.enqueue(job("late"), "f")


async def test_close_ends_also_when_the_store_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space, "MAX_WAITING_JOBS", 2)
    async with opened(connect_timeout=0.05) as (client, store):
        store.gate.clear()
        tasks = start(*(client.enqueue(job(str(n)), "f") for n in range(10)))
        await store.sent.wait()
        await client.close()
        errors = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(error) for error in errors} <= {NotOpen, StoreUnavailable}
        assert not senders()


async def test_a_cancelled_sender_leaves_nobody_waiting() -> None:
    async with opened() as (client, store):
        store.gate.clear()
        tasks = start(*(client.enqueue(job(str(n)), "f") for n in range(3)))
        await store.sent.wait()
        assert client._batcher.flusher is not None
        client._batcher.flusher.cancel()
        errors = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(error) for error in errors} == {NotOpen}
        store.gate.set()
        assert await client.enqueue(job("next"), "f") is None


async def test_enqueued_is_told_to_listeners() -> None:
    async with opened() as (client, _):
        heard: list[Event] = []
        client._events.on(JobEnqueued, heard.append)
        await client.enqueue(job("1"), "f")
        await client.enqueue_many([job("1"), job("2")], ["f", "g"])
        assert heard == [
            JobEnqueued(JobRef("default", "1"), "f", True),
            JobEnqueued(JobRef("default", "1"), "f", False),
            JobEnqueued(JobRef("default", "2"), "g", True),
        ]


async def test_errors_of_many_callers_do_not_share_tracebacks() -> None:
    async with opened() as (client, store):
        store.answers = [StoreFull("no memory")]
        errors = await asyncio.gather(
            *(client.enqueue(job(str(n)), "f") for n in range(50)), return_exceptions=True
        )
        for error in errors:
            assert isinstance(error, StoreFull)
            assert len(traceback.extract_tb(error.__traceback__)) < 6


async def test_batches_that_were_stored_are_told_of_although_a_later_one_failed() -> None:
    async with opened() as (client, store):
        told: list[Event] = []
        client._events.on(JobEnqueued, told.append)
        store.answers = [None, StoreFull("full")]
        jobs = [job(str(number)) for number in range(1_500)]
        with pytest.raises(StoreUnavailable, match=r"1,000 of these 1,500 jobs are stored"):
            await client.enqueue_many(jobs, ["f"] * 1_500)
        assert [event.ref.id for event in told if isinstance(event, JobEnqueued)] == [
            str(number) for number in range(1_000)
        ]


async def test_a_batch_is_not_sent_in_the_context_of_one_caller() -> None:
    caller: ContextVar[str] = ContextVar("caller", default="nobody")
    async with opened() as (client, store):
        seen: list[str] = []
        enqueue = store.enqueue

        async def look(batch: EnqueueBatch) -> Enqueued:
            seen.append(caller.get())
            return await enqueue(batch)

        store.enqueue = look  # type: ignore[method-assign]
        caller.set("first")
        await asyncio.gather(*(client.enqueue(job(str(n)), "f") for n in range(2)))
        assert seen == ["nobody"]


async def test_close_sends_a_lone_call_that_came_before_it() -> None:
    for others in (0, 2):
        # Waiting for one who has left would take longer than the case may.
        async with opened(connect_timeout=3 * LIMIT_S) as (client, store):
            lone = start(client.enqueue(job("0"), "f"))
            await asyncio.sleep(0)
            tasks = start(*(client.enqueue(job(str(n)), "f") for n in range(1, others + 1)))
            if tasks:
                await asyncio.sleep(0)
            await client.close()
            assert await asyncio.gather(*lone, *tasks) == [None] * (others + 1)
            assert store.ids == {str(n) for n in range(others + 1)}


async def test_a_caller_who_is_stopped_twice_is_cancelled_once() -> None:
    async with opened() as (client, store):
        store.gate.clear()
        task = asyncio.create_task(client.enqueue(job("1"), "f"))
        await store.sent.wait()
        lone = client._lone.current
        assert lone is not None
        lone.stop()
        lone.stop()
        with pytest.raises(StoreUnavailable):
            await task
        assert task.cancelling() == 0
