"""A queue in which nothing is left can be forgotten, and is there again when it is used."""

from __future__ import annotations

from dataclasses import replace

import anyio
import pytest

from asyncjobs.errors import StoreError
from asyncjobs.model.job import NewJob, State
from asyncjobs.model.refs import JobRef
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.inspect import Leftover
from asyncjobs.store.seam import EnqueueBatch
from asyncjobs.testing.conformance.spoiled import BAD, Part, Spoil
from asyncjobs.testing.conformance.store import LEASE_MS, LIMIT_S, QUEUE, Store, eventually, outcome

pytestmark = pytest.mark.anyio

DAY_MS = 86_400_000


async def forget(store: Store, queue: str = QUEUE, idle_ms: int = 0) -> Leftover:
    (left,) = await store.backend.inspect.queues.forget([queue], idle_ms)
    assert left.queue == queue
    return left


async def end_all(store: Store, queue: str = QUEUE) -> None:
    """All jobs succeed, and their worker leaves."""
    worker = await store.worker(queue)
    await worker.exchange(*map(Settlement.succeeded, await worker.take()))
    await worker.lease.leave()


async def test_a_queue_that_was_used_is_forgotten_and_is_back_when_it_is_used(
    store: Store,
) -> None:
    await store.enqueue("a")
    await store.enqueue("b", queue="other")
    await end_all(store)
    await store.pass_time(3 * store.settings.id_ttl_ms)
    assert await store.backend.inspect.queues.names() == ["other", QUEUE]
    assert await forget(store) == Leftover(QUEUE)
    assert await store.backend.inspect.queues.names() == ["other"]
    assert (await store.counts()).ready == (0, 0, 0, 0)
    assert await forget(store) == Leftover(QUEUE)
    # As if nobody had ever had the id.
    assert await store.enqueue("a") == [True]
    worker = await store.worker()
    assert (await worker.take_one()).id == "a"
    assert QUEUE in await store.backend.inspect.queues.names()


async def test_a_queue_that_never_was_is_nothing(store: Store) -> None:
    assert await forget(store, "typo") == Leftover("typo")
    assert await store.backend.inspect.queues.names() == []


@pytest.mark.parametrize(
    ("state", "left"),
    [
        ("ready", {"ready": 1, "indexed": 1}),
        ("delayed", {"scheduled": 1, "indexed": 1}),
        ("running", {"running": 1, "workers": 1, "indexed": 1}),
        ("held by the dead", {"running": 1, "indexed": 1}),
        ("given back", {"ready": 1, "indexed": 1}),
        ("dead", {"dead": 1}),
        ("served", {"workers": 1}),
    ],
)
async def test_what_is_left_keeps_it(store: Store, state: str, left: dict[str, int]) -> None:
    if state != "served":
        await store.enqueue("a", delay_ms=10 * DAY_MS if state == "delayed" else 0)
    if state not in ("ready", "delayed"):
        worker = await store.worker()
        jobs = await worker.take()
        if state == "given back":
            await worker.lease.leave()
        if state == "dead":
            await worker.exchange(Settlement.dead(jobs[0], b"{}\n{}"))
            await worker.lease.leave()
        alive = [worker] if state in ("running", "served") else []
        await store.pass_time(3 * store.settings.id_ttl_ms, *alive)
    else:
        await store.pass_time(3 * store.settings.id_ttl_ms)
    assert await forget(store) == Leftover(QUEUE, **left)
    assert await store.backend.inspect.queues.names() == [QUEUE]
    if state != "served":
        assert await store.find("a") is not None


async def test_it_is_kept_while_an_id_is_known(store: Store) -> None:
    await store.enqueue("a")
    await end_all(store)
    known_ms = 0
    while (left := await forget(store)).wait_ms:
        assert left == Leftover(QUEUE, wait_ms=left.wait_ms)
        assert left.wait_ms <= 3 * store.settings.id_ttl_ms
        store.clock.ms += 60_000
        known_ms += 60_000
    assert known_ms >= store.settings.id_ttl_ms
    assert await store.backend.inspect.queues.names() == []


async def test_it_is_kept_for_minutes_after_each_job(store: Store) -> None:
    """A client sends the name of a queue again after a minute, and not before."""
    backend = store.make(replace(store.settings, id_ttl_ms=0), store.clock)
    await backend.open()
    try:
        await backend.enqueue(EnqueueBatch("token", [NewJob(QUEUE, "a", 2, b"{}")]))
        await backend.cancel([JobRef(QUEUE, "a")], None, 0)
        store.clock.ms += 119_000
        (left,) = await backend.inspect.queues.forget([QUEUE], 0)
        assert left == Leftover(QUEUE, wait_ms=left.wait_ms)
        assert left.wait_ms >= 119_000
        assert await backend.inspect.queues.names() == [QUEUE]
        store.clock.ms += left.wait_ms
        assert (await backend.inspect.queues.forget([QUEUE], 0))[0].is_forgotten
    finally:
        await backend.close()


async def test_a_lease_that_is_over_does_not_keep_it(store: Store) -> None:
    """Nobody serves the queue any more, so nobody ends it."""
    worker = await store.worker()
    await store.pass_time(LEASE_MS + 1)
    assert await forget(store) == Leftover(QUEUE)
    # The worker was only asleep: it finds its entry gone, as after a reclaim.
    assert (await worker.lease.beat()).lost == (QUEUE,)
    again = await store.worker()
    await store.enqueue("a")
    assert (await again.take_one()).id == "a"
    assert await store.backend.inspect.queues.names() == [QUEUE]


async def test_it_is_kept_until_no_worker_was_heard_of_for_long(store: Store) -> None:
    worker = await store.worker()
    await worker.lease.leave()
    assert await forget(store, idle_ms=DAY_MS) == Leftover(QUEUE, wait_ms=DAY_MS)
    store.clock.ms += DAY_MS - 1
    assert await forget(store, idle_ms=DAY_MS) == Leftover(QUEUE, wait_ms=1)
    store.clock.ms += 1
    assert await forget(store, idle_ms=DAY_MS) == Leftover(QUEUE)


async def test_it_is_kept_while_somebody_waits_for_a_result(store: Store) -> None:
    await store.enqueue("a")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(store.backend.wait_results, [JobRef(QUEUE, "a")], LIMIT_S)

        async def is_awaited() -> bool:
            return (await forget(store)).awaited == 1

        await eventually(is_awaited)
        tasks.cancel_scope.cancel()


async def test_results_stay_for_their_time(store: Store) -> None:
    await store.enqueue("a")
    worker = await store.worker()
    job = await worker.take_one()
    await worker.exchange(Settlement.succeeded(job, outcome(value=7), DAY_MS))
    await worker.lease.leave()
    await store.pass_time(3 * store.settings.id_ttl_ms)
    assert (await forget(store)).is_forgotten
    assert await store.backend.inspect.queues.names() == []
    record = await store.look("a")
    assert (record.state, record.outcome) == (State.SUCCEEDED, outcome(value=7))


async def test_each_by_itself(store: Store) -> None:
    await store.enqueue("a", queue="busy")
    for queue in ("one", "two"):
        worker = await store.worker(queue)
        await worker.lease.leave()
    answers = await store.backend.inspect.queues.forget(["one", "busy", "two"], 0)
    assert [left.queue for left in answers] == ["one", "busy", "two"]
    assert [left.is_forgotten for left in answers] == [True, False, True]
    assert await store.backend.inspect.queues.names() == ["busy"]


@pytest.mark.parametrize("part", [Part.PLACES, Part.NORMAL, Part.ACTIVITY, Part.LEASES])
async def test_one_that_cannot_be_read_stays(store: Store, spoil: Spoil, part: Part) -> None:
    worker = await store.worker(BAD)
    await worker.lease.leave()
    await spoil(part)
    with pytest.raises(StoreError, match=spoil.error):
        await forget(store, BAD)
    assert await store.backend.inspect.queues.names() == [BAD]
    await spoil.mend()


async def test_the_clock_goes_back(store: Store) -> None:
    """What was written before that does not keep a queue for as long as the step."""
    store.clock.ms += 10 * DAY_MS
    await store.enqueue("a")
    await end_all(store)
    store.clock.ms -= 10 * DAY_MS
    worker = await store.worker()
    await worker.lease.leave()
    left = await forget(store, idle_ms=DAY_MS)
    assert left == Leftover(QUEUE, wait_ms=DAY_MS)
    await store.pass_time(3 * store.settings.id_ttl_ms)
    assert await forget(store) == Leftover(QUEUE)
