"""A worker hears of the cancel of a running job at once."""

from __future__ import annotations

import asyncio

import pytest

from asyncjobs.model.settlement import Settlement
from asyncjobs.store.answers import CancelCall, CancelVerdict
from asyncjobs.testing.conformance.store import LIMIT_S, SHORT_S, Store, Worker, outcome, ref

pytestmark = pytest.mark.anyio


async def cancel(store: Store, *names: str, queue: str = "work") -> list[CancelVerdict]:
    return await store.backend.cancel([ref(name, queue) for name in names], outcome(), 1000)


async def heard(worker: Worker, timeout_s: float = LIMIT_S) -> list[CancelCall]:
    signals = await worker.lease.listen(timeout_s)
    cancels = [signal for signal in signals if isinstance(signal, CancelCall)]
    assert cancels == list(signals)
    return cancels


async def test_nobody_signals_a_listener_without_a_cancel(store: Store) -> None:
    worker = await store.worker()
    assert await heard(worker, SHORT_S) == []
    await store.enqueue("a")
    await worker.take()
    assert await heard(worker, SHORT_S) == []


async def test_a_cancel_signals_the_holder_of_the_job(store: Store) -> None:
    worker = await store.worker()
    await heard(worker, SHORT_S)
    await store.enqueue("a", "b")
    await worker.take()
    listening = asyncio.create_task(heard(worker))
    assert await cancel(store, "b") == [CancelVerdict.REQUESTED]
    assert await listening == [CancelCall(worker.lease.spec.id, ref("b"))]


async def test_cancels_between_two_calls_are_heard(store: Store) -> None:
    worker = await store.worker()
    await heard(worker, SHORT_S)
    await store.enqueue("a", "b", "c")
    await worker.take()
    await cancel(store, "a", "b")
    await cancel(store, "c")
    found: list[CancelCall] = []
    while len(found) < 3:
        found += await heard(worker)
    assert [signal.ref for signal in found] == [ref("a"), ref("b"), ref("c")]
    assert await heard(worker, SHORT_S) == []


async def test_each_of_several_queues_is_heard(store: Store) -> None:
    worker = await store.worker("one", "two")
    await heard(worker, SHORT_S)
    await store.enqueue("a", queue="one")
    await store.enqueue("a", queue="two")
    await worker.take()
    for queue in ("two", "one"):
        await cancel(store, "a", queue=queue)
        assert await heard(worker) == [CancelCall(worker.lease.spec.id, ref("a", queue))]


async def test_what_does_not_run_signals_nobody(store: Store) -> None:
    worker = await store.worker()
    await heard(worker, SHORT_S)
    await store.enqueue("ready", "released", "finished")
    await store.enqueue("later", delay_ms=60_000)
    taken = {job.id: job for job in await worker.take()}
    await worker.exchange(
        Settlement.release(taken["ready"]),
        Settlement.release(taken["released"]),
        Settlement.succeeded(taken["finished"]),
    )
    await cancel(store, "ready", "released", "finished", "later", "unknown")
    assert await heard(worker, SHORT_S) == []


async def test_the_signal_names_the_entry_that_holds_the_job(store: Store) -> None:
    worker = await store.worker()
    await heard(worker, SHORT_S)
    # Lost and entered anew: whoever listens goes on listening.
    await store.end_leases()
    await worker.lease.rejoin(["work"])
    await store.enqueue("a")
    await worker.take()
    await cancel(store, "a")
    (signal,) = await heard(worker)
    assert signal == CancelCall(worker.lease.spec.entry("work"), ref("a"))
    assert signal.holder != worker.lease.spec.id


async def test_a_listener_on_other_queues_hears_nothing(store: Store) -> None:
    worker, other = await store.worker(), await store.worker("other")
    await heard(other, SHORT_S)
    await store.enqueue("a")
    await worker.take()
    await cancel(store, "a")
    assert await heard(other, SHORT_S) == []


async def test_who_has_left_can_come_again(store: Store) -> None:
    worker = await store.worker()
    await heard(worker, SHORT_S)
    await worker.lease.leave()
    fresh = await store.worker()
    await heard(fresh, SHORT_S)
    await store.enqueue("a")
    await fresh.take()
    await cancel(store, "a")
    assert [signal.ref for signal in await heard(fresh)] == [ref("a")]
