"""A worker whose process was seen to end: its jobs come back at once, not when its lease ends."""

from __future__ import annotations

import pytest

from asyncjobs.model.settlement import Settlement
from asyncjobs.store.answers import Reclaimed
from asyncjobs.testing.conformance.store import LEASE_MS, Store, Worker

pytestmark = pytest.mark.anyio


async def end(store: Store, worker: Worker, *queues: str, limit: int = 1000) -> Reclaimed:
    """What its parent does, which has seen its process end."""
    spec = worker.lease.spec
    return await store.backend.reclaim(queues or spec.queues, spec.grace_ms, limit, dead=spec.id)


async def test_its_jobs_are_ready_at_once_and_charged(store: Store) -> None:
    await store.enqueue("a", "b", "c")
    dead, other = await store.worker(), await store.worker()
    await dead.take(2)
    answer = await end(store, dead)
    assert (answer.returned, answer.leases) == (2, 1)
    assert [(job.id, job.crashes) for job in await other.take()] == [("a", 1), ("b", 1), ("c", 0)]


async def test_others_keep_their_leases(store: Store) -> None:
    await store.enqueue("a", "b")
    dead, other = await store.worker(), await store.worker()
    await dead.take_one()
    held = await other.take_one()
    assert (await end(store, dead)).leases == 1
    assert (await other.lease.beat()).lost == ()
    assert (await other.exchange(Settlement.succeeded(held))).not_yours == []


async def test_who_waits_is_signalled(store: Store) -> None:
    await store.enqueue("a")
    dead, other = await store.worker(), await store.worker()
    await dead.take_one()
    await other.settle_signals()
    await end(store, dead)
    assert await other.signalled() == ["work"]


async def test_the_next_end_of_a_lease_is_that_of_another_one(store: Store) -> None:
    dead = await store.worker()
    store.clock.ms += LEASE_MS // 2
    await store.worker()
    answer = await end(store, dead)
    assert answer.again_ms == LEASE_MS + 1


async def test_a_heartbeat_on_its_way_finds_the_lease_lost(store: Store) -> None:
    dead = await store.worker()
    await end(store, dead)
    assert (await dead.lease.beat()).lost == ("work",)


async def test_an_exchange_on_its_way_settles_nothing(store: Store) -> None:
    await store.enqueue("a")
    dead, other = await store.worker(), await store.worker()
    held = await dead.take_one()
    await end(store, dead)
    late = await dead.exchange(Settlement.succeeded(held))
    assert late.lost == ("work",)
    assert (await other.take_one()).id == "a"


async def test_a_planned_end_charges_nobody(store: Store) -> None:
    await store.enqueue("a")
    dead, other = await store.worker(), await store.worker()
    await dead.take_one()
    await dead.lease.beat(leaves=True)
    await end(store, dead)
    assert (await other.take_one()).crashes == 0


async def test_no_silence_spares_it(store: Store) -> None:
    """After an outage live workers get time to renew; who is dead needs none."""
    await store.enqueue("a")
    dead, other = await store.worker(), await store.worker()
    await dead.take_one()
    store.clock.ms += LEASE_MS * 2
    answer = await end(store, dead)
    assert (answer.returned, answer.leases) == (1, 1)
    assert (await other.lease.beat()).lost == ()


async def test_in_a_queue_that_was_entered_again_it_ends_too(store: Store) -> None:
    await store.enqueue("a")
    dead, other = await store.worker(), await store.worker()
    await store.end_leases(other)
    await dead.lease.rejoin(["work"])
    await dead.take_one()
    answer = await end(store, dead)
    assert (answer.returned, answer.leases) == (1, 1)


async def test_it_ends_in_each_of_its_queues(store: Store) -> None:
    await store.enqueue("a", queue="one")
    await store.enqueue("b", queue="two")
    dead = await store.worker("one", "two")
    await dead.take()
    answer = await end(store, dead)
    assert (answer.returned, answer.leases) == (2, 2)


async def test_many_jobs_come_back_in_bounded_steps(store: Store) -> None:
    await store.enqueue("a", "b", "c")
    dead = await store.worker()
    await dead.take()
    first = await end(store, dead, limit=2)
    assert (first.returned, first.again_ms) == (2, 0)
    second = await end(store, dead, limit=2)
    assert (second.returned, second.again_ms) == (1, None)


async def test_a_lease_that_has_left_is_no_error(store: Store) -> None:
    gone = await store.worker()
    await gone.lease.leave()
    answer = await end(store, gone)
    assert (answer.returned, answer.leases, answer.again_ms) == (0, 0, None)


async def test_an_id_that_begins_alike_is_another_lease(store: Store) -> None:
    other = await store.worker()
    spec = other.lease.spec
    answer = await store.backend.reclaim(("work",), spec.grace_ms, 1000, dead=spec.id[:-1])
    assert answer.leases == 0
    assert (await other.lease.beat()).lost == ()
