"""A batch for several queues, one of which takes nothing. The others have their jobs."""

from __future__ import annotations

import re

import pytest

from asyncjobs.errors import StoreError
from asyncjobs.model.job import NewJob
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.seam import EnqueueBatch
from asyncjobs.testing.conformance.spoiled import BAD, Part, Spoil
from asyncjobs.testing.conformance.store import Store, are_new, ids

pytestmark = pytest.mark.anyio


def _job(queue: str, id: str, *, has_new_id: bool = False, delay_ms: int = 0) -> NewJob:
    return NewJob(queue, id, 2, b"{}", delay_ms, has_new_id=has_new_id)


@pytest.mark.parametrize("has_new_id", [False, True])
async def test_a_queue_that_refuses_does_so_alone(
    store: Store, spoil: Spoil, has_new_id: bool
) -> None:
    await spoil(Part.NORMAL)
    jobs = [_job(queue, f"{queue}-1", has_new_id=has_new_id) for queue in ("one", BAD, "two")]
    answer = await store.backend.enqueue(EnqueueBatch("token", jobs))
    assert (answer.places[0], answer.places[2]) == (None, None)
    assert list(answer.refused) == [BAD]
    assert isinstance(answer.refused[BAD], StoreError)
    worker = await store.worker("one", "two")
    assert sorted(ids(await worker.take())) == ["one-1", "two-1"]
    await spoil.mend(Part.NORMAL)


async def test_a_lone_job_that_is_refused(store: Store, spoil: Spoil) -> None:
    await spoil(Part.NORMAL)
    batch = EnqueueBatch("token", [_job(BAD, "a", has_new_id=True)])
    answer = await store.backend.enqueue(batch)
    assert len(answer.places) == 1
    assert re.search(spoil.error, str(answer.refused[BAD]))
    await spoil.mend(Part.NORMAL)


@pytest.mark.parametrize("part", [Part.NORMAL, Part.DUE_TIMES, Part.SCHEDULED])
@pytest.mark.parametrize("has_new_id", [False, True])
@pytest.mark.parametrize("number", [1, 3])
async def test_what_was_refused_is_stored_when_it_is_sent_again(
    store: Store, spoil: Spoil, part: Part, has_new_id: bool, number: int
) -> None:
    """The same batch is sent again, as after a lost reply. Its token must not say that the jobs are
    there."""
    delay_ms = 0 if part is Part.NORMAL else 1000
    jobs = [_job(BAD, f"j{n}", has_new_id=has_new_id, delay_ms=delay_ms) for n in range(number)]
    batch = EnqueueBatch("token", jobs)
    await spoil(part)
    assert list((await store.backend.enqueue(batch)).refused) == [BAD]
    await spoil.mend(part)
    assert are_new((await store.backend.enqueue(batch)).places) == [True] * number
    await store.pass_time(delay_ms)
    worker = await store.worker(BAD)
    taken = await worker.take()
    assert ids(taken) == [job.id for job in jobs]
    await worker.exchange(*(Settlement.succeeded(job) for job in taken))
