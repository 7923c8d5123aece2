"""Orders to workers stay with their leases, and every heartbeat brings them."""

from __future__ import annotations

import pytest

from asyncjobs.store.answers import WorkerOrdered
from asyncjobs.store.control import Order, OrderKind
from asyncjobs.testing.conformance.store import QUEUE, SHORT_S, Store, Worker

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def needs_control_to_order(request: pytest.FixtureRequest) -> None:
    if not request.getfixturevalue("store").backend.capabilities.control:
        pytest.skip("no capability control")


async def order(
    store: Store, worker: Worker, value: str, kind: OrderKind = OrderKind.STATE
) -> list[bool]:
    spec = worker.lease.spec
    entries = [(queue, spec.entry(queue)) for queue in spec.queues]
    return await store.backend.control.workers.order(entries, kind, value)


async def orders(worker: Worker) -> list[tuple[OrderKind, str]]:
    """What the next heartbeat brings: of each kind the last one."""
    last: dict[OrderKind, Order] = {}
    for each in (await worker.lease.beat()).orders:
        if each.kind not in last or each.number > last[each.kind].number:
            last[each.kind] = each
    return sorted((each.kind, each.value) for each in last.values())


async def test_without_an_order_there_is_none(store: Store) -> None:
    worker = await store.worker()
    assert await orders(worker) == []


async def test_each_heartbeat_brings_the_orders(store: Store) -> None:
    worker, other = await store.worker(), await store.worker()
    assert await order(store, worker, "quiet") == [True]
    assert await order(store, worker, '{"work":3}', OrderKind.WEIGHTS) == [True]
    for _ in range(2):
        assert await orders(worker) == [("state", "quiet"), ("weights", '{"work":3}')]
    assert await orders(other) == []


async def test_the_last_order_counts(store: Store) -> None:
    worker = await store.worker("one", "two")
    numbers = []
    # The clock stands still, and then goes back.
    for value in ("quiet", "running", "stopping"):
        assert await order(store, worker, value) == [True, True]
        assert await orders(worker) == [("state", value)]
        numbers.append(max(each.number for each in (await worker.lease.beat()).orders))
        store.clock.ms -= 10 * (value == "running")
    assert numbers == sorted(set(numbers))


async def test_an_order_signals(store: Store) -> None:
    worker, other = await store.worker(), await store.worker("other")
    for each in (worker, other):
        await each.lease.listen(SHORT_S)
    await order(store, worker, "quiet")
    heard = await worker.lease.listen(20)
    assert list(heard) == [WorkerOrdered(QUEUE, worker.lease.spec.id)]
    assert list(await other.lease.listen(SHORT_S)) == []


async def test_who_has_gone_gets_no_order(store: Store) -> None:
    worker = await store.worker()
    await worker.lease.leave()
    assert await order(store, worker, "quiet") == [False]
    other, keeper = await store.worker(), await store.worker()
    await store.end_leases(keeper)
    assert await order(store, other, "quiet") == [False]
    assert await store.backend.control.workers.order([], OrderKind.STATE, "quiet") == []


async def test_an_order_goes_with_its_lease(store: Store) -> None:
    worker, keeper = await store.worker(), await store.worker()
    await order(store, worker, "quiet")
    await store.end_leases(keeper)
    await worker.lease.rejoin([QUEUE])
    assert await orders(worker) == []


async def test_inspection_shows_what_workers_say(store: Store) -> None:
    worker = await store.worker()
    await store.enqueue("a", "b", "c")
    await worker.take(2)
    (entry,) = await store.backend.inspect.workers([QUEUE])
    assert (entry.running, entry.leaves, entry.ordered) == (2, False, "")
    await order(store, worker, "quiet")
    (entry,) = await store.backend.inspect.workers([QUEUE])
    assert (entry.info, entry.ordered) == (b"{}", "quiet")
    await worker.lease.beat(info=b'{"state":"quiet"}')
    await worker.lease.beat(leaves=True)
    (entry,) = await store.backend.inspect.workers([QUEUE])
    assert (entry.info, entry.leaves) == (b'{"state":"quiet"}', True)
