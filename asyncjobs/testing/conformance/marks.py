"""Cancel marks belong to the lease that runs the job: others must not pay for them."""

from __future__ import annotations

import pytest

from asyncjobs.model.settlement import Settlement
from asyncjobs.store.answers import CancelVerdict
from asyncjobs.store.lease import LeaseSpec
from asyncjobs.testing.conformance.store import (
    LEASE_MS,
    Store,
    Worker,
    ids,
    ref,
)

pytestmark = pytest.mark.anyio

MOST_TOLD = 100


async def test_an_exchange_tells_of_some_marks_and_a_heartbeat_of_all(store: Store) -> None:
    names = {f"job-{number:03}" for number in range(250)}
    await store.enqueue(*sorted(names))
    worker, other = await store.worker(), await store.worker()
    jobs = {job.id: job for job in await worker.take(250)}
    verdicts = await store.backend.cancel([ref(name) for name in names], None, 0)
    assert set(verdicts) == {CancelVerdict.REQUESTED}
    heard = set[str]()
    while jobs:
        beat = await worker.lease.beat()
        assert {one.id for one in beat.cancels} == jobs.keys()
        told = [one.id for one in (await worker.exchange()).cancels]
        assert len(told) == len(set(told)) == min(MOST_TOLD, len(jobs))
        answer = await worker.exchange(*(Settlement.cancelled(jobs.pop(id)) for id in told))
        assert answer.not_yours == []
        heard.update(told)
    assert heard == names
    assert (await worker.lease.beat()).cancels == []
    assert (await other.lease.beat()).cancels == []


async def test_marks_of_others_are_neither_told_nor_touched(store: Store) -> None:
    await store.enqueue("theirs", "retried", "released", "done")
    holder = await store.worker()
    theirs = await holder.take_one()
    worker = await store.worker()
    retried, released, done = await worker.take()
    await store.backend.cancel([theirs.ref], None, 0)
    answer = await worker.exchange(
        Settlement.reschedule(retried, b"again", 0),
        Settlement.release(released),
        Settlement.succeeded(done),
        demand=5,
    )
    assert (sorted(ids(answer.jobs)), answer.cancels) == (["released", "retried"], [])
    assert (await holder.lease.beat()).cancels == [theirs.ref]
    assert list((await holder.exchange()).cancels) == [theirs.ref]


async def test_leases_whose_names_begin_alike_have_marks_of_their_own(store: Store) -> None:
    await store.enqueue("a", "b")
    first = await store.worker()
    longer = LeaseSpec(first.lease.spec.id + "0", "worker", ("work",), LEASE_MS)
    second = Worker(store.backend, await store.backend.lease(longer))
    (a,), (b,) = await first.take(1), await second.take(1)
    await store.backend.cancel([a.ref, b.ref], None, 0)
    for worker, job in ((first, a), (second, b)):
        assert (await worker.lease.beat()).cancels == [job.ref]
        assert list((await worker.exchange()).cancels) == [job.ref]


async def test_a_mark_that_comes_with_its_job_is_told_whatever_else_is_marked(
    store: Store,
) -> None:
    names = [f"job-{number:03}" for number in range(MOST_TOLD + 20)]
    await store.enqueue("z-given-back")
    giver = await store.worker()
    given = await giver.take_one()
    await store.backend.cancel([given.ref], None, 0)
    await store.enqueue(*names)
    worker = await store.worker()
    assert len(await worker.take(len(names))) == len(names)
    await store.backend.cancel([ref(name) for name in names], None, 0)
    await giver.exchange(Settlement.release(given))
    assert (await giver.lease.beat()).cancels == []
    answer = await worker.exchange(demand=1)
    assert ids(answer.jobs) == ["z-given-back"]
    assert given.ref in answer.cancels
