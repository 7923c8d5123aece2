"""A job that meets its unique key held: it replaces the holder, or is held until that has ended."""

from __future__ import annotations

import pytest

from asyncjobs.model.job import State
from asyncjobs.model.notes import Note
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.answers import CancelVerdict
from asyncjobs.store.changes import Change, Changed, Target
from asyncjobs.store.control import Purge
from asyncjobs.store.letters import Revived
from asyncjobs.testing.conformance.store import SHORT_S, Store, ids, outcome, ref
from asyncjobs.testing.conformance.unique import (
    ENDS,
    HOUR_MS,
    LATEST,
    REPLACE,
    STARTED,
    WINDOW,
    dead,
    enqueue,
    held,
    new,
    replaced,
    running,
    there,
)

pytestmark = pytest.mark.anyio


# Replacing


@pytest.mark.parametrize("delay_ms", [0, 1000])
async def test_a_waiting_holder_is_replaced(store: Store, delay_ms: int) -> None:
    await enqueue(store, new("a", delay_ms=delay_ms), new("other", None))
    second = new("b", REPLACE, priority=1, delay_ms=500, envelope=b"newest")
    assert await enqueue(store, second) == [replaced("a")]
    record = await store.look("a")
    assert (record.state, record.priority, record.envelope) == (State.SCHEDULED, 1, b"newest")
    assert record.due_ms == store.clock.ms + 500
    assert await enqueue(store, new("c", REPLACE, priority=3, envelope=b"now")) == [replaced("a")]
    worker = await store.worker()
    taken = await worker.take()
    assert [(job.id, job.envelope) for job in taken] == [("other", b"other"), ("a", b"now")]
    counts = await store.counts()
    assert (sum(counts.ready), counts.running, counts.scheduled) == (0, 2, 0)


async def test_a_new_earliest_time_of_a_holder_signals(store: Store) -> None:
    worker = await store.worker()
    await enqueue(store, new("a", delay_ms=5000))
    await worker.settle_signals()
    await enqueue(store, new("b", REPLACE, delay_ms=1000))
    assert await worker.signalled() == ["work"]
    await enqueue(store, new("b", REPLACE))
    assert await worker.signalled() == ["work"]


async def test_what_has_started_is_not_replaced(store: Store) -> None:
    await enqueue(store, new("a"))
    worker = await store.worker()
    taken = await worker.take_one()
    assert await enqueue(store, new("b", REPLACE)) == [there("a")]
    # Nor while it waits for its next attempt.
    await worker.exchange(Settlement.reschedule(taken, b"again", 1000))
    assert await enqueue(store, new("b", REPLACE)) == [there("a")]
    await store.enqueue("other", delay_ms=1000)
    store.clock.ms += 1000
    both = await worker.take()
    await worker.exchange(*(Settlement.release(job) for job in both))
    assert await enqueue(store, new("b", REPLACE)) == [there("a")]
    assert {job.id: job.envelope for job in await worker.take()}["a"] == b"again"


async def test_a_retry_that_is_ready_is_not_replaced(store: Store) -> None:
    await enqueue(store, new("a"))
    worker = await store.worker()
    await worker.exchange(Settlement.reschedule(await worker.take_one(), b"again", 1000))
    store.clock.ms += 1000
    await worker.exchange()
    assert await store.state("a") is State.READY
    assert await enqueue(store, new("b", REPLACE)) == [there("a")]


async def test_the_time_of_a_lock_starts_again(store: Store) -> None:
    await enqueue(store, new("a"))
    store.clock.ms += HOUR_MS - 1
    assert await enqueue(store, new("b", REPLACE, delay_ms=1000)) == [replaced("a")]
    store.clock.ms += HOUR_MS + 999
    assert await enqueue(store, new("c")) == [there("a")]
    store.clock.ms += 1
    assert await enqueue(store, new("c")) == [None]


async def test_a_debounced_job_has_a_latest_time(store: Store) -> None:
    """The last call wins and the time starts again, up to a limit from the first call."""
    debounce = STARTED._replace(replace=True, latest_ms=2500)
    began_ms = store.clock.ms
    assert await enqueue(store, new("a", debounce, delay_ms=1000)) == [None]
    for call, due_ms in enumerate([1900, 2500, 2500], start=1):
        store.clock.ms += 900
        job = new(f"b{call}", debounce, delay_ms=1000, envelope=b"%d" % call)
        assert await enqueue(store, job) == [replaced("a")]
        if call < 3:
            assert (await store.look("a")).due_ms == began_ms + due_ms
    worker = await store.worker()
    taken = await worker.take_one()
    assert (taken.id, taken.envelope) == ("a", b"3")
    # It has started: the next call begins anew.
    assert await enqueue(store, new("c", debounce, delay_ms=1000)) == [None]


async def test_a_debounced_job_keeps_its_place_at_its_latest_time(store: Store) -> None:
    """Calls that come faster than the queue moves would else keep it waiting for ever."""
    debounce = STARTED._replace(replace=True, latest_ms=2500)
    await enqueue(store, new("a", debounce, delay_ms=1000))
    worker = await store.worker()
    store.clock.ms += 1000
    # It is ready, and its quiet time begins again.
    await worker.exchange()
    assert await enqueue(store, new("b", debounce, delay_ms=1000)) == [replaced("a")]
    assert await store.state("a") is State.SCHEDULED
    store.clock.ms += 1500
    assert await enqueue(store, new("c", debounce, delay_ms=1000)) == [replaced("a")]
    await enqueue(store, new("behind", None))
    assert await enqueue(store, new("d", debounce, delay_ms=1000)) == [None]
    assert await enqueue(store, new("e", debounce, delay_ms=1000)) == [replaced("d")]
    taken = await worker.take()
    assert [(job.id, job.envelope) for job in taken] == [("a", b"c"), ("behind", b"behind")]
    await worker.exchange(*map(Settlement.succeeded, taken))
    # What became of the first one is nothing to the key of the second.
    assert await enqueue(store, new("f", debounce, delay_ms=1000)) == [replaced("d")]


async def test_a_window_is_not_prolonged_by_a_replacement(store: Store) -> None:
    await enqueue(store, new("a", WINDOW, delay_ms=1000))
    store.clock.ms += 900
    later = WINDOW._replace(replace=True)
    assert await enqueue(store, new("b", later, delay_ms=1000)) == [replaced("a")]
    store.clock.ms += HOUR_MS - 900
    assert await enqueue(store, new("c", WINDOW)) == [None]


async def test_the_job_of_a_window_is_not_replaced_after_its_end(store: Store) -> None:
    """A window outlasts its job. One that lives again, or another job of its id, is no part of it,
    and may run."""
    window = WINDOW._replace(replace=True)
    worker, _ = await running(store, "other")
    await enqueue(store, new("a", window._replace(key=b"window"), has_new_id=False))
    revival = await dead(store, worker, await worker.take_one())
    again = revival._replace(unique=None)
    assert await store.backend.dead.revive([again]) == [Revived.READY]
    call = new("b", window._replace(key=b"window"), envelope=b"second")
    assert await enqueue(store, call) == [there("a")]
    taken = await worker.take_one()
    assert (taken.id, taken.envelope) == ("a", b"again")
    assert await enqueue(store, call) == [there("a")]
    assert (await worker.exchange(Settlement.succeeded(taken))).not_yours == []
    assert await enqueue(store, call) == [there("a")]
    assert await worker.take() == []


async def test_a_replaced_job_that_was_dead_has_no_notes(store: Store) -> None:
    if not store.backend.capabilities.notes:
        pytest.skip("no capability notes")
    worker, taken = await running(store)
    assert await worker.lease.note([Note(taken, "cursor", b"7")]) == [True]
    assert await store.backend.dead.revive([await dead(store, worker, taken)]) == [Revived.READY]
    # They belong to the arguments that it had.
    assert await enqueue(store, new("b", REPLACE, envelope=b"second")) == [replaced("a")]
    again = await worker.take_one()
    assert (again.id, again.envelope) == ("a", b"second")
    assert await worker.lease.notes([again]) == [{}]


async def test_a_step_back_of_the_clock_keeps_no_queue(store: Store) -> None:
    await enqueue(store, new("a", WINDOW))
    store.clock.ms -= 24 * HOUR_MS
    assert await enqueue(store, new("b", WINDOW)) == [there("a")]
    (left,) = await store.backend.inspect.queues.forget(["work"], 0)
    assert left.wait_ms == HOUR_MS


# Keeping the latest


async def test_one_runs_and_one_waits_with_the_newest_call(store: Store) -> None:
    worker, taken = await running(store)
    assert await enqueue(store, new("b", LATEST, priority=1)) == [held("b")]
    record = await store.look("b")
    assert (record.state, record.priority, record.envelope) == (State.HELD, 1, b"b")
    assert record.held_by == "job work/a"
    assert (record.due_ms, record.holder, record.taken_ms) == (None, None, None)
    counts = await store.counts()
    assert (sum(counts.ready), counts.running, counts.scheduled, counts.held) == (0, 1, 0, 1)
    newest = new("c", LATEST, priority=3, envelope=b"newest")
    assert await enqueue(store, newest) == [replaced("b")]
    assert await store.find("c") is None
    assert await worker.take() == []
    # An attempt that is not the last one changes nothing.
    await worker.exchange(Settlement.reschedule(taken, b"again", 1000))
    store.clock.ms += 1000
    again = await worker.take_one()
    assert (again.id, await store.state("b")) == ("a", State.HELD)
    answer = await worker.exchange(Settlement.succeeded(again), demand=10)
    assert [(job.id, job.priority, job.envelope) for job in answer.jobs] == [("b", 3, b"newest")]
    assert (await store.counts()).held == 0
    # Now this one holds the key.
    assert await enqueue(store, new("d")) == [there("b")]
    await worker.exchange(Settlement.succeeded(answer.jobs[0]))
    assert await enqueue(store, new("d")) == [None]


async def test_a_waiting_holder_gets_the_latest_call(store: Store) -> None:
    await enqueue(store, new("a", LATEST))
    assert await enqueue(store, new("b", LATEST, envelope=b"newest")) == [replaced("a")]
    taken = await (await store.worker()).take()
    assert [(job.id, job.envelope) for job in taken] == [("a", b"newest")]


async def test_a_held_job_counts_once(store: Store) -> None:
    worker, taken = await running(store)
    await enqueue(store, new("b", LATEST))
    await worker.exchange(Settlement.succeeded(taken))
    (flow,) = await store.backend.inspect.queues.flow(["work"])
    assert flow.enqueued == 2


@pytest.mark.parametrize("end", ENDS)
async def test_each_end_lets_the_held_job_go_on(store: Store, end: str) -> None:
    worker, taken = await running(store)
    await enqueue(store, new("b", LATEST))
    other = await store.worker()
    await other.settle_signals()
    await worker.exchange(ENDS[end](taken))
    assert await other.signalled() == ["work"]
    assert ids(await other.take()) == ["b"]


async def test_a_cancel_lets_the_held_job_go_on(store: Store) -> None:
    worker, taken = await running(store)
    await worker.exchange(Settlement.reschedule(taken, b"again", 1000))
    assert await enqueue(store, new("b", LATEST)) == [held("b")]
    await worker.settle_signals()
    await store.backend.cancel([ref("a")], None, 0)
    assert await worker.signalled() == ["work"]
    assert ids(await worker.take()) == ["b"]


async def test_a_held_job_is_due_at_its_own_time(store: Store) -> None:
    worker, taken = await running(store)
    due = store.clock.ms + 5000
    await enqueue(store, new("b", LATEST, delay_ms=5000))
    other = await store.worker()
    await other.settle_signals()
    answer = await worker.exchange(Settlement.succeeded(taken), demand=1)
    assert (answer.jobs, answer.next_due_ms) == ([], {"work": due})
    assert await other.signalled() == ["work"]
    record = await store.look("b")
    assert (record.state, record.due_ms) == (State.SCHEDULED, due)
    # Its lock lasts from then on.
    store.clock.ms = due + HOUR_MS - 1
    assert await enqueue(store, new("c")) == [there("b")]


async def test_a_held_job_is_cancelled(store: Store) -> None:
    worker, taken = await running(store)
    await enqueue(store, new("b", LATEST))
    waits = await store.backend.cancel([ref("b")], outcome(State.CANCELLED), 60_000)
    assert waits == [CancelVerdict.CANCELLED]
    record = await store.look("b")
    assert (record.state, record.outcome) == (State.CANCELLED, outcome(State.CANCELLED))
    assert (await store.counts()).held == 0
    # Another one may wait in its place.
    assert await enqueue(store, new("c", LATEST)) == [held("c")]
    await worker.exchange(Settlement.succeeded(taken))
    assert ids(await worker.take()) == ["c"]


@pytest.mark.parametrize("order", ["ab", "ba"])
async def test_both_are_cancelled_in_one_go(store: Store, order: str) -> None:
    worker, taken = await running(store)
    await worker.exchange(Settlement.reschedule(taken, b"again", 1000))
    await enqueue(store, new("b", LATEST))
    verdicts = await store.backend.cancel([ref(id) for id in order], None, 0)
    assert verdicts == [CancelVerdict.CANCELLED] * 2
    assert [await store.state(id) for id in "ab"] == [State.CANCELLED] * 2
    store.clock.ms += 1000
    assert await worker.take() == []
    assert await enqueue(store, new("c")) == [None]


async def test_a_lock_that_is_over_lets_the_held_job_go_on(store: Store) -> None:
    await running(store)
    await enqueue(store, new("b", LATEST))
    store.clock.ms += HOUR_MS
    assert await enqueue(store, new("c")) == [there("b")]
    assert await store.state("b") is State.READY


async def test_nobody_waits_behind_a_window(store: Store) -> None:
    await enqueue(store, new("a", WINDOW))
    worker = await store.worker()
    await worker.take_one()
    assert await enqueue(store, new("b", LATEST)) == [there("a")]


async def test_waiting_for_the_result_of_a_held_job(store: Store) -> None:
    await running(store)
    await enqueue(store, new("b", LATEST))
    (record,) = await store.backend.wait_results([ref("b")], SHORT_S)
    assert record is not None
    assert record.state is State.HELD


async def test_a_held_job_keeps_its_queue(store: Store) -> None:
    await running(store)
    await enqueue(store, new("b", LATEST))
    (left,) = await store.backend.inspect.queues.forget(["work"], 0)
    assert (left.running, left.indexed) == (1, 2)


async def test_a_delete_lets_the_held_job_go_on(store: Store) -> None:
    worker, taken = await running(store)
    await worker.exchange(Settlement.reschedule(taken, b"again", 1000))
    await enqueue(store, new("b", LATEST))
    await worker.settle_signals()
    assert await store.backend.inspect.jobs.delete([Target(ref("a"))]) == [Changed.DONE]
    assert await worker.signalled() == ["work"]
    assert ids(await worker.take()) == ["b"]


async def test_a_held_job_is_deleted(store: Store) -> None:
    worker, taken = await running(store)
    await enqueue(store, new("b", LATEST))
    assert await store.backend.inspect.jobs.delete([Target(ref("b"))]) == [Changed.DONE]
    assert await store.find("b") is None
    assert (await store.counts()).held == 0
    await worker.exchange(Settlement.succeeded(taken))
    assert await worker.take() == []
    assert await enqueue(store, new("c")) == [None]


async def test_a_held_job_is_changed(store: Store) -> None:
    worker, taken = await running(store)
    await enqueue(store, new("b", LATEST))
    jobs = store.backend.inspect.jobs
    assert await jobs.run_now([Target(ref("b"))]) == [Changed.HELD]
    assert await jobs.change([Change(ref("b"), b"other", b"new")]) == [Changed.MOVED]
    assert await jobs.change([Change(ref("b"), b"b", b"new")]) == [Changed.DONE]
    due = store.clock.ms + 5000
    assert await jobs.change([Change(ref("b"), b"new", b"newer", due)]) == [Changed.DONE]
    assert (await store.look("b")).envelope == b"newer"
    await worker.exchange(Settlement.succeeded(taken))
    record = await store.look("b")
    assert (record.state, record.due_ms, record.envelope) == (State.SCHEDULED, due, b"newer")


async def test_a_key_that_is_freed_goes_to_the_held_job(store: Store) -> None:
    worker, _ = await running(store)
    await enqueue(store, new("b", LATEST))
    page = await store.backend.inspect.unique.page("work")
    assert [(lock.ref.holder, lock.next) for lock in page.locks] == [(ref("a"), ref("b"))]
    await worker.settle_signals()
    assert await store.backend.inspect.unique.free([page.locks[0].ref]) == [True]
    assert await worker.signalled() == ["work"]
    assert ids(await worker.take()) == ["b"]
    assert await enqueue(store, new("c")) == [there("b")]


@pytest.mark.parametrize("function", [None, "f"])
async def test_a_purge_takes_held_jobs_too(store: Store, function: str | None) -> None:
    worker, taken = await running(store)
    call = b'{"v":1,"f":"f","n":1,"e":1}'
    await worker.exchange(Settlement.reschedule(taken, call, 1000))
    await enqueue(store, new("b", LATEST, envelope=call))
    wanted = Purge("work", function)
    purged = []
    for is_trial in (True, False):
        number, after = 0, None
        while True:
            part = await store.backend.control.queues.purge(
                wanted._replace(is_trial=is_trial), 10, after
            )
            number += part.jobs
            after = part.after
            if after is None:
                break
        purged.append(number)
    assert purged == [2, 2]
    counts = await store.counts()
    assert (sum(counts.ready), counts.scheduled, counts.held) == (0, 0, 0)
    assert [await store.state(id) for id in "ab"] == [State.CANCELLED] * 2
    assert await enqueue(store, new("c")) == [None]
