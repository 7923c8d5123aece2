"""An id is used again when it is not known any more. Nothing of the first job meets the second."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from asyncjobs.model.job import NewJob, State
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.seam import EnqueueBatch
from asyncjobs.testing.conformance.store import Store, Worker, outcome, ref

pytestmark = pytest.mark.anyio

RESULT_TTL_MS = 3_600_000
"""Longer than an id stays known: that is when an old result can meet a new job."""


async def _finish(store: Store, worker: Worker, *names: str, value: str) -> None:
    """Run these jobs, and keep a result of each."""
    await store.enqueue(*names)
    ends = [
        Settlement.succeeded(job, outcome(value=value), RESULT_TTL_MS)
        for job in await worker.take(len(names))
    ]
    await worker.exchange(*ends)


async def _forget_ids(store: Store, worker: Worker) -> None:
    await store.pass_time(3 * store.settings.id_ttl_ms, worker)


async def _outcomes(store: Store, names: Sequence[str]) -> list[bytes | None]:
    found = await store.backend.get([ref(name) for name in names])
    return [record and record.outcome for record in found]


@pytest.mark.parametrize("delay_ms", [0, 1000])
async def test_without_a_result_it_has_not_that_of_the_first_one(
    store: Store, delay_ms: int
) -> None:
    worker = await store.worker()
    await _finish(store, worker, "a", value="first")
    await _forget_ids(store, worker)
    assert await store.enqueue("a", delay_ms=delay_ms) == [True]
    await store.pass_time(delay_ms, worker)
    await worker.exchange(Settlement.succeeded(await worker.take_one()))
    record = await store.look("a")
    assert (record.state, record.outcome) == (State.SUCCEEDED, None)
    (waited,) = await store.backend.wait_results([ref("a")], 0.01)
    assert waited is not None
    assert waited.outcome is None


async def test_nor_once_it_is_forgotten_too(store: Store) -> None:
    worker = await store.worker()
    await _finish(store, worker, "a", value="first")
    await _forget_ids(store, worker)
    await store.enqueue("a")
    await worker.exchange(Settlement.succeeded(await worker.take_one()))
    await _forget_ids(store, worker)
    assert await store.find("a") is None


async def test_whatever_became_of_the_second_one(store: Store) -> None:
    worker = await store.worker()
    for end in (Settlement.discarded, Settlement.cancelled):
        await _finish(store, worker, "a", value="first")
        await _forget_ids(store, worker)
        await store.enqueue("a")
        await worker.exchange(end(await worker.take_one()))
        assert await _outcomes(store, ["a"]) == [None]
        await _forget_ids(store, worker)
        assert await store.find("a") is None


async def test_each_job_of_a_batch_is_rid_of_it(store: Store) -> None:
    names = [f"n{number}" for number in range(1200)]
    worker = await store.worker()
    await _finish(store, worker, *names, value="first")
    await _forget_ids(store, worker)
    # Ids that were made for their jobs, beside: of these the store looks nothing up.
    made = [NewJob("work", f"made-{n}", 2, b"{}", has_new_id=True) for n in range(3)]
    given = [NewJob("work", name, 2, b"{}", delay_ms=n % 2) for n, name in enumerate(names)]
    await store.backend.enqueue(EnqueueBatch("again", [*made, *given]))
    await store.pass_time(1, worker)
    jobs = await worker.take(2000)
    assert len(jobs) == 1203
    await worker.exchange(*(Settlement.succeeded(job) for job in jobs))
    assert set(await _outcomes(store, names)) == {None}


async def test_a_result_stays_when_the_id_is_still_known(store: Store) -> None:
    worker = await store.worker()
    await _finish(store, worker, "a", value="first")
    assert await store.enqueue("a", "b") == [False, True]
    assert await _outcomes(store, ["a"]) == [outcome(value="first")]


async def test_a_batch_that_is_sent_again_takes_no_result_away(store: Store) -> None:
    """Its job may have finished meanwhile, and that result is its own."""
    worker = await store.worker()
    await store.enqueue("a", token="once")
    end = Settlement.succeeded(await worker.take_one(), outcome(value="own"), RESULT_TTL_MS)
    await worker.exchange(end)
    assert await store.enqueue("a", token="once") == [True]
    assert await _outcomes(store, ["a"]) == [outcome(value="own")]


async def test_the_dead_letter_of_the_first_one_is_not_the_end_of_the_second(
    store: Store,
) -> None:
    worker = await store.worker()
    await store.enqueue("a")
    letter = outcome(State.DEAD) + b"\nenvelope"
    await worker.exchange(Settlement.dead(await worker.take_one(), letter))
    await _forget_ids(store, worker)
    await store.enqueue("a")
    await worker.exchange(Settlement.succeeded(await worker.take_one()))
    record = await store.look("a")
    assert (record.state, record.dead_letter) == (State.SUCCEEDED, None)
    assert (await store.counts()).dead == 1  # it is kept all the same


async def test_a_job_that_is_dead_shows_its_letter(store: Store) -> None:
    worker = await store.worker()
    await store.enqueue("a")
    letter = outcome(State.DEAD) + b"\nenvelope"
    await worker.exchange(Settlement.dead(await worker.take_one(), letter))
    assert (await store.look("a")).dead_letter == letter
    await _forget_ids(store, worker)
    assert (await store.look("a")).dead_letter == letter
