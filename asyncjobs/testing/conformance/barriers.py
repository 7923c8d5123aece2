"""Jobs behind barriers: what holds them, what lets them go on, and what ends them instead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from asyncjobs.errors import UsageError
from asyncjobs.model.job import NewJob, State, TakenJob, held_behind
from asyncjobs.model.settlement import Settlement
from asyncjobs.model.terms import Arrival, Barrier, FallsOn, OnFailure, Terms, Unique
from asyncjobs.store.answers import CancelVerdict, Placed
from asyncjobs.store.changes import Target
from asyncjobs.store.control import Purge
from asyncjobs.store.flows import Obstacle
from asyncjobs.store.seam import EnqueueBatch
from asyncjobs.testing.conformance.store import SHORT_S, Store, Worker, ids, outcome, ref

pytestmark = pytest.mark.anyio

MINUTE_MS = 60_000


def placed(
    id: str,
    behind: str | None = None,
    *arrives: str,
    on_failure: OnFailure = "cancel",
    delay_ms: int = 0,
    unique: Unique | None = None,
    priority: int = 2,
) -> NewJob:
    """A job behind a barrier, whose end counts at others."""
    arrivals = tuple(Arrival("work", barrier, on_failure) for barrier in arrives)
    terms = Terms(unique, behind=behind, arrivals=arrivals)
    return NewJob("work", id, priority, id.encode(), delay_ms, has_new_id=True, terms=terms)


async def put(
    store: Store,
    *jobs: NewJob,
    falls_on: FallsOn = "all",
    token: str | None = None,
    **barriers: int,
) -> Sequence[Placed | None]:
    """Store jobs and barriers in one batch."""
    if not store.backend.capabilities.flows:
        pytest.skip("no capability flows")
    new = tuple(Barrier("work", id, number, falls_on) for id, number in barriers.items())
    answer = await store.backend.enqueue(EnqueueBatch(token or store.token(), jobs, new))
    for refusal in answer.refused.values():
        raise refusal
    return answer.places


def standing(number: int) -> dict[str, Any]:
    """Barriers for a chain of so many links."""
    return {f"b{n}": 1 for n in range(1, number + 1)}


def dead(job: TakenJob) -> Settlement:
    return Settlement.dead(job, b"letter")


async def settle_all(worker: Worker) -> list[str]:
    """Let all jobs succeed that can be taken, until none is left; their ids as they were taken."""
    done: list[str] = []
    jobs = await worker.take()
    while jobs:
        done += ids(jobs)
        jobs = (await worker.exchange(*map(Settlement.succeeded, jobs), demand=100)).jobs
    return done


async def test_a_job_behind_a_barrier_goes_on_with_the_last_end_in_front(store: Store) -> None:
    await put(store, placed("a", None, "end"), placed("b", None, "end"), placed("z", "end"), end=2)
    record = await store.look("z")
    assert (record.state, record.held_by) == (State.HELD, held_behind("end"))
    worker = await store.worker()
    a, b = await worker.take()
    assert ids([a, b]) == ["a", "b"]
    assert (await worker.exchange(Settlement.succeeded(a), demand=5)).jobs == []
    # The exchange that settles takes it at once.
    assert ids((await worker.exchange(Settlement.succeeded(b), demand=5)).jobs) == ["z"]


async def test_an_end_signals_for_what_it_lets_go_on(store: Store) -> None:
    await put(store, placed("a", None, "end"), placed("z", "end"), end=1)
    worker, other = await store.worker(), await store.worker()
    job = await worker.take_one()
    await other.settle_signals()
    await worker.exchange(Settlement.succeeded(job))
    assert await other.signalled() == ["work"]
    assert ids(await other.take()) == ["z"]


async def test_many_jobs_behind_one_barrier_keep_their_order(store: Store) -> None:
    names = [f"z{number:03d}" for number in range(450)]
    await put(store, placed("a", None, "end"), *(placed(name, "end") for name in names), end=1)
    worker = await store.worker()
    first = await worker.take_one()
    await worker.exchange(Settlement.succeeded(first))
    assert await settle_all(worker) == names
    assert (await store.counts()).held == 0


async def test_what_is_left_behind_a_fallen_barrier_signals(store: Store) -> None:
    names = [f"z{number:03d}" for number in range(450)]
    await put(store, placed("a", None, "end"), *(placed(name, "end") for name in names), end=1)
    worker, other = await store.worker(), await store.worker()
    job = await worker.take_one()
    await other.settle_signals()
    await worker.exchange(dead(job))
    while await other.signalled(SHORT_S):
        await other.exchange()
    counts = await store.counts()
    assert (counts.held, sum(counts.ready)) == (0, 0)
    assert await store.state("z449") is State.CANCELLED


async def test_a_chain_goes_on_link_by_link(store: Store) -> None:
    links = [placed(f"l{n}", f"b{n}" if n else None, f"b{n + 1}") for n in range(20)]
    await put(store, *links, **standing(20))
    assert (await store.counts()).held == 19
    assert await settle_all(await store.worker()) == [f"l{n}" for n in range(20)]


async def test_the_time_of_a_job_counts_when_it_is_let_go(store: Store) -> None:
    await put(store, placed("a", None, "end"), placed("z", "end", delay_ms=5000), end=1)
    due = store.clock.ms + 5000
    worker = await store.worker()
    await worker.exchange(Settlement.succeeded(await worker.take_one()))
    record = await store.look("z")
    assert (record.state, record.due_ms) == (State.SCHEDULED, due)
    store.clock.ms = due
    assert ids(await worker.take()) == ["z"]


async def test_a_time_that_has_passed_behind_a_barrier_makes_ready(store: Store) -> None:
    await put(store, placed("a", None, "end"), placed("z", "end", delay_ms=5000), end=1)
    store.clock.ms += 6000
    worker = await store.worker()
    answer = await worker.exchange(Settlement.succeeded(await worker.take_one()), demand=1)
    assert ids(answer.jobs) == ["z"]


async def test_a_job_keeps_its_priority_behind_a_barrier(store: Store) -> None:
    jobs = (placed("low", "end", priority=3), placed("urgent", "end", priority=0))
    await put(store, placed("a", None, "end"), *jobs, end=1)
    worker = await store.worker()
    answer = await worker.exchange(Settlement.succeeded(await worker.take_one()), demand=5)
    assert [(job.id, job.priority) for job in answer.jobs] == [("urgent", 0), ("low", 3)]


async def test_a_barrier_that_does_not_stand_holds_nobody(store: Store) -> None:
    await put(store, placed("x", "stands"), stands=1)
    await put(store, placed("z", "never", "nowhere", "stands"))
    await put(store, placed("y", "empty"), empty=0)
    worker = await store.worker()
    jobs = await worker.take()
    assert ids(jobs) == ["z", "y"]
    assert (await worker.exchange(*map(dead, jobs))).not_yours == []
    # The arrival that counts nothing has not lost the next one.
    assert await store.state("x") is State.CANCELLED


@pytest.mark.parametrize("way", ["retry", "release", "reclaim", "snooze"])
async def test_what_is_no_end_counts_nothing(store: Store, way: str) -> None:
    await put(store, placed("a", None, "end"), placed("z", "end"), end=1)
    worker, keeper = await store.worker(), await store.worker()
    job = await worker.take_one()
    if way == "release":
        await worker.exchange(Settlement.release(job))
    elif way == "reclaim":
        await store.end_leases(keeper)
    else:
        await worker.exchange(Settlement.reschedule(job, b"again", 0))
    assert await store.state("z") is State.HELD
    assert await settle_all(keeper) == ["a", "z"]


async def test_an_end_that_does_not_count_is_no_arrival(store: Store) -> None:
    await put(store, placed("a", None, "end"), placed("b", None, "end"), placed("z", "end"), end=2)
    worker = await store.worker()
    a, b = await worker.take()
    await worker.exchange(Settlement.succeeded(a))
    again = await worker.exchange(Settlement.succeeded(a), Settlement.succeeded(a))
    assert len(again.not_yours) == 2
    assert await store.state("z") is State.HELD
    assert ids((await worker.exchange(Settlement.succeeded(b), demand=1)).jobs) == ["z"]


async def test_arrivals_at_several_barriers(store: Store) -> None:
    await put(store, placed("a", None, "x", "y"), placed("x1", "x"), placed("y1", "y"), x=1, y=1)
    worker = await store.worker()
    answer = await worker.exchange(Settlement.succeeded(await worker.take_one()), demand=5)
    assert sorted(ids(answer.jobs)) == ["x1", "y1"]


async def test_many_arrivals_in_one_exchange(store: Store) -> None:
    front = [placed(f"a{n}", None, "end") for n in range(300)]
    await put(store, *front, placed("z", "end"), end=300)
    worker = await store.worker()
    jobs = await worker.take(299)
    assert (await worker.exchange(*map(Settlement.succeeded, jobs))).not_yours == []
    assert (await store.backend.flows.obstacles([ref("z")])) == [Obstacle("end", 1)]
    answer = await worker.exchange(Settlement.succeeded(await worker.take_one()), demand=1)
    assert ids(answer.jobs) == ["z"]


async def test_a_batch_that_is_sent_again_raises_nothing_twice(store: Store) -> None:
    for _ in range(3):
        await put(store, placed("a", None, "end"), placed("z", "end"), end=1, token="once")
    assert await settle_all(await store.worker()) == ["a", "z"]


async def test_a_barrier_that_stands_is_raised(store: Store) -> None:
    await put(store, placed("a", None, "end"), placed("z", "end"), end=1)
    await put(store, placed("b", None, "end"), end=1)
    await put(store, end=0)
    worker = await store.worker()
    a, b = await worker.take()
    await worker.exchange(Settlement.succeeded(b))
    assert await store.state("z") is State.HELD
    assert ids((await worker.exchange(Settlement.succeeded(a), demand=1)).jobs) == ["z"]


async def test_fewer_than_no_arrivals_are_refused(store: Store) -> None:
    with pytest.raises(UsageError, match=r"a batch.*'end'.*-1 arrivals.*0 or more"):
        await put(store, placed("a"), end=-1)
    assert sum((await store.counts()).ready) == 0


# Failures


async def fail_one(store: Store, on_failure: OnFailure) -> Worker:
    """Let one of two jobs die in front of `mid`, and the other one succeed then. Behind `mid` is
    one job, and behind that another, which runs whatever happens."""
    front = [placed(id, None, "mid", on_failure=on_failure) for id in ("a", "b")]
    middle = placed("m", "mid", "end", on_failure="run")
    await put(store, *front, middle, placed("z", "end"), mid=2, end=1)
    worker = await store.worker()
    a, b = await worker.take()
    assert (await worker.exchange(dead(a), demand=5)).jobs == []
    # Nothing starts before all in front of it has ended.
    assert await store.state("m") is State.HELD
    assert await store.state("z") is State.HELD
    await worker.exchange(Settlement.succeeded(b))
    return worker


@pytest.mark.parametrize(
    ("on_failure", "state"), [("cancel", State.CANCELLED), ("skip", State.DISCARDED)]
)
async def test_a_failure_ends_what_is_behind(
    store: Store, on_failure: OnFailure, state: State
) -> None:
    worker = await fail_one(store, on_failure)
    assert ids(await worker.take()) == ["z"]
    assert await store.state("m") is state
    assert (await store.counts()).held == 0


async def test_a_failure_that_changes_nothing(store: Store) -> None:
    worker = await fail_one(store, "run")
    assert await settle_all(worker) == ["m", "z"]


async def test_a_cancel_goes_on_to_the_end(store: Store) -> None:
    links = [placed(f"l{n}", f"b{n}" if n else None, f"b{n + 1}") for n in range(300)]
    await put(store, *links, placed("z", "b300"), **standing(300))
    worker = await store.worker()
    await worker.exchange(dead(await worker.take_one()))
    # An exchange goes so far and no further.
    for _ in range(20):
        await worker.exchange()
    records = await store.backend.get([ref("l1"), ref("l299"), ref("z")])
    assert [record and record.state for record in records] == [State.CANCELLED] * 3
    assert await worker.take() == []


async def test_what_is_skipped_counts_as_a_success(store: Store) -> None:
    await put(
        store,
        placed("a", None, "mid", on_failure="skip"),
        placed("m", "mid", "end"),
        placed("z", "end"),
        mid=1,
        end=1,
    )
    worker = await store.worker()
    assert ids((await worker.exchange(dead(await worker.take_one()), demand=1)).jobs) == ["z"]


@pytest.mark.parametrize("order", [("skip", "cancel", "run"), ("run", "cancel", "skip")])
async def test_the_strongest_of_several_failures_decides(
    store: Store, order: Sequence[OnFailure]
) -> None:
    front = [placed(f"a{n}", None, "end", on_failure=how) for n, how in enumerate(order)]
    await put(store, *front, placed("z", "end"), end=3)
    worker = await store.worker()
    for job in await worker.take():
        await worker.exchange(dead(job))
    assert await store.state("z") is State.CANCELLED


@pytest.mark.parametrize("way", ["discarded", "cancelled", "marked", "cancel", "delete", "purge"])
async def test_every_end_but_success_is_a_failure(store: Store, way: str) -> None:
    await put(store, placed("a", None, "end"), placed("z", "end"), end=1)
    worker = await store.worker()
    backend = store.backend
    if way == "cancel":
        assert await backend.cancel([ref("a")], None, 0) == [CancelVerdict.CANCELLED]
    elif way == "delete":
        await backend.inspect.jobs.delete([Target(ref("a"))])
    elif way == "purge":
        purge = Purge("work", states=frozenset({State.READY}))
        place = (await backend.control.queues.purge(purge, 100)).after
        while place is not None:
            place = (await backend.control.queues.purge(purge, 100, place)).after
    else:
        job = await worker.take_one()
        if way == "marked":
            await backend.cancel([ref("a")], None, 0)
            await worker.exchange(Settlement.reschedule(job, b"again", 0))
        else:
            end = Settlement.cancelled if way == "cancelled" else Settlement.discarded
            await worker.exchange(end(job))
    await worker.exchange()
    assert await store.state("z") is State.CANCELLED


async def test_a_job_that_waits_behind_a_barrier_is_cancelled(store: Store) -> None:
    await put(
        store,
        placed("a", None, "mid"),
        placed("m", "mid", "end", on_failure="run"),
        placed("z", "end"),
        mid=1,
        end=1,
    )
    cancelled = outcome(State.CANCELLED)
    verdicts = await store.backend.cancel([ref("m")], cancelled, MINUTE_MS)
    assert verdicts == [CancelVerdict.CANCELLED]
    record = await store.look("m")
    assert (record.state, record.outcome) == (State.CANCELLED, cancelled)
    assert await settle_all(await store.worker()) == ["a", "z"]


async def test_a_cancel_signals_for_what_it_lets_go(store: Store) -> None:
    await put(store, placed("a", None, "end", on_failure="run"), placed("z", "end"), end=1)
    worker = await store.worker()
    await worker.settle_signals()
    await store.backend.cancel([ref("a")], None, 0)
    assert await worker.signalled() == ["work"]
    assert ids(await worker.take()) == ["z"]


async def test_one_that_is_due_before_all_others_signals(store: Store) -> None:
    await put(store, placed("a", None, "end"), placed("z", "end", delay_ms=500), end=1)
    worker, other = await store.worker(), await store.worker()
    job = await worker.take_one()
    await other.settle_signals()
    await worker.exchange(Settlement.succeeded(job))
    assert await other.signalled() == ["work"]


# Barriers that fall with the first failure


async def test_one_that_waits_for_a_failure_falls_with_the_first(store: Store) -> None:
    front = [placed(f"a{n}", None, "bad", on_failure="cancel") for n in range(3)]
    await put(store, *front, placed("alarm", "bad"), falls_on="first_failure", bad=3)
    worker = await store.worker()
    a, b, c = await worker.take()
    assert (await worker.exchange(Settlement.succeeded(a), demand=5)).jobs == []
    assert ids((await worker.exchange(dead(b), demand=5)).jobs) == ["alarm"]
    # It has fallen, so one that comes later goes on. The last arrival counts nothing.
    await put(store, placed("late", "bad"))
    assert ids((await worker.exchange(dead(c), demand=5)).jobs) == ["late"]


async def test_one_that_sees_no_failure_skips_what_is_behind(store: Store) -> None:
    await put(
        store,
        placed("a", None, "bad"),
        placed("alarm", "bad", "end"),
        falls_on="first_failure",
        bad=1,
    )
    await put(store, placed("z", "end"), end=1)
    worker = await store.worker()
    job = await worker.take_one()
    assert ids((await worker.exchange(Settlement.succeeded(job), demand=5)).jobs) == ["z"]
    assert await store.state("alarm") is State.DISCARDED


async def test_an_id_twice_in_a_batch_is_held_once(store: Store) -> None:
    given = placed("twice", "start")._replace(has_new_id=False)
    other = placed("other", "start", unique=Unique(b"key", "finished", MINUTE_MS))
    held = [placed(f"j{number}", "start") for number in range(3)]
    places = await put(store, *held, given, given, other, start=1)
    assert places == [None, None, None, None, Placed(ref("twice"), "there"), None]
    assert (await store.counts()).held == 5
    await store.enqueue("lets-go")
    await put(
        store, NewJob("work", "front", 0, b"", terms=Terms(arrivals=(Arrival("work", "start"),)))
    )
    worker = await store.worker()
    assert (await settle_all(worker))[2:] == ["j0", "j1", "j2", "twice", "other"]
