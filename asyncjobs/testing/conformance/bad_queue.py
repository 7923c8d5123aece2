"""One queue of a worker fails, whatever is asked of it. The other queues are served."""

from __future__ import annotations

import re

import pytest

from asyncjobs.errors import StoreError
from asyncjobs.model.clock import new_id
from asyncjobs.model.demand import Demand
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.lease import LeaseSpec
from asyncjobs.testing.conformance.spoiled import BAD, Part, Spoil
from asyncjobs.testing.conformance.store import GRACE_MS, LEASE_MS, Store, Worker, ids

pytestmark = pytest.mark.anyio

QUEUES = ("one", BAD, "two")
SOUND = ["one", "two"]


async def _fill(store: Store, *queues: str) -> None:
    for queue in queues:
        await store.enqueue(f"{queue}-a", f"{queue}-b", queue=queue)


def _demand(slots: int) -> dict[str, Demand]:
    return {queue: Demand(slots) for queue in QUEUES}


async def test_its_lease_is_the_only_one_that_is_not_entered(store: Store, spoil: Spoil) -> None:
    await spoil(Part.LEASES)
    lease = await store.backend.lease(LeaseSpec(new_id(), "worker", QUEUES, LEASE_MS))
    answer = lease.entered
    assert list(answer.away) == [BAD]
    assert answer.now_ms == store.clock.ms
    await _fill(store, *SOUND)
    worker = Worker(store.backend, lease)
    exchange = await worker.exchange(demand=_demand(10))
    assert list(exchange.away) == [BAD]
    assert sorted(ids(exchange.jobs)) == ["one-a", "one-b", "two-a", "two-b"]
    await spoil.mend(Part.LEASES)
    assert not (await lease.rejoin([BAD])).away
    assert not (await worker.exchange(demand=_demand(10))).away


async def test_its_settlements_are_the_only_ones_in_doubt(store: Store, spoil: Spoil) -> None:
    worker = await store.worker(*QUEUES)
    await _fill(store, *QUEUES)
    jobs = await worker.take()
    assert len(jobs) == 6
    await spoil(Part.PLACES)
    ends = [Settlement.succeeded(job) for job in jobs]
    answer = await worker.exchange(*ends, demand=_demand(5))
    assert list(answer.away) == [BAD]
    assert re.search(spoil.error, str(answer.away[BAD]))
    assert (answer.not_yours, answer.lost, answer.jobs) == ([], (), [])
    assert answer.now_ms == store.clock.ms
    for queue in SOUND:
        assert (await store.counts(queue)).running == 0
    await spoil.mend()


async def test_what_it_may_have_handed_out_is_found_by_a_resync_of_it_alone(
    store: Store, spoil: Spoil
) -> None:
    worker = await store.worker(*QUEUES)
    await _fill(store, *QUEUES)
    held = await worker.take(1)
    await spoil(Part.DUE_TIMES)
    assert list((await worker.exchange(demand=_demand(5))).away) == [BAD]
    await spoil.mend(Part.DUE_TIMES)
    worker.sequence += 1
    answer = await worker.lease.resync(worker.sequence, held, [BAD])
    assert set(answer.applied) == {BAD}
    assert not answer.lost
    assert not answer.away
    # The other queues were asked nothing, so their sequence goes on as before.
    assert not (await worker.exchange(demand=_demand(0))).away


async def test_a_resync_of_all_says_which_is_away(store: Store, spoil: Spoil) -> None:
    worker = await store.worker(*QUEUES)
    await _fill(store, *QUEUES)
    held = await worker.take(1)
    await spoil(Part.LEASES)
    worker.sequence += 1
    answer = await worker.lease.resync(worker.sequence, held)
    assert (sorted(answer.applied), answer.lost, list(answer.away)) == (SOUND, (), [BAD])
    await spoil.mend()


async def test_the_others_are_renewed(store: Store, spoil: Spoil) -> None:
    worker = await store.worker(*QUEUES)
    await _fill(store, *SOUND)
    await spoil(Part.UPKEEP)
    for _ in range(3):
        await store.pass_time(LEASE_MS // 2, worker)
    beat = await worker.lease.beat()
    assert (beat.lost, list(beat.away)) == ((), [BAD])
    assert sorted(beat.ready) == SOUND
    entries = await store.backend.inspect.workers(SOUND)
    assert all(entry.end_ms == store.clock.ms + LEASE_MS for entry in entries)
    await spoil.mend(Part.UPKEEP)
    assert not (await worker.lease.beat()).away


async def test_the_jobs_of_the_dead_come_back(store: Store, spoil: Spoil) -> None:
    dead, alive = await store.worker(*QUEUES), await store.worker(*QUEUES)
    await _fill(store, *QUEUES)
    assert len(await dead.take()) == 6
    await store.pass_time(LEASE_MS + 1, alive)
    await spoil(Part.LEAVING)
    answer = await store.backend.reclaim(QUEUES, GRACE_MS, 100)
    assert (answer.returned, answer.leases, list(answer.away)) == (4, 2, [BAD])
    assert answer.now_ms == store.clock.ms
    await spoil.mend(Part.LEAVING)
    answer = await store.backend.reclaim(QUEUES, GRACE_MS, 100)
    assert (answer.leases, dict(answer.away)) == (1, {})


async def test_the_others_are_pruned(store: Store, spoil: Spoil) -> None:
    worker = await store.worker("one")
    await store.enqueue("a", queue="one")
    await store.enqueue("b", queue=BAD)
    await worker.exchange(Settlement.dead(await worker.take_one(), b"{}\n{}"))
    await store.pass_time(store.settings.dead_max_age_ms + 1)
    await spoil(Part.DEATHS)
    with pytest.raises(StoreError, match=spoil.error):
        await store.backend.prune([BAD, "one"], 10)
    assert (await store.counts("one")).dead == 0
    await spoil.mend(Part.DEATHS)


async def test_the_others_are_left(store: Store, spoil: Spoil) -> None:
    worker = await store.worker(*QUEUES)
    await _fill(store, *QUEUES)
    await worker.take()
    await spoil(Part.LEASES)
    with pytest.raises(StoreError, match=spoil.error):
        await worker.lease.leave()
    for queue in SOUND:
        assert (await store.counts(queue)).ready == (0, 0, 2, 0)
    await spoil.mend()


async def test_the_others_signal(store: Store, spoil: Spoil) -> None:
    worker = await store.worker(*QUEUES)
    await worker.settle_signals()
    await spoil(Part.SIGNALS)
    assert await worker.signalled(0.01) == []
    await store.enqueue("a", queue="two")
    assert await worker.signalled() == ["two"]
    await spoil.mend(Part.SIGNALS)
    await store.enqueue("a", queue=BAD)
    assert await worker.signalled() == [BAD]


async def test_whatever_is_spoiled(store: Store, spoil: Spoil, any_part: str) -> None:
    """The other queues work from the entry of a lease to its end."""
    await _fill(store, BAD)
    await spoil(any_part)
    lease = await store.backend.lease(LeaseSpec(new_id(), "worker", QUEUES, LEASE_MS))
    assert not set(lease.entered.away) - {BAD}
    worker = Worker(store.backend, lease)
    await _fill(store, *SOUND)
    first = await worker.exchange(demand=_demand(1))
    ours = [job for job in first.jobs if job.queue != BAD]
    assert sorted(ids(ours)) == ["one-a", "two-a"]
    ends = [Settlement.succeeded(job, b"{}", 1000) for job in first.jobs]
    second = await worker.exchange(*ends, demand=_demand(5))
    assert sorted(ids([job for job in second.jobs if job.queue != BAD])) == ["one-b", "two-b"]
    assert not [end for end in second.not_yours if end.job.queue != BAD]
    worker.sequence += 1
    answer = await lease.resync(worker.sequence, first.jobs)
    assert set(SOUND) <= set(answer.applied)
    beat = await lease.beat()
    assert not {*beat.lost, *beat.away} - {BAD}
    assert not set((await store.reclaim(*QUEUES)).away) - {BAD}
    await store.enqueue("c", queue="two")
    assert await worker.signalled() in (["one"], ["two"], [BAD])
    await spoil.mend()
