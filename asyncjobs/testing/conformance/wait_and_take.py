"""An offer, sent behind the wait for a signal: fenced like an exchange, and numbered apart."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from asyncjobs.model.demand import Demand
from asyncjobs.model.job import State
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.answers import Parked
from asyncjobs.store.lease import Offer
from asyncjobs.testing.conformance.store import (
    LIMIT_S,
    QUEUE,
    SHORT_S,
    Store,
    Worker,
    ids,
    ref,
)

pytestmark = pytest.mark.anyio


async def wait_and_take(worker: Worker, slots: int = 5, timeout_s: float = LIMIT_S) -> Parked:
    worker.sequence += 1
    demand = {QUEUE: Demand(slots)}
    return await worker.lease.park(timeout_s, Offer(worker.sequence, demand))


async def parked(worker: Worker, slots: int = 5) -> asyncio.Task[Parked]:
    """One that is on its way, or parked: cases hold in either order."""
    task = asyncio.create_task(wait_and_take(worker, slots))
    await anyio.sleep(0)
    return task


async def test_new_work_comes_with_its_signal(store: Store) -> None:
    worker = await store.worker()
    task = await parked(worker)
    await store.enqueue("a", "b")
    signalled, exchange = await task
    assert list(signalled) == [QUEUE]
    assert exchange is not None
    assert ids(exchange.jobs) == ["a", "b"]
    assert [job.holder for job in exchange.jobs] == [worker.lease.spec.entry(QUEUE)] * 2
    assert await store.state("a") is State.RUNNING
    assert (await worker.exchange(*map(Settlement.succeeded, exchange.jobs))).not_yours == []


async def test_work_that_was_there_before_comes_at_once(store: Store) -> None:
    await store.enqueue("a")
    _, exchange = await wait_and_take(await store.worker())
    assert exchange is not None
    assert ids(exchange.jobs) == ["a"]


async def test_without_a_signal_it_looks_when_the_time_is_over(store: Store) -> None:
    worker = await store.worker()
    signalled, exchange = await wait_and_take(worker, timeout_s=SHORT_S)
    assert list(signalled) == []
    assert exchange is not None
    assert exchange.jobs == []


async def test_no_more_than_was_asked_for_and_the_next_one_is_signalled(store: Store) -> None:
    worker, other = await store.worker(), await store.worker()
    task = await parked(worker, 1)
    await store.enqueue("a", "b")
    exchange = (await task).exchange
    assert exchange is not None
    assert (ids(exchange.jobs), exchange.left_ready) == (["a"], frozenset([QUEUE]))
    assert await other.signalled() == [QUEUE]


async def test_other_exchanges_go_on_meanwhile(store: Store) -> None:
    worker = await store.worker()
    await store.enqueue("a")
    await worker.settle_signals()
    task = await parked(worker)
    (job,) = await worker.take()
    await worker.exchange(Settlement.succeeded(job))
    await store.enqueue("b")
    exchange = (await task).exchange
    assert exchange is not None
    assert ids(exchange.jobs) == ["b"]
    # Nor does it make those stale whose number is lower, and that come later.
    assert (await worker.exchange(Settlement.succeeded(exchange.jobs[0]))).not_yours == []


async def test_a_resync_refuses_what_waits(store: Store) -> None:
    worker = await store.worker()
    task = await parked(worker)
    await anyio.sleep(SHORT_S)
    worker.sequence += 1
    answer = await worker.lease.resync(worker.sequence, [])
    assert answer.missing == []
    await store.enqueue("a")
    signalled, exchange = await task
    assert (list(signalled), exchange) == ([QUEUE], None)
    assert await store.state("a") is State.READY
    # The next one is of a higher number.
    assert ids(await worker.take()) == ["a"]


async def test_what_it_took_is_found_by_a_resync(store: Store) -> None:
    """As after a reply that was lost."""
    worker = await store.worker()
    task = await parked(worker)
    await store.enqueue("a")
    await task
    worker.sequence += 1
    answer = await worker.lease.resync(worker.sequence, [])
    assert ids(answer.missing) == ["a"]


async def test_the_same_one_takes_once(store: Store) -> None:
    worker = await store.worker()
    await store.enqueue("a")
    assert (await wait_and_take(worker)).exchange is not None
    await store.enqueue("b")
    worker.sequence -= 1
    assert (await wait_and_take(worker)).exchange is None
    assert await store.state("b") is State.READY


async def test_a_lost_lease_takes_nothing(store: Store) -> None:
    keeper, worker = await store.worker(), await store.worker()
    task = await parked(worker)
    await anyio.sleep(SHORT_S)
    await store.end_leases(keeper)
    await store.enqueue("a")
    _, exchange = await task
    assert exchange is not None
    assert (exchange.lost, exchange.jobs) == ((QUEUE,), [])
    assert await store.state("a") is State.READY


async def test_suspects_are_passed_on(store: Store) -> None:
    keeper, other, worker = await store.worker(), await store.worker(), await store.worker()
    await store.enqueue("suspect")
    await worker.take_one()
    assert (await store.end_leases(keeper, other)).returned == 1
    await keeper.settle_signals()
    task = await parked(keeper)
    await store.enqueue("innocent")
    exchange = (await task).exchange
    assert exchange is not None
    assert ids(exchange.jobs) == ["innocent"]
    assert exchange.left_ready == frozenset([QUEUE])
    # It may be one of many, and no worker takes all: others are signalled for them.
    assert await other.signalled() == [QUEUE]
    assert ids(await keeper.take()) == ["suspect"]


async def test_a_job_that_was_given_back_comes_or_is_told_of(store: Store) -> None:
    worker = await store.worker()
    await store.enqueue("a")
    await worker.exchange(Settlement.release(await worker.take_one()))
    await worker.settle_signals()
    _, exchange = await wait_and_take(worker, timeout_s=SHORT_S)
    assert exchange is not None
    if not exchange.jobs:
        assert exchange.left_ready == frozenset([QUEUE])
    assert ids([*exchange.jobs, *await worker.take()]) == ["a"]


async def test_a_job_that_was_given_back_signals_one_worker(store: Store) -> None:
    worker, other = await store.worker(), await store.worker()
    await store.enqueue("a")
    await worker.exchange(Settlement.release(await worker.take_one()))
    await worker.settle_signals()
    await wait_and_take(worker, timeout_s=SHORT_S)
    assert await other.signalled(SHORT_S) == []


async def test_a_job_given_back_and_cancelled_since_signals_nobody(store: Store) -> None:
    worker, other = await store.worker(), await store.worker()
    await store.enqueue("a")
    await worker.exchange(Settlement.release(await worker.take_one()))
    await store.backend.cancel([ref("a")], None, 0)
    await worker.settle_signals()
    _, exchange = await wait_and_take(worker, timeout_s=SHORT_S)
    assert exchange is not None
    assert (exchange.jobs, exchange.left_ready) == ([], frozenset())
    assert await other.signalled(SHORT_S) == []


async def test_a_due_job_comes_or_is_told_of(store: Store) -> None:
    worker = await store.worker()
    await store.enqueue("a", delay_ms=1_000)
    due_ms = store.clock.ms + 1_000
    await worker.settle_signals()
    store.clock.ms += 1_000
    _, exchange = await wait_and_take(worker, timeout_s=SHORT_S)
    assert exchange is not None
    if not exchange.jobs:
        assert exchange.next_due_ms == {QUEUE: due_ms}
    assert ids([*exchange.jobs, *await worker.take()]) == ["a"]


async def test_it_tells_of_the_next_due_job(store: Store) -> None:
    worker = await store.worker()
    await store.enqueue("later", delay_ms=60_000)
    await worker.settle_signals()
    _, exchange = await wait_and_take(worker, timeout_s=SHORT_S)
    assert exchange is not None
    assert exchange.next_due_ms == {QUEUE: store.clock.ms + 60_000}


async def test_an_offer_that_leaves_work_behind_signals_one_other_worker(store: Store) -> None:
    worker = await store.worker()
    others = [await store.worker() for _ in range(2)]
    task = await parked(worker, slots=1)
    signals = [asyncio.create_task(one.signalled(4 * SHORT_S)) for one in others]
    await anyio.sleep(SHORT_S)
    await store.enqueue("a", "b", "c")
    await task
    assert sorted(await asyncio.gather(*signals)) == [[], [QUEUE]]
