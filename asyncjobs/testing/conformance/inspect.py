"""What an operator is shown of queues and workers."""

from __future__ import annotations

import pytest

from asyncjobs.model.ends import ENDS
from asyncjobs.model.job import State
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.inspect import Finding, Verdict
from asyncjobs.testing.conformance.store import LEASE_MS, Store, ref

pytestmark = pytest.mark.anyio

MINUTE_MS = 60_000
NOTHING = dict.fromkeys(ENDS, 0)


def at_minute_start(store: Store) -> None:
    store.clock.ms -= store.clock.ms % MINUTE_MS


async def test_flow_counts_each_kind_of_end(store: Store) -> None:
    at_minute_start(store)
    await store.enqueue("a", "b", "c", "d", "e", "f")
    await store.enqueue("later", delay_ms=5000)
    worker = await store.worker()
    a, b, c, d, e, f = await worker.take()
    await worker.exchange(
        Settlement.succeeded(a),
        Settlement.succeeded(b),
        Settlement.dead(c, b"letter"),
        Settlement.discarded(d),
        Settlement.cancelled(e),
        Settlement.reschedule(f, f.envelope, 5000),
    )
    await store.backend.cancel([ref("later")], None, 0)
    (flow,) = await store.backend.inspect.queues.flow(["work"])
    assert (flow.queue, flow.now_ms) == ("work", store.clock.ms)
    assert (flow.enqueued, flow.rescheduled) == (7, 1)
    ended = {State.SUCCEEDED: 2, State.DEAD: 1, State.DISCARDED: 1, State.CANCELLED: 2}
    assert flow.ended == NOTHING | ended


async def test_flow_counts_nothing_that_had_no_effect(store: Store) -> None:
    at_minute_start(store)
    await store.enqueue("a", "a")
    await store.enqueue("a", token="again")
    await store.enqueue("a", token="again")
    worker, other = await store.worker(), await store.worker()
    job = await worker.take_one()
    await worker.exchange(Settlement.release(job))
    stolen = await other.take_one()
    await other.exchange(Settlement.succeeded(stolen))
    await worker.exchange(Settlement.dead(job, b"letter"))
    (flow,) = await store.backend.inspect.queues.flow(["work"])
    assert (flow.enqueued, flow.rescheduled) == (1, 0)
    assert flow.ended == NOTHING | {State.SUCCEEDED: 1}


async def test_flow_is_that_of_the_last_minute(store: Store) -> None:
    at_minute_start(store)
    await store.enqueue(*(f"early-{n}" for n in range(8)))
    numbers = []
    for passed_ms in (59_999, 1, 15_000, 30_000, 15_000):
        store.clock.ms += passed_ms
        (flow,) = await store.backend.inspect.queues.flow(["work"])
        numbers.append(round(flow.enqueued, 1))
    assert numbers == [8, 8, 6, 2, 0]


async def test_old_counters_are_dropped(store: Store) -> None:
    at_minute_start(store)
    await store.enqueue("a")
    # Back by as much as nobody keeps: what was counted must be gone, not hidden.
    store.clock.ms += 10 * MINUTE_MS
    await store.enqueue("b")
    store.clock.ms -= 10 * MINUTE_MS
    (flow,) = await store.backend.inspect.queues.flow(["work"])
    assert flow.enqueued == 0


async def test_the_oldest_ready_job(store: Store) -> None:
    async def oldest() -> int | None:
        (flow,) = await store.backend.inspect.queues.flow(["work"])
        return flow.oldest_ready_ms

    assert await oldest() is None
    await store.enqueue("first", priority=3)
    began_ms = await oldest()
    assert began_ms is not None
    await store.enqueue("urgent", priority=0)
    assert await oldest() == began_ms
    worker = await store.worker()
    urgent, first = await worker.take()
    assert first.ready_ms == began_ms
    assert await oldest() is None
    await worker.exchange(Settlement.succeeded(urgent), Settlement.release(first))
    assert await oldest() == began_ms
    await store.enqueue("scheduled", delay_ms=1000)
    await store.backend.cancel([ref("first")], None, 0)
    assert await oldest() is None


async def test_when_the_first_scheduled_job_is_due(store: Store) -> None:
    async def due_in() -> int | None:
        (flow,) = await store.backend.inspect.queues.flow(["work"])
        return None if flow.next_due_ms is None else flow.next_due_ms - flow.now_ms

    await store.enqueue("ready")
    assert await due_in() is None
    store.clock.ms += 1
    await store.enqueue("late", delay_ms=60_000)
    await store.enqueue("soon", delay_ms=30_000)
    assert await due_in() == 30_000
    store.clock.ms += 31_000
    assert await due_in() == -1_000


async def test_the_oldest_is_the_first_that_is_left(store: Store) -> None:
    await store.enqueue("a", "b", "c")
    worker = await store.worker()
    await worker.take(1)
    (flow,) = await store.backend.inspect.queues.flow(["work"])
    b = await worker.take_one()
    assert (b.id, flow.oldest_ready_ms) == ("b", b.ready_ms)


async def test_flow_of_a_queue_that_never_was(store: Store) -> None:
    assert await store.backend.inspect.queues.flow([]) == []
    (flow,) = await store.backend.inspect.queues.flow(["never"])
    assert (flow.oldest_ready_ms, flow.enqueued, flow.rescheduled) == (None, 0, 0)
    assert flow.ended == NOTHING
    assert await store.backend.inspect.queues.names() == []


async def test_workers_with_what_they_say_of_themselves(store: Store) -> None:
    both = await store.worker("jobs", "mail")
    lease = both.lease
    entries = await store.backend.inspect.workers(["jobs", "mail", "never"])
    assert [(entry.queue, entry.lease) for entry in entries] == [
        ("jobs", lease.spec.id),
        ("mail", lease.spec.id),
    ]
    assert {entry.info for entry in entries} == {lease.spec.info}
    assert {entry.now_ms for entry in entries} == {store.clock.ms}
    assert {entry.end_ms for entry in entries} == {store.clock.ms + LEASE_MS}
    await lease.leave()
    assert await store.backend.inspect.workers(["jobs", "mail"]) == []
    assert await store.backend.inspect.workers([]) == []


async def test_a_worker_whose_lease_is_over_is_shown_until_it_is_reclaimed(store: Store) -> None:
    gone, alive = await store.worker(), await store.worker()
    await store.pass_time(LEASE_MS + 1, alive)
    first, second = await store.backend.inspect.workers(["work"])
    assert (first.lease, second.lease) == (gone.lease.spec.id, alive.lease.spec.id)
    assert first.end_ms < first.now_ms < second.end_ms
    await store.reclaim()
    (left,) = await store.backend.inspect.workers(["work"])
    assert left.lease == alive.lease.spec.id


async def test_findings_are_for_people(store: Store) -> None:
    findings = await store.backend.inspect.diagnose()
    assert findings
    assert all(isinstance(finding, Finding) and finding.found for finding in findings)
    for finding in findings:
        if finding.verdict in (Verdict.WARNING, Verdict.PROBLEM):
            assert finding.change, finding
