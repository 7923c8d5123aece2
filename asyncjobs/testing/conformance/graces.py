"""Leases of different lengths side by side. An outage must cost no live worker its lease."""

from __future__ import annotations

import pytest

from asyncjobs.model.settlement import Settlement
from asyncjobs.testing.conformance.store import LEASE_MS, Store, Worker

pytestmark = pytest.mark.anyio

SHORT_MS = 1_000
SHORT_GRACE_MS = SHORT_MS * 2 // 5


async def reclaim_until(store: Store, short: Worker, until_ms: int) -> int:
    """What a live worker does: it beats and reclaims, up to this time. Leases that ended."""
    ended = 0
    while store.clock.ms < until_ms:
        await short.lease.beat()
        ended += (await store.backend.reclaim(("work",), short.lease.spec.grace_ms, 1000)).leases
        store.clock.ms += SHORT_MS * 3 // 10
    return ended


async def test_a_short_lease_spares_a_live_neighbour_with_a_longer_one(store: Store) -> None:
    await store.enqueue("a")
    long, short = await store.worker(), await store.worker(duration_ms=SHORT_MS)
    held = await long.take_one()
    store.clock.ms += LEASE_MS * 2  # the store was away
    # The longer lease is renewed less often: its worker comes when one grace is nearly over.
    ended = await reclaim_until(store, short, store.clock.ms + long.lease.spec.grace_ms - SHORT_MS)
    assert ended == 0
    assert (await long.lease.beat()).lost == ()
    assert (await long.exchange(Settlement.succeeded(held))).not_yours == []


async def test_a_long_lease_that_nobody_renews_ends_after_its_grace(store: Store) -> None:
    await store.enqueue("a")
    dead, short = await store.worker(), await store.worker(duration_ms=SHORT_MS)
    await dead.take_one()
    store.clock.ms += LEASE_MS * 2
    assert (
        await reclaim_until(store, short, store.clock.ms + dead.lease.spec.grace_ms + SHORT_MS) == 1
    )
    assert [job.crashes for job in await short.take()] == [1]


async def test_a_long_lease_that_comes_back_first_spares_short_ones(store: Store) -> None:
    # An outage that is short for the one is long for the others.
    await store.enqueue("a")
    first, second = [await store.worker(duration_ms=SHORT_MS) for _ in range(2)]
    long = await store.worker()
    held = await second.take_one()
    store.clock.ms += SHORT_MS * 3
    await long.lease.beat()
    store.clock.ms += 1
    await first.lease.beat()
    assert (await store.backend.reclaim(("work",), SHORT_GRACE_MS, 1000)).leases == 0
    assert (await second.lease.beat()).lost == ()
    assert (await second.exchange(Settlement.succeeded(held))).not_yours == []


async def test_a_short_lease_ends_beside_a_long_one_that_beats_seldom(store: Store) -> None:
    # Each beat of the long one comes after a silence, as the short one sees it.
    await store.enqueue("a")
    dead, long = await store.worker(duration_ms=SHORT_MS), await store.worker()
    await dead.take_one()
    began_ms = store.clock.ms
    store.clock.ms += LEASE_MS * 3 // 10
    await long.lease.beat()
    answer = await store.backend.reclaim(("work",), long.lease.spec.grace_ms, 1000)
    while not answer.leases:
        assert answer.again_ms is not None
        store.clock.ms += answer.again_ms
        assert store.clock.ms <= began_ms + LEASE_MS * 3 // 10 + 2 * SHORT_GRACE_MS
        answer = await store.backend.reclaim(("work",), long.lease.spec.grace_ms, 1000)
    assert answer.returned == 1
