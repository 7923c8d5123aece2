"""Schedules whose jobs wait for each other: those of unique job functions, and `queue_one`."""

from __future__ import annotations

from typing import Literal

import pytest

from asyncjobs.errors import UsageError
from asyncjobs.model.job import State
from asyncjobs.model.refs import JobRef
from asyncjobs.model.schedules import Overlap, tick_job_id
from asyncjobs.model.settlement import Settlement
from asyncjobs.model.terms import Terms, Unique
from asyncjobs.store.answers import Placed
from asyncjobs.store.schedules import Fire, Fired, Ran, ScheduleRun, Schedules, TickVerdict
from asyncjobs.testing.conformance.schedules import MINUTE_MS, one
from asyncjobs.testing.conformance.schedules_fire import due, fire, firing, tick
from asyncjobs.testing.conformance.store import QUEUE, Store, Worker, ids
from asyncjobs.testing.conformance.unique import ENDS, enqueue, held, new, there

pytestmark = pytest.mark.anyio

FIRED, SKIPPED, _, RAN = TickVerdict
KEY = Unique(b"f:report", "finished", 3_600_000)
REPLACE = KEY._replace(replace=True)
LATEST = KEY._replace(replace=True, hold=True)


@pytest.fixture(autouse=True)
def _needs_keys(store: Store) -> None:
    if not store.backend.capabilities.unique:
        pytest.skip("the store keeps no unique keys")


async def next_fire(
    store: Store,
    schedules: Schedules,
    unique: Unique | None = None,
    overlap: Overlap = Overlap.ALLOW,
) -> Fired:
    """Fire the next tick when it has come."""
    record = await one(schedules)
    at = record.next_ms or 0
    store.clock.ms = max(store.clock.ms, at)
    terms = None if unique is None else Terms(unique=unique)
    return await fire(schedules, firing(record, tick(at, terms=terms), overlap=overlap))


async def queue_one(store: Store, schedules: Schedules) -> Fired:
    return await next_fire(store, schedules, overlap=Overlap.QUEUE_ONE)


def last(store: Store) -> str:
    """The id of the job of the tick that has come now."""
    return tick_job_id("report", store.clock.ms)


def place(id: str, how: Literal["there", "replaced", "held"]) -> dict[int, Placed]:
    return {0: Placed(JobRef(QUEUE, id), how)}


async def ended(worker: Worker) -> None:
    """End the job that the worker takes now."""
    await worker.exchange(Settlement.succeeded(await worker.take_one()))


# ── jobs with a key ──────────────────────────────────────────────────────────────────


async def test_a_tick_whose_key_is_taken_is_skipped(store: Store, schedules: Schedules) -> None:
    worker = await store.worker()
    await due(store, schedules)
    fired = await next_fire(store, schedules, KEY)
    assert (fired.verdicts, fired.places) == ([FIRED], {})
    first = last(store)
    running = []
    for runs in (False, True):
        if runs:
            running = await worker.take()
        fired = await next_fire(store, schedules, KEY)
        assert (fired.is_ours, fired.verdicts) == (True, [SKIPPED])
        assert fired.places == place(first, "there")
        # It is used up: nobody fires it when the key is free.
        assert (await one(schedules)).next_ms == store.clock.ms + MINUTE_MS
    record = await one(schedules)
    assert (record.fired, record.skipped) == (1, 2)
    assert sum((await store.counts()).ready) == 0
    await worker.exchange(*map(Settlement.succeeded, running))
    assert (await next_fire(store, schedules, KEY)).verdicts == [FIRED]
    assert ids(await worker.take()) == [last(store)]


async def test_an_enqueue_and_a_tick_share_a_key(store: Store, schedules: Schedules) -> None:
    await due(store, schedules)
    await enqueue(store, new("by-call", KEY))
    fired = await next_fire(store, schedules, KEY)
    assert (fired.verdicts, fired.places) == ([SKIPPED], place("by-call", "there"))
    worker = await store.worker()
    await ended(worker)
    await next_fire(store, schedules, KEY)
    assert await enqueue(store, new("later", KEY)) == [there(last(store))]


async def test_a_tick_replaces_a_job_that_has_not_started(
    store: Store, schedules: Schedules
) -> None:
    worker = await store.worker()
    await due(store, schedules)
    await next_fire(store, schedules, REPLACE)
    first, at = last(store), store.clock.ms
    fired = await next_fire(store, schedules, REPLACE)
    assert (fired.verdicts, fired.places) == ([FIRED], place(first, "replaced"))
    (job,) = await worker.take()
    assert (job.id, job.envelope) == (first, last(store).encode())
    # The list of runs names the job that has the call, and the tick counts as run.
    runs = [ScheduleRun(store.clock.ms, first), ScheduleRun(at, first)]
    assert await schedules.runs("report") == runs
    ticks = [tick(each.tick_ms, terms=Terms(unique=REPLACE)) for each in runs]
    assert await schedules.run("report", ticks) == Ran([RAN, RAN])
    assert (await one(schedules)).fired == 2
    fired = await next_fire(store, schedules, REPLACE)
    assert fired.places == place(first, "there")


async def test_a_tick_is_held_behind_a_job_that_runs(store: Store, schedules: Schedules) -> None:
    worker = await store.worker()
    await due(store, schedules)
    await next_fire(store, schedules, LATEST)
    job = await worker.take_one()
    fired = await next_fire(store, schedules, LATEST)
    waiting = last(store)
    assert (fired.verdicts, fired.places) == ([FIRED], place(waiting, "held"))
    assert await store.state(waiting) is State.HELD
    fired = await next_fire(store, schedules, LATEST)
    assert fired.places == place(waiting, "replaced")
    await worker.exchange(Settlement.succeeded(job))
    (job,) = await worker.take()
    assert (job.id, job.envelope) == (waiting, last(store).encode())


async def test_a_fire_of_a_unique_job_that_is_sent_twice_fires_once(
    store: Store, schedules: Schedules
) -> None:
    record = await due(store, schedules)
    about = firing(record, tick(store.clock.ms, terms=Terms(unique=REPLACE)))
    assert (await fire(schedules, about)).is_ours
    assert await fire(schedules, about) == Fired(about.ref, is_ours=False)
    assert (await one(schedules)).fired == 1


async def test_unique_ticks_by_hand_and_of_the_past(store: Store, schedules: Schedules) -> None:
    worker = await store.worker()
    record = await due(store, schedules)
    terms = Terms(unique=KEY)
    past = [tick(store.clock.ms - n * MINUTE_MS, terms=terms) for n in (3, 2)]
    ran = await schedules.run("report", past)
    assert ran == Ran([FIRED, SKIPPED], {1: Placed(past[0].job.ref, "there")})
    hand = tick(store.clock.ms, job_id="hand", terms=Terms(unique=LATEST))
    assert await schedules.run("report", [hand]) == Ran([FIRED], place(past[0].job.id, "replaced"))
    job = await worker.take_one()
    assert job.envelope == b"hand"
    assert await schedules.run("report", [hand]) == Ran([RAN])
    other = tick(store.clock.ms, job_id="other", terms=Terms(unique=LATEST))
    assert await schedules.run("report", [other]) == Ran(
        [FIRED], {0: Placed(other.job.ref, "held")}
    )
    assert (await one(schedules)) == record._replace(fired=3)
    await worker.exchange(Settlement.succeeded(job))
    await ended(worker)
    # One that was skipped has not run.
    assert await schedules.run("report", past) == Ran([RAN, FIRED])


async def test_a_limit_counts_the_ticks_that_have_a_job(store: Store, schedules: Schedules) -> None:
    await due(store, schedules, left=2)
    await next_fire(store, schedules, KEY)
    fired = await next_fire(store, schedules, KEY)
    assert (fired.verdicts, fired.left) == ([SKIPPED], 1)


async def test_a_unique_job_of_a_tick_signals(store: Store, schedules: Schedules) -> None:
    worker = await store.worker()
    await worker.settle_signals()
    await due(store, schedules)
    await next_fire(store, schedules, KEY)
    assert await worker.signalled() == [QUEUE]


# ── queue_one ────────────────────────────────────────────────────────────────────────


async def test_one_runs_and_one_waits(store: Store, schedules: Schedules) -> None:
    worker = await store.worker()
    await due(store, schedules)
    assert (await queue_one(store, schedules)).verdicts == [FIRED]
    first = last(store)
    # While the first one waits it is the one that waits.
    fired = await queue_one(store, schedules)
    assert fired.verdicts == [SKIPPED]
    job = await worker.take_one()
    assert job.id == first
    fired = await queue_one(store, schedules)
    waiting = last(store)
    assert (fired.verdicts, fired.places) == ([FIRED], place(waiting, "held"))
    # However many slots are free, it does not start beside the other one.
    assert await worker.take(8) == []
    # The first one that waits stays.
    assert (await queue_one(store, schedules)).verdicts == [SKIPPED]
    # A retry is not the end.
    await worker.exchange(Settlement.reschedule(job, job.envelope, 5))
    assert await store.state(waiting) is State.HELD
    assert (await queue_one(store, schedules)).verdicts == [SKIPPED]
    store.clock.ms += 5
    job = await worker.take_one()
    assert job.id == first
    await worker.settle_signals()
    await worker.exchange(Settlement.succeeded(job))
    assert await store.state(waiting) is State.READY
    job = await worker.take_one()
    assert (job.id, job.envelope) == (waiting, waiting.encode())
    record = await one(schedules)
    assert (record.fired, record.skipped) == (2, 3)
    # The one that runs now is one that runs: the next one waits for it.
    assert (await queue_one(store, schedules)).places == place(last(store), "held")


@pytest.mark.parametrize("end", [*ENDS, "stopped", "crashed"])
async def test_the_one_that_waits_goes_on_after_any_end(
    store: Store, schedules: Schedules, end: str
) -> None:
    worker, other = await store.worker(), await store.worker()
    await due(store, schedules)
    await queue_one(store, schedules)
    job = await worker.take_one()
    await queue_one(store, schedules)
    waiting = last(store)
    if end == "crashed":
        await store.end_leases(other)
        # It runs once more, and is not over.
        job = await other.take_one()
        assert await store.state(waiting) is State.HELD
        await other.exchange(Settlement.succeeded(job))
    elif end == "stopped":
        await store.backend.cancel([JobRef(QUEUE, job.id)], None, 0)
        assert await store.state(waiting) is State.HELD
        await worker.exchange(Settlement.reschedule(job, job.envelope, 5))
    else:
        await worker.exchange(ENDS[end](job))
    assert ids(await other.take()) == [waiting]


async def test_the_one_that_waits_can_be_cancelled(store: Store, schedules: Schedules) -> None:
    worker = await store.worker()
    await due(store, schedules)
    await queue_one(store, schedules)
    job = await worker.take_one()
    await queue_one(store, schedules)
    await store.backend.cancel([JobRef(QUEUE, last(store))], None, 0)
    fired = await queue_one(store, schedules)
    assert fired.places == place(last(store), "held")
    await worker.exchange(Settlement.succeeded(job))
    assert ids(await worker.take()) == [last(store)]


async def test_one_waits_for_a_job_made_by_hand(store: Store, schedules: Schedules) -> None:
    worker = await store.worker()
    await due(store, schedules)
    await schedules.run("report", [tick(5, job_id="hand")])
    assert (await queue_one(store, schedules)).verdicts == [SKIPPED]
    job = await worker.take_one()
    fired = await queue_one(store, schedules)
    assert fired.places == place(last(store), "held")
    await worker.exchange(Settlement.succeeded(job))
    assert ids(await worker.take()) == [last(store)]


async def test_each_schedule_has_a_place_of_its_own(store: Store, schedules: Schedules) -> None:
    worker = await store.worker()
    await due(store, schedules)
    await enqueue(store, new("other", KEY))
    assert (await queue_one(store, schedules)).places == {}
    assert sorted(ids(await worker.take(4))) == sorted(["other", last(store)])


async def test_a_unique_job_cannot_wait_for_two_keys(store: Store, schedules: Schedules) -> None:
    record = await due(store, schedules)
    unique = tick(store.clock.ms, terms=Terms(unique=KEY))
    about: Fire = firing(record, unique, overlap=Overlap.QUEUE_ONE)
    with pytest.raises(UsageError, match="use another overlap"):
        await schedules.fire([about])
    assert await one(schedules) == record


async def test_who_only_waits_takes_no_place(store: Store) -> None:
    waits = KEY._replace(hold=True)
    assert await enqueue(store, new("a", waits), new("b", waits)) == [None, there("a")]
    worker = await store.worker()
    job = await worker.take_one()
    assert job.envelope == b"a"
    assert await enqueue(store, new("c", waits), new("d", waits)) == [held("c"), there("c")]
    await worker.exchange(Settlement.succeeded(job))
    assert (await worker.take_one()).envelope == b"c"


# ── the other overlaps ───────────────────────────────────────────────────────────────


async def test_a_cancelled_job_lets_a_tick_with_a_key_wait(
    store: Store, schedules: Schedules
) -> None:
    worker = await store.worker()
    await due(store, schedules)
    await next_fire(store, schedules, LATEST, Overlap.CANCEL_RUNNING)
    first = await worker.take_one()
    fired = await next_fire(store, schedules, LATEST, Overlap.CANCEL_RUNNING)
    assert [job.id for job in fired.cancelled] == [first.id]
    before = last(store)
    # The one that is held makes room, too.
    fired = await next_fire(store, schedules, LATEST, Overlap.CANCEL_RUNNING)
    assert sorted(job.id for job in fired.cancelled) == sorted([first.id, before])
    assert fired.places == place(last(store), "held")
    await worker.exchange(Settlement.reschedule(first, first.envelope, 5))
    assert ids(await worker.take()) == [last(store)]
