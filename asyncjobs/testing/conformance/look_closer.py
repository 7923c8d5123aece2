"""What the record of a running job says about its holder, and which jobs were put back."""

from __future__ import annotations

import orjson
import pytest

from asyncjobs.model.job import State
from asyncjobs.model.settlement import Settlement
from asyncjobs.testing.conformance.store import Store

pytestmark = pytest.mark.anyio

SOON_MS = 10_000
"""A server tells how long a job is held by its own clock, while the test's stands still."""


async def test_a_running_job_tells_since_when(store: Store) -> None:
    await store.enqueue("waits", "runs")
    assert (await store.look("runs")).taken_ms is None
    worker = await store.worker()
    job = await worker.take_one()
    record = await store.look(job.id)
    assert record.state is State.RUNNING
    assert record.taken_ms is not None
    assert store.clock.ms - SOON_MS <= record.taken_ms <= store.clock.ms
    assert record.is_cancelled is False
    await worker.exchange(Settlement.release(job))
    record = await store.look(job.id)
    assert (record.taken_ms, record.is_cancelled) == (None, False)


async def test_one_that_was_asked_to_stop_says_so_until_its_end(store: Store) -> None:
    await store.enqueue("a", "b")
    worker = await store.worker()
    job, other = await worker.take()
    await store.backend.cancel([job.ref], None, 0)
    assert (await store.look(job.id)).is_cancelled is True
    assert (await store.look(other.id)).is_cancelled is False
    await worker.exchange(Settlement.cancelled(job))
    assert (await store.look(job.id)).is_cancelled is False


async def test_jobs_that_were_put_back(store: Store) -> None:
    await store.enqueue("known", "unknown", "looks-like-it")
    await store.enqueue("other", queue="quiet")
    worker = await store.worker()
    envelopes = {
        "known": b'{"v":1,"f":"known"}',
        "unknown": orjson.dumps({"v": 1, "f": "unknown", "h": {"unknown_times": 1}}),
        "looks-like-it": orjson.dumps({"v": 1, "f": "known", "a": ['"unknown_times":']}),
    }
    for job in await worker.take():
        await worker.exchange(Settlement.reschedule(job, envelopes[job.id], 1_000))
    found, none, never = await store.backend.inspect.queues.put_back(
        ["work", "quiet", "never"], 100
    )
    assert found == [envelopes["unknown"]]
    assert (none, never) == ([], [])
    assert await store.backend.inspect.queues.put_back([], 100) == []


async def test_only_those_that_are_due_first_are_looked_at(store: Store) -> None:
    await store.enqueue(*(f"job-{number}" for number in range(5)))
    worker = await store.worker()
    for number, job in enumerate(await worker.take()):
        envelope = orjson.dumps({"f": number, "h": {"unknown_times": 1}})
        await worker.exchange(Settlement.reschedule(job, envelope, 1_000 * (5 - number)))
    (found,) = await store.backend.inspect.queues.put_back(["work"], 2)
    assert [orjson.loads(raw)["f"] for raw in found] == [4, 3]
