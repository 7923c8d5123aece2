"""Lanes in turn: a long one does not hold up a short one, and shares count."""

from __future__ import annotations

from collections import Counter

import pytest

from asyncjobs.model.job import State
from asyncjobs.model.terms import Gate
from asyncjobs.testing.conformance.gates import (
    drain,
    enqueue,
    fill,
    finish,
    gate,
    gated,
    use,
)
from asyncjobs.testing.conformance.store import Store, ids, ref

pytestmark = pytest.mark.anyio


def turn(name: str, share: int = 1) -> Gate:
    """A turn without a limit."""
    return Gate((), name, share)


async def lanes(store: Store, **sizes: int) -> None:
    """A lane of so many jobs for each name, one after the other."""
    for name, size in sizes.items():
        await fill(store, size, turn(name), name=f"{name}-")


def by_lane(names: list[str]) -> Counter[str]:
    return Counter(name.partition("-")[0] for name in names)


async def test_a_turn_needs_no_limit(store: Store) -> None:
    await lanes(store, a=3)
    assert await drain(store, await store.worker()) == ["a-0", "a-1", "a-2"]


@pytest.mark.parametrize("slots", [1, 2, 10])
async def test_lanes_are_served_in_turn(store: Store, slots: int) -> None:
    await lanes(store, a=20, b=20)
    worker = await store.worker()
    taken: list[str] = []
    while len(taken) < 20:
        taken += ids(await worker.take(slots))
    counted = by_lane(taken)
    assert abs(counted["a"] - counted["b"]) <= 2


async def test_a_long_lane_delays_a_short_one_by_its_turns_only(store: Store) -> None:
    await lanes(store, long=1_000, short=3)
    worker = await store.worker()
    taken: list[str] = []
    while sum(name.startswith("short") for name in taken) < 3:
        taken += ids(await worker.take(1))
    assert len(taken) <= 8


async def test_a_lane_that_comes_late_is_served_soon(store: Store) -> None:
    await lanes(store, long=400)
    worker = await store.worker()
    await worker.take(100)
    await lanes(store, late=3)
    taken: list[str] = []
    while sum(name.startswith("late") for name in taken) < 3:
        taken += ids(await worker.take(1))
    assert len(taken) <= 8


async def test_a_lane_that_comes_again_and_again_does_not_hold_up_others(store: Store) -> None:
    """One whose jobs come one by one has no more turns than one whose jobs wait."""
    await lanes(store, long=50)
    worker = await store.worker()
    taken: list[str] = []
    for n in range(20):
        await enqueue(store, gated(f"again-{n}", turn("again")))
        taken += ids(await worker.take(1))
    assert by_lane(taken)["long"] >= 8


async def test_lanes_with_larger_shares_get_more(store: Store) -> None:
    await fill(store, 60, turn("large", 3), name="large-")
    await fill(store, 60, turn("small", 1), name="small-")
    worker = await store.worker()
    taken: list[str] = []
    while len(taken) < 40:
        taken += ids(await worker.take(4))
    counted = by_lane(taken)
    assert 27 <= counted["large"] <= 33


async def test_the_newest_share_counts(store: Store) -> None:
    await fill(store, 60, turn("a", 1), name="a-")
    await fill(store, 60, turn("b", 1), name="b-")
    await enqueue(store, gated("a-60", turn("a", 4)))
    worker = await store.worker()
    taken: list[str] = []
    while len(taken) < 40:
        taken += ids(await worker.take(4))
    assert by_lane(taken)["a"] >= 28


async def test_many_lanes_share_one_limit_evenly(store: Store) -> None:
    """One number for all, and a turn for each tenant."""
    shared = use(4, "all", "pool")
    for name in "abcd":
        await fill(store, 10, gate(shared, turn=name), name=f"{name}-")
    worker = await store.worker()
    done: list[str] = []
    jobs = await worker.take()
    while jobs:
        assert len(jobs) <= 4
        done += ids(jobs)
        jobs = await finish(worker, *jobs, slots=100)
    assert len(done) == 40
    # No lane is served twice as often as another one while all of them wait.
    assert set(by_lane(done[:20])) == set("abcd")
    assert min(by_lane(done[:24]).values()) >= 3


async def test_more_lanes_than_permits_all_have_their_turn(store: Store) -> None:
    shared = use(2, "all", "pool")
    jobs = [gated(f"{n:02}-{m}", gate(shared, turn=str(n))) for n in range(30) for m in range(2)]
    await enqueue(store, *jobs)
    done = await drain(store, await store.worker(), slots=5)
    assert sorted(done) == sorted(job.id for job in jobs)
    # Each has its first turn before any has its third, and nobody waits for ever.
    assert len(by_lane(done[:45])) == 30


async def test_a_thousand_lanes(store: Store) -> None:
    jobs = [gated(f"{n}-{m}", gate(use(1, str(n)))) for n in range(1_000) for m in range(2)]
    await enqueue(store, *jobs)
    worker = await store.worker()
    done: list[str] = []
    taken = await worker.take(200)
    while taken:
        assert len(taken) == len(by_lane(ids(taken)))
        done += ids(taken)
        taken = await finish(worker, *taken, slots=200)
    assert sorted(done) == sorted(job.id for job in jobs)


async def test_lanes_that_wait_for_room_do_not_hold_up_others(store: Store) -> None:
    for n in range(50):
        await fill(store, 3, gate(use(1, f"k{n}")), name=f"k{n}-")
    worker = await store.worker()
    assert len(await worker.take()) == 50
    await enqueue(store, gated("free", gate(use(1, "free"))))
    assert ids(await worker.take(1)) == ["free"]


async def test_a_cancelled_job_leaves_its_lane_in_order(store: Store) -> None:
    await lanes(store, a=4)
    await store.backend.cancel([ref("a-0"), ref("a-2")], None, 0)
    assert await drain(store, await store.worker(), slots=1) == ["a-1", "a-3"]
    assert await store.state("a-0") is State.CANCELLED
