"""Large jobs: a script that reads many of them stops after 4 MiB, so that others are answered."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from asyncjobs.model.clock import new_id
from asyncjobs.model.demand import Demand
from asyncjobs.model.job import NewJob, TakenJob
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.lease import Offer
from asyncjobs.store.seam import EnqueueBatch
from asyncjobs.testing.conformance.store import LIMIT_S, QUEUE, Store, Worker, ids

pytestmark = pytest.mark.anyio

MAX_BYTES = 4 * 1024 * 1024
SIZE = 900_000
ENOUGH = MAX_BYTES // SIZE + 1
"""As many of them pass 4 MiB."""


async def enqueue(store: Store, names: Sequence[str], size: int = SIZE, delay_ms: int = 0) -> None:
    for first in range(0, len(names), 8):
        step = names[first : first + 8]
        jobs = [NewJob(QUEUE, name, 2, bytes(size), delay_ms) for name in step]
        await store.backend.enqueue(EnqueueBatch(new_id(), jobs))


def size_of(jobs: Sequence[TakenJob]) -> int:
    return sum(len(job.envelope) for job in jobs)


def names(count: int) -> list[str]:
    return [f"job-{number:03}" for number in range(count)]


async def take_all(worker: Worker, slots: int) -> list[TakenJob]:
    """In as many exchanges as it takes, each of which is bounded."""
    taken: list[TakenJob] = []
    while jobs := await worker.take(slots):
        assert size_of(jobs) < MAX_BYTES + SIZE
        taken += jobs
    return taken


async def test_due_jobs_are_promoted_up_to_a_size(store: Store) -> None:
    await enqueue(store, names(20), delay_ms=1000)
    worker = await store.worker()
    store.clock.ms += 1000
    left, idle = 20, await store.worker()
    while left:
        await idle.settle_signals()
        answer = await worker.exchange(demand=0)
        promoted = min(ENOUGH, left)
        left -= promoted
        assert answer.promoted == ((QUEUE, promoted),)
        # A worker with a free slot comes back at once, for what is left is due.
        due_ms = answer.next_due_ms[QUEUE]
        assert due_ms == (store.clock.ms if left else None)
    assert ids(await take_all(worker, 100)) == names(20)


async def test_due_jobs_that_are_left_signal_the_next_one(store: Store) -> None:
    await enqueue(store, names(ENOUGH + 1), delay_ms=1000)
    worker, idle = await store.worker(), await store.worker()
    store.clock.ms += 1000
    await idle.settle_signals()
    answer = await worker.exchange(demand={QUEUE: Demand(ENOUGH)})
    assert (len(answer.jobs), answer.left_ready) == (ENOUGH, frozenset({QUEUE}))
    assert await idle.signalled(LIMIT_S) == [QUEUE]


@pytest.mark.parametrize("how", ["one by one", "batched", "due", "released"])
async def test_an_exchange_hands_out_up_to_a_size(store: Store, how: str) -> None:
    worker, count = await store.worker(), 3 * ENOUGH
    if how == "one by one":
        for name in names(count):
            job = NewJob(QUEUE, name, 2, bytes(SIZE), has_new_id=True)
            await store.backend.enqueue(EnqueueBatch(new_id(), [job]))
    else:
        await enqueue(store, names(count), delay_ms=1 if how == "due" else 0)
    store.clock.ms += 1
    if how == "released":
        for taken in await take_all(worker, 100):
            await worker.exchange(Settlement.release(taken))
    assert ids(await take_all(worker, 100)) == names(count)


async def test_small_jobs_before_large_ones_do_not_hide_them(store: Store) -> None:
    await enqueue(store, names(40), size=10)
    large = [f"large-{name}" for name in names(3 * ENOUGH)]
    await enqueue(store, large)
    worker = await store.worker()
    assert ids(await take_all(worker, 256)) == names(40) + large


async def test_an_offer_brings_up_to_a_size(store: Store) -> None:
    await enqueue(store, names(2 * ENOUGH))
    worker, sequence = await store.worker(), 0
    taken: list[TakenJob] = []
    while len(taken) < 2 * ENOUGH:
        sequence += 1
        demand = {QUEUE: Demand(2 * ENOUGH)}
        parked = await worker.lease.park(0.01, Offer(sequence, demand))
        assert parked.exchange is not None
        assert size_of(parked.exchange.jobs) < MAX_BYTES + SIZE
        taken += parked.exchange.jobs
        assert parked.exchange.left_ready == ({QUEUE} if len(taken) < 2 * ENOUGH else set())
    assert ids(taken) == names(2 * ENOUGH)


async def test_a_resync_finds_all_large_jobs(store: Store) -> None:
    await enqueue(store, names(2 * ENOUGH))
    worker = await store.worker()
    taken = await take_all(worker, 100)
    answer = await worker.lease.resync(worker.sequence + 1, taken[:1])
    assert sorted(answer.missing) == sorted(taken[1:])
