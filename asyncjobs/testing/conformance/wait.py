"""Waiting takes nothing and misses nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import TypeVar

import anyio
import pytest

from asyncjobs.model.job import NewJob, State
from asyncjobs.model.settlement import Effects, Settlement
from asyncjobs.store.letters import LetterQuery, Revival
from asyncjobs.store.seam import EnqueueBatch
from asyncjobs.testing.conformance.store import LIMIT_S, SHORT_S, Store, Worker, ids, outcome, ref

pytestmark = pytest.mark.anyio

T = TypeVar("T")


@asynccontextmanager
async def running(waiting: Awaitable[T]) -> AsyncIterator[asyncio.Future[T]]:
    """A wait that goes on beside the case, ended with it."""
    task = asyncio.ensure_future(waiting)
    # One turn, so that it is parked or on its way; cases hold in either order.
    await anyio.sleep(0)
    try:
        with anyio.fail_after(LIMIT_S):
            yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_parked_worker_is_signalled_by_new_work(store: Store) -> None:
    worker = await store.worker()
    async with running(worker.signalled()) as signal:
        await store.enqueue("a")
        assert await signal == ["work"]
    assert await store.state("a") is State.READY
    assert ids(await worker.take()) == ["a"]


async def test_work_that_was_there_before_signals(store: Store) -> None:
    await store.enqueue("a")
    assert await (await store.worker()).signalled() == ["work"]


async def test_the_queue_that_signals_is_named(store: Store) -> None:
    worker = await store.worker("one", "two", "three")
    async with running(worker.signalled()) as signal:
        await store.enqueue("a", queue="two")
        assert await signal == ["two"]


async def test_a_queue_of_others_does_not_signal(store: Store) -> None:
    worker = await store.worker()
    await store.enqueue("a", queue="other")
    assert await worker.signalled(SHORT_S) == []


async def test_there_is_one_signal_for_any_number_of_jobs(store: Store) -> None:
    for name in "abc":
        await store.enqueue(name)
    worker = await store.worker()
    assert await worker.signalled() == ["work"]
    assert await worker.signalled(SHORT_S) == []


async def test_no_time_at_all_is_a_look(store: Store) -> None:
    worker = await store.worker()
    with anyio.fail_after(LIMIT_S):
        assert await worker.signalled(0) == []


async def test_a_leftover_signals_the_next_one(store: Store) -> None:
    await store.enqueue("a", "b")
    first, second = await store.worker(), await store.worker()
    assert await first.signalled() == ["work"]
    async with running(second.signalled()) as signal:
        assert (await first.exchange(demand=1)).left_ready == {"work"}
        assert await signal == ["work"]
    assert ids(await second.take()) == ["b"]


async def test_an_exchange_without_demand_passes_the_signal_on(store: Store) -> None:
    await store.enqueue("a")
    busy, idle = await store.worker(), await store.worker()
    assert await busy.signalled() == ["work"]
    await busy.exchange(demand=0)
    assert await idle.signalled() == ["work"]


async def test_an_exchange_that_leaves_nothing_signals_nobody(store: Store) -> None:
    await store.enqueue("a", "b")
    worker = await store.worker()
    assert await worker.signalled() == ["work"]
    assert len(await worker.take()) == 2
    assert await worker.signalled(SHORT_S) == []


async def test_a_known_job_signals_nobody(store: Store) -> None:
    await store.enqueue("a", token="once")
    worker = await store.worker()
    await worker.take_one()
    await worker.settle_signals()
    await store.enqueue("a", token="once")
    await store.enqueue("a")
    assert await worker.signalled(SHORT_S) == []


async def test_only_a_new_earliest_scheduled_job_signals(store: Store) -> None:
    worker = await store.worker()
    await store.enqueue("first", delay_ms=5000)
    assert await worker.signalled() == ["work"]
    await store.enqueue("later", delay_ms=6000)
    assert await worker.signalled(SHORT_S) == []
    await store.enqueue("sooner", delay_ms=4000)
    assert await worker.signalled() == ["work"]
    assert (await worker.exchange(demand=1)).next_due_ms == {"work": store.clock.ms + 4000}


async def test_a_released_job_signals(store: Store) -> None:
    await store.enqueue("a")
    leaver, idle = await store.worker(), await store.worker()
    taken = await leaver.take_one()
    await idle.settle_signals()
    async with running(idle.signalled()) as signal:
        await leaver.exchange(Settlement.release(taken), demand={})
        assert await signal == ["work"]


async def test_a_worker_that_leaves_with_jobs_signals(store: Store) -> None:
    await store.enqueue("a")
    leaver, idle = await store.worker(), await store.worker()
    await leaver.take_one()
    await idle.settle_signals()
    async with running(idle.signalled()) as signal:
        await leaver.lease.leave()
        assert await signal == ["work"]


async def test_reclaimed_jobs_signal(store: Store) -> None:
    await store.enqueue("a")
    dead, idle = await store.worker(), await store.worker()
    await dead.take_one()
    await idle.settle_signals()
    async with running(idle.signalled()) as signal:
        await store.end_leases(idle)
        assert await signal == ["work"]


async def test_a_promoted_job_left_behind_signals(store: Store) -> None:
    await store.enqueue("a", "b", delay_ms=10)
    worker, idle = await store.worker(), await store.worker()
    await worker.settle_signals()
    store.clock.ms += 10
    await worker.take_one()
    assert await idle.signalled() == ["work"]


async def test_a_wait_can_be_cancelled_and_waited_again(store: Store) -> None:
    worker = await store.worker()
    with anyio.move_on_after(SHORT_S):
        await worker.signalled()
    await store.enqueue("a")
    assert ids(await worker.take()) == ["a"]
    await worker.settle_signals()
    async with running(worker.signalled()) as signal:
        await store.enqueue("b")
        assert await signal == ["work"]


async def test_several_parked_workers_share_the_work(store: Store) -> None:
    workers = [await store.worker() for _ in range(4)]
    names = [f"job-{number}" for number in range(4)]
    seen: list[str] = []

    async def work(worker: Worker) -> None:
        while len(seen) < 4:
            if await worker.signalled(SHORT_S):
                seen.extend(ids(await worker.take(1)))

    with anyio.fail_after(LIMIT_S):
        async with anyio.create_task_group() as tasks:
            for worker in workers:
                tasks.start_soon(work, worker)
            await store.enqueue(*names)
    assert sorted(seen) == names


async def test_a_result_that_is_there_is_not_waited_for(store: Store) -> None:
    await store.enqueue("a", "b")
    worker = await store.worker()
    await worker.exchange(Settlement.succeeded(await worker.take_one(), outcome(), 60_000))
    a, b = await store.backend.wait_results([ref("a"), ref("b")], None)
    assert a is not None
    assert (a.state, a.outcome) == (State.SUCCEEDED, outcome())
    assert b is not None
    assert b.state is State.READY


async def test_a_result_wakes_its_waiters(store: Store) -> None:
    await store.enqueue("a", "b")
    worker = await store.worker()
    a, b = await worker.take()
    async with (
        running(store.backend.wait_results([ref("a")], None)) as first,
        running(store.backend.wait_results([ref("b"), ref("a")], None)) as second,
        running(store.backend.wait_results([ref("b")], None)) as third,
    ):
        await worker.exchange(Settlement.succeeded(a, outcome(value=1), 60_000))
        (record,) = await first
        assert record is not None
        assert (record.state, record.outcome) == (State.SUCCEEDED, outcome(value=1))
        other, same = await second
        assert other is not None
        assert other.state is State.RUNNING
        assert same is not None
        assert same.outcome == outcome(value=1)
        assert not third.done()
        await worker.exchange(Settlement.dead(b, b"letter", outcome(State.DEAD), 60_000))
        (record,) = await third
        assert record is not None
        assert (record.state, record.outcome) == (State.DEAD, outcome(State.DEAD))


async def test_an_end_without_a_result_wakes_too(store: Store) -> None:
    await store.enqueue("a")
    worker = await store.worker()
    taken = await worker.take_one()
    async with running(store.backend.wait_results([ref("a")], None)) as waiting:
        await anyio.sleep(SHORT_S)
        await worker.exchange(Settlement.discarded(taken))
        # Nothing is announced then; a store may look now and then instead.
        with anyio.fail_after(5):
            (record,) = await waiting
    assert record is not None
    assert (record.state, record.outcome) == (State.DISCARDED, None)


async def test_a_cancelled_job_wakes_its_waiters(store: Store) -> None:
    await store.enqueue("a")
    kept = outcome(State.CANCELLED)
    async with running(store.backend.wait_results([ref("a")], None)) as waiting:
        await store.backend.cancel([ref("a")], kept, 60_000)
        (record,) = await waiting
    assert record is not None
    assert (record.state, record.outcome) == (State.CANCELLED, kept)


async def test_waiting_for_a_result_ends_with_its_time(store: Store) -> None:
    await store.enqueue("a")
    (record,) = await store.backend.wait_results([ref("a")], SHORT_S)
    assert record is not None
    assert record.state is State.READY


async def test_an_unknown_id_is_not_waited_for(store: Store) -> None:
    await store.enqueue("a")
    with anyio.fail_after(LIMIT_S):
        assert await store.backend.wait_results([ref("never")], None) == [None]
        known, unknown = await store.backend.wait_results([ref("a"), ref("never")], None)
    assert known is not None
    assert known.state is State.READY
    assert unknown is None


async def test_nothing_to_wait_for(store: Store) -> None:
    assert await store.backend.wait_results([], None) == []


async def test_a_thousand_waiters(store: Store) -> None:
    names = [f"job-{number}" for number in range(1000)]
    await store.enqueue(*names)
    worker = await store.worker()
    records: list[State] = []

    async def wait(name: str) -> None:
        (record,) = await store.backend.wait_results([ref(name)], None)
        assert record is not None
        records.append(record.state)

    with anyio.fail_after(LIMIT_S):
        async with anyio.create_task_group() as tasks:
            for name in names:
                tasks.start_soon(wait, name)
            await anyio.sleep(0)
            taken = await worker.take(1000)
            await worker.exchange(*(Settlement.succeeded(j, outcome(), 60_000) for j in taken))
    assert records == [State.SUCCEEDED] * 1000


@pytest.mark.parametrize("call", ["enqueue", "settle", "revive"])
async def test_one_call_signals_one_worker(store: Store, call: str) -> None:
    """However much it makes ready, and when a new earliest time comes with it."""
    worker = await store.worker()
    jobs = [NewJob("work", "a", 2, b"{}"), NewJob("work", "b", 2, b"{}", 500)]
    await store.enqueue("one", "two")
    held = await worker.take()
    revivals: list[Revival] = []
    if call == "revive":
        await worker.exchange(*(Settlement.dead(job, b"{}\n{}") for job in held))
        letters = (await store.backend.dead.page(LetterQuery("work"))).letters
        revivals += [Revival(letter.key, b"again") for letter in letters]
    await worker.settle_signals()
    parked = [await store.worker() for _ in range(2)]
    both = asyncio.gather(*(one.signalled(4 * SHORT_S) for one in parked))
    async with running(both) as signals:
        await anyio.sleep(SHORT_S)
        if call == "enqueue":
            await store.backend.enqueue(EnqueueBatch("token", jobs))
        elif call == "settle":
            first, second = (Settlement.succeeded(job) for job in held)
            more = Effects((NewJob("work", "c", 2, b"{}", 200),))
            await worker.exchange(first.causing(Effects(tuple(jobs))), second.causing(more))
        else:
            await store.backend.dead.revive(revivals)
        assert sorted(await signals) == [[], ["work"]]
