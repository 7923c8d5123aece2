"""Actions on jobs that have not started: delete, run now, change. No job that runs is touched."""

from __future__ import annotations

import anyio
import pytest

from asyncjobs.model.job import JobRecord, State
from asyncjobs.model.notes import PROGRESS, Note
from asyncjobs.model.outcome import Outcome, dead_letter
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.changes import Change, Changed, JobChanges, Target
from asyncjobs.store.listing import JobQuery
from asyncjobs.testing.conformance.store import LIMIT_S, SHORT_S, Store, Worker, ids, ref

pytestmark = pytest.mark.anyio


def jobs_of(store: Store) -> JobChanges:
    return store.backend.inspect.jobs


async def chosen(store: Store, state: State) -> list[Target]:
    """All jobs of a state, as a list names them."""
    page = await store.backend.inspect.jobs.page(JobQuery(state, oldest_first=True))
    return [Target(job.ref, job.seen) for job in page.jobs]


async def with_each_state(store: Store) -> Worker:
    """A queue with a job in each state, each named after it, and one that was given back."""
    await store.enqueue("dead", "succeeded", "running", "back")
    worker = await store.worker()
    dead, succeeded, _, back = await worker.take()
    letter = dead_letter(Outcome(State.DEAD).encode(), b"{}")
    await worker.exchange(
        Settlement.dead(dead, letter), Settlement.succeeded(succeeded), Settlement.release(back)
    )
    await store.enqueue("ready")
    await store.enqueue("scheduled", delay_ms=5000)
    return worker


EACH = [
    ref(name)
    for name in ("ready", "scheduled", "back", "running", "dead", "succeeded", "never", "ready")
]


async def test_jobs_that_wait_are_deleted(store: Store) -> None:
    worker = await with_each_state(store)
    verdicts = await jobs_of(store).delete([Target(each) for each in EACH])
    assert verdicts == [
        Changed.DONE,
        Changed.DONE,
        Changed.DONE,
        Changed.RUNNING,
        Changed.GONE,
        Changed.GONE,
        Changed.GONE,
        Changed.GONE,
    ]
    assert await store.state("running") is State.RUNNING
    assert await store.state("dead") is State.DEAD
    assert [await store.find(name) for name in ("ready", "scheduled", "back")] == [None] * 3
    counts = await store.counts()
    assert (sum(counts.ready), counts.running, counts.scheduled) == (0, 1, 0)
    store.clock.ms += 5000
    assert await worker.take() == []
    # They are free for other jobs, which know nothing of these.
    assert await store.enqueue("ready", "scheduled", "back") == [True] * 3
    assert ids(await worker.take()) == ["ready", "scheduled", "back"]


async def test_nothing_is_left_of_a_deleted_job(store: Store) -> None:
    await store.enqueue("a")
    worker = await store.worker()
    taken = await worker.take_one()
    if store.backend.capabilities.notes:
        await worker.lease.note([Note(taken, PROGRESS, b"half")])
    await store.backend.cancel([taken.ref], None, 0)
    await worker.exchange(Settlement.release(taken))
    assert await jobs_of(store).delete([Target(taken.ref)]) == [Changed.DONE]
    await store.enqueue("a")
    answer = await worker.exchange(demand=1)
    assert (ids(answer.jobs), answer.cancels) == (["a"], [])
    if store.backend.capabilities.notes:
        assert await worker.lease.notes(answer.jobs) == [{}]


async def test_who_waits_for_a_deleted_job_hears_of_it(store: Store) -> None:
    await store.enqueue("a", delay_ms=5000)
    record: list[list[JobRecord | None]] = []

    async def wait() -> None:
        record.append(await store.backend.wait_results([ref("a")], LIMIT_S))

    with anyio.fail_after(LIMIT_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            while not record:
                await jobs_of(store).delete([Target(ref("a"))])
                await anyio.sleep(0.01)
    assert record == [[None]]


async def test_scheduled_jobs_run_now(store: Store) -> None:
    worker = await with_each_state(store)
    await worker.settle_signals()
    verdicts = await jobs_of(store).run_now([Target(each) for each in EACH])
    assert verdicts == [
        Changed.READY,
        Changed.DONE,
        Changed.READY,
        Changed.RUNNING,
        Changed.GONE,
        Changed.GONE,
        Changed.GONE,
        Changed.READY,
    ]
    assert await worker.signalled() == ["work"]
    assert (await store.counts()).scheduled == 0
    assert ids(await worker.take()) == ["back", "ready", "scheduled"]


async def test_a_retry_runs_now_with_what_it_carries(store: Store) -> None:
    await store.enqueue("a", priority=1)
    worker = await store.worker()
    taken = await worker.take_one()
    await worker.exchange(Settlement.reschedule(taken, b"second attempt", 60_000))
    assert await jobs_of(store).run_now([Target(ref("a"))]) == [Changed.DONE]
    again = await worker.take_one()
    assert (again.envelope, again.priority) == (b"second attempt", 1)


async def test_a_job_that_has_moved_is_left_alone(store: Store) -> None:
    """It was listed, and then taken, retried, promoted or given back."""
    await store.enqueue("taken", "retried", "stays")
    await store.enqueue("due", delay_ms=1000)
    targets = await chosen(store, State.READY) + await chosen(store, State.SCHEDULED)
    worker = await store.worker()
    _, retried, stays = await worker.take(3)
    await worker.exchange(
        Settlement.reschedule(retried, b"again", 60_000), Settlement.release(stays)
    )
    store.clock.ms += 1000
    await worker.exchange(demand=0)
    # That which was given back has kept its place, so it is where it was chosen.
    expected = [Changed.RUNNING, Changed.MOVED, Changed.DONE, Changed.MOVED]
    assert [target.ref.id for target in targets] == ["taken", "retried", "stays", "due"]
    assert await jobs_of(store).run_now(targets) == [
        Changed.RUNNING,
        Changed.MOVED,
        Changed.READY,
        Changed.MOVED,
    ]
    assert await jobs_of(store).delete(targets) == expected
    assert await store.state("retried") is State.SCHEDULED
    assert await store.state("due") is State.READY
    assert [target.ref.id for target in await chosen(store, State.READY)] == ["due"]


async def test_a_scheduled_job_is_changed(store: Store) -> None:
    await store.enqueue("a", "b", delay_ms=5000, priority=1)
    change = Change(ref("a"), b"a", b"new")
    assert await jobs_of(store).change([change]) == [Changed.DONE]
    record = await store.look("a")
    assert (record.envelope, record.due_ms, record.priority) == (b"new", store.clock.ms + 5000, 1)
    # Somebody else has changed it by now, and this one was made from what stood there before.
    assert await jobs_of(store).change([change]) == [Changed.MOVED]
    store.clock.ms += 5000
    worker = await store.worker()
    found = await worker.take()
    assert sorted((job.id, job.envelope) for job in found) == [("a", b"new"), ("b", b"b")]


async def test_a_ready_job_is_changed_and_goes_to_the_end(store: Store) -> None:
    worker = await with_each_state(store)
    await store.enqueue("last")
    await store.enqueue("low", priority=3)
    await worker.settle_signals()
    changes = [Change(ref(name), name.encode(), b"new") for name in ("ready", "back", "low")]
    assert await jobs_of(store).change(changes) == [Changed.DONE] * 3
    assert await worker.signalled() == ["work"]
    found = await worker.take()
    assert [(job.id, job.envelope) for job in found] == [
        ("last", b"last"),
        ("ready", b"new"),
        ("back", b"new"),
        ("low", b"new"),
    ]
    assert (await worker.exchange(*map(Settlement.succeeded, found))).not_yours == []
    assert (await store.counts()).running == 1


async def test_a_job_is_given_another_time(store: Store) -> None:
    await with_each_state(store)
    now = store.clock.ms
    changes = [
        Change(ref("ready"), b"ready", b"ready", now + 1000),
        Change(ref("back"), b"back", b"back", now + 2000),
        Change(ref("scheduled"), b"scheduled", b"scheduled", now + 3000),
    ]
    assert await jobs_of(store).change(changes) == [Changed.DONE] * 3
    due = [(target.ref.id, target.seen) for target in await chosen(store, State.SCHEDULED)]
    assert due == [
        ("ready", b"%d" % (now + 1000)),
        ("back", b"%d" % (now + 2000)),
        ("scheduled", b"%d" % (now + 3000)),
    ]
    assert await chosen(store, State.READY) == []
    # The time has passed already: at once.
    changes = [change._replace(at_ms=now - 1) for change in changes]
    assert await jobs_of(store).change(changes) == [Changed.DONE] * 3
    worker = await store.worker()
    assert ids(await worker.take()) == ["ready", "back", "scheduled"]


async def test_a_new_earliest_time_signals(store: Store) -> None:
    await store.enqueue("a", "b", delay_ms=60_000)
    worker = await store.worker()
    await worker.settle_signals()
    later = Change(ref("a"), b"a", b"a", store.clock.ms + 90_000)
    assert await jobs_of(store).change([later]) == [Changed.DONE]
    assert await worker.signalled(SHORT_S) == []
    sooner = Change(ref("b"), b"b", b"b", store.clock.ms + 10)
    assert await jobs_of(store).change([sooner]) == [Changed.DONE]
    assert await worker.signalled() == ["work"]
    assert (await worker.exchange(demand=0)).next_due_ms == {"work": store.clock.ms + 10}


async def test_what_has_started_or_ended_is_not_changed(store: Store) -> None:
    worker = await with_each_state(store)
    changes = [
        Change(ref(name), name.encode(), b"new", at_ms)
        for name in ("running", "dead", "succeeded", "never")
        for at_ms in (None, store.clock.ms + 5)
    ]
    expected = [Changed.RUNNING] * 2 + [Changed.GONE] * 6
    assert await jobs_of(store).change(changes) == expected
    assert (await store.look("running")).envelope == b"running"
    assert (await worker.exchange(demand=0)).not_yours == []


async def test_a_job_that_is_to_stop_is_not_changed(store: Store) -> None:
    """It was given back after somebody has asked to stop it. The next worker is told to."""
    await store.enqueue("a")
    worker = await store.worker()
    taken = await worker.take_one()
    await store.backend.cancel([taken.ref], None, 0)
    await worker.exchange(Settlement.release(taken))
    assert await jobs_of(store).change([Change(ref("a"), b"a", b"new")]) == [Changed.MOVED]
    answer = await worker.exchange(demand=1)
    assert ([job.envelope for job in answer.jobs], answer.cancels) == ([b"a"], [taken.ref])


async def test_actions_on_nothing(store: Store) -> None:
    assert await jobs_of(store).delete([]) == []
    assert await jobs_of(store).run_now([]) == []
    assert await jobs_of(store).change([]) == []
    assert await jobs_of(store).delete([Target(ref("a", "never"))]) == [Changed.GONE]
