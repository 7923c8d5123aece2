"""The clock of the store is set forward and back. Nothing may wait for as long as the step."""

from __future__ import annotations

import pytest

from asyncjobs.model.job import State
from asyncjobs.model.settlement import Settlement
from asyncjobs.testing.conformance.store import GRACE_MS, LEASE_MS, QUEUE, Store, Worker, ids

pytestmark = pytest.mark.anyio

STEP_MS = 3_600_000


async def hour_ahead(store: Store, *alive: Worker) -> None:
    """The clock goes forward by an hour, and those who are alive renew."""
    store.clock.ms += STEP_MS
    for worker in alive:
        await worker.lease.beat()


async def reclaimed_after(store: Store, keeper: Worker) -> int:
    """Milliseconds from now until a reclaim brings something, with `keeper` alive."""
    begun_ms = store.clock.ms
    while not (await store.reclaim()).returned:
        assert store.clock.ms - begun_ms <= STEP_MS / 2, "nothing is reclaimed after the step"
        await store.pass_time(GRACE_MS // 4, keeper)
    return store.clock.ms - begun_ms


@pytest.mark.parametrize("died", ["before the step", "while the clock was ahead"])
async def test_jobs_of_a_dead_worker_do_not_wait_for_as_long_as_the_step(
    store: Store, died: str
) -> None:
    await store.enqueue("a")
    dead, keeper = await store.worker(), await store.worker()
    await dead.take_one()
    await store.pass_time(1000, dead, keeper)
    await hour_ahead(store, keeper, *([dead] if died.startswith("while") else []))
    store.clock.ms += 1000 - STEP_MS
    await keeper.lease.beat()
    assert await reclaimed_after(store, keeper) <= LEASE_MS + GRACE_MS
    assert ids(await keeper.take()) == ["a"]


async def test_a_heartbeat_knows_when_the_lease_of_the_dead_ends_after_the_step(
    store: Store,
) -> None:
    dead, keeper = await store.worker(), await store.worker()
    await hour_ahead(store, dead, keeper)
    store.clock.ms -= STEP_MS
    beat = await keeper.lease.beat()
    # Otherwise nobody would ask for a reclaim before that.
    assert beat.next_lease_end_ms is not None
    assert store.clock.ms < beat.next_lease_end_ms <= store.clock.ms + LEASE_MS
    assert dead.lease.spec.id != keeper.lease.spec.id


async def test_a_step_takes_no_job_from_the_living(store: Store) -> None:
    await store.enqueue("a")
    worker, keeper = await store.worker(), await store.worker()
    taken = await worker.take_one()
    await store.pass_time(1000, worker, keeper)
    await hour_ahead(store, keeper)
    assert (await store.reclaim()).leases == 0
    store.clock.ms += 1000 - STEP_MS
    await keeper.lease.beat()
    # It has not been heard of since before the first step, and its lease has not passed.
    assert (await store.reclaim()).leases == 0
    store.clock.ms += GRACE_MS // 2
    assert (await worker.lease.beat()).lost == ()
    await store.pass_time(LEASE_MS, worker, keeper)
    assert (await store.reclaim()).leases == 0
    assert (await worker.exchange(Settlement.succeeded(taken))).not_yours == []


async def test_a_hold_from_before_a_step_back_counts_no_more(store: Store) -> None:
    await store.enqueue("a")
    dead, keeper = await store.worker(), await store.worker()
    await dead.take_one()
    # After the silence of the step all reclaims are held back for one grace.
    await hour_ahead(store, keeper)
    store.clock.ms -= STEP_MS
    await store.pass_time(LEASE_MS + 1, keeper)
    assert (await store.reclaim()).returned == 1


async def test_a_step_halfway_back_takes_no_job_from_the_living(store: Store) -> None:
    await store.enqueue("a")
    worker, keeper = await store.worker(), await store.worker()
    taken = await worker.take_one()
    await store.pass_time(1000, worker, keeper)
    await hour_ahead(store, keeper)
    store.clock.ms -= STEP_MS // 2
    # By this clock its lease is over for half an hour, and it had no time to renew.
    assert (await store.reclaim()).leases == 0
    await store.pass_time(GRACE_MS // 2, keeper)
    assert (await store.reclaim()).leases == 0
    assert (await worker.lease.beat()).lost == ()
    await store.pass_time(GRACE_MS, worker, keeper)
    assert (await store.reclaim()).leases == 0
    assert (await worker.exchange(Settlement.succeeded(taken))).not_yours == []


async def test_who_does_not_renew_within_the_grace_after_a_step_is_dead(store: Store) -> None:
    await store.enqueue("a")
    dead, keeper = await store.worker(), await store.worker()
    await dead.take_one()
    await hour_ahead(store, keeper)
    await store.pass_time(GRACE_MS + 1, keeper)
    assert (await store.reclaim()).returned == 1


async def test_a_step_back_alone_changes_no_lease(store: Store) -> None:
    await store.enqueue("a")
    worker, keeper = await store.worker(), await store.worker()
    await worker.take_one()
    store.clock.ms -= STEP_MS
    await store.pass_time(LEASE_MS - 1, keeper)
    assert (await store.reclaim()).leases == 0
    await store.pass_time(GRACE_MS + 2, keeper)
    assert (await store.reclaim()).returned == 1


async def test_ids_that_ended_before_a_step_back_are_known_no_longer(store: Store) -> None:
    await store.enqueue("a", "b")
    worker = await store.worker()
    a, b = await worker.take()
    await hour_ahead(store, worker)
    await worker.exchange(Settlement.succeeded(a))
    store.clock.ms -= STEP_MS
    await worker.lease.beat()
    await worker.exchange(Settlement.succeeded(b))
    await store.backend.prune([QUEUE], 100)
    # Not at once: whoever enqueues a second time does not know of the clock.
    assert await store.enqueue("a", "b") == [False, False]
    await store.pass_time(3 * store.settings.id_ttl_ms, worker)
    await store.backend.prune([QUEUE], 100)
    assert await store.enqueue("a", "b") == [True, True]
    assert await store.state("a") is State.READY


async def test_what_goes_on_after_a_step_is_counted(store: Store) -> None:
    await store.enqueue("a")
    worker = await store.worker()
    await hour_ahead(store, worker)
    await store.enqueue("b")
    store.clock.ms -= STEP_MS
    # The minutes before were forgotten in the hour ahead.
    await store.enqueue("c")
    await worker.exchange(*map(Settlement.succeeded, await worker.take()))
    (flow,) = await store.backend.inspect.queues.flow([QUEUE])
    assert (flow.enqueued, flow.ended[State.SUCCEEDED]) == (1, 3)
