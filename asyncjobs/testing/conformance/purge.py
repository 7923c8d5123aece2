"""Waiting jobs of a queue are purged, or set aside in large numbers; running ones stay."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from asyncjobs.errors import StoreError
from asyncjobs.model.envelope import encode_call
from asyncjobs.model.job import NewJob, State, TakenJob
from asyncjobs.model.notes import PROGRESS, Note
from asyncjobs.model.settlement import Settlement
from asyncjobs.model.terms import Terms, Unique
from asyncjobs.store.control import Purge
from asyncjobs.store.seam import EnqueueBatch
from asyncjobs.testing.conformance.pauses import pause, put, put_raw, resume
from asyncjobs.testing.conformance.spoiled import BAD, Spoil
from asyncjobs.testing.conformance.store import LIMIT_S, QUEUE, Store, ids, outcome, ref

pytestmark = pytest.mark.anyio

CANCELLED = outcome(State.CANCELLED)
READY = frozenset({State.READY})
SCHEDULED = frozenset({State.SCHEDULED})
HELD = frozenset({State.HELD})
CALL = encode_call("slow", [], {}, 1, None, None, None)


@pytest.fixture(autouse=True)
def needs_control_to_purge(request: pytest.FixtureRequest) -> None:
    if not request.getfixturevalue("store").backend.capabilities.control:
        pytest.skip("no capability control")


async def purge(
    store: Store,
    function: str | None = None,
    states: frozenset[State] = READY | SCHEDULED,
    *,
    queue: str = QUEUE,
    limit: int = 100,
    is_trial: bool = False,
) -> int:
    """Purge the whole queue, and say how many jobs that were."""
    wanted = Purge(queue, function, states, CANCELLED, 60_000, is_trial)
    jobs, after = await store.backend.control.queues.purge(wanted, limit)
    while after is not None:
        more, after = await store.backend.control.queues.purge(wanted, limit, after)
        jobs += more
    return jobs


async def test_waiting_jobs_are_cancelled(store: Store) -> None:
    worker = await store.worker()
    await store.enqueue("runs")
    await worker.take()
    for priority in range(4):
        await store.enqueue(f"ready-{priority}", priority=priority)
    await store.enqueue("later", delay_ms=60_000)
    assert await purge(store, is_trial=True) == 5
    counts = await store.counts()
    assert (sum(counts.ready), counts.running, counts.scheduled) == (4, 1, 1)
    assert await purge(store) == 5
    counts = await store.counts()
    assert (sum(counts.ready), counts.running, counts.scheduled) == (0, 1, 0)
    for name in ("later", *(f"ready-{priority}" for priority in range(4))):
        record = await store.look(name)
        assert (record.state, record.outcome) == (State.CANCELLED, CANCELLED)
    assert await store.state("runs") is State.RUNNING
    assert await purge(store) == 0
    (flow,) = await store.backend.inspect.queues.flow([QUEUE])
    assert flow.ended[State.CANCELLED] == 5


async def test_purged_ids_are_remembered(store: Store) -> None:
    await store.enqueue("a")
    await purge(store)
    assert await store.enqueue("a") == [False]
    worker = await store.worker()
    await store.pass_time(2 * store.settings.id_ttl_ms + 1, worker)
    assert await store.enqueue("a") == [True]


async def test_who_waits_for_a_result_is_told(store: Store) -> None:
    await store.enqueue("a")
    waiting = asyncio.create_task(store.backend.wait_results([ref("a")], LIMIT_S))
    # Until the wait stands, a purge might come before it. Then it answers at once.
    await asyncio.sleep(0)
    await purge(store)
    (record,) = await waiting
    assert record is not None
    assert record.state is State.CANCELLED


async def test_without_an_outcome_only_the_state_is_kept(store: Store) -> None:
    await store.enqueue("a")
    after = None
    for _ in range(10):
        _, after = await store.backend.control.queues.purge(Purge(QUEUE), 10, after)
        if after is None:
            break
    record = await store.look("a")
    assert (record.state, record.outcome) == (State.CANCELLED, None)


@pytest.mark.parametrize(
    ("states", "left"), [(READY, {"later"}), (SCHEDULED, {"now"}), (frozenset[State](), None)]
)
async def test_by_state(store: Store, states: frozenset[State], left: set[str] | None) -> None:
    await store.enqueue("now")
    await store.enqueue("later", delay_ms=1000)
    if left is None:
        left = {"now", "later"}
    assert await purge(store, states=states) == 2 - len(left)
    found = {name for name in ("now", "later") if not (await store.state(name)).is_final}
    assert found == left


async def test_by_function(store: Store) -> None:
    worker = await store.worker()
    for number in range(5):
        await put(store, "slow", f"slow-{number}", priority=number % 4)
        await put(store, "fast", f"fast-{number}", priority=number % 4)
        await put(store, "slow", f"slow-later-{number}", delay_ms=1000)
        await put(store, "fast", f"fast-later-{number}", delay_ms=1000)
    await put_raw(store, b'{ "f": "slow" }', "foreign")
    await put_raw(store, b"\xff", "unreadable")
    for is_trial in (True, False):
        assert await purge(store, "slow", limit=3, is_trial=is_trial) == 11
    store.clock.ms += 1000
    found = set(ids(await worker.take()))
    fast = {f"fast-{number}" for number in range(5)}
    assert found == fast | {f"fast-later-{number}" for number in range(5)} | {"unreadable"}


async def test_in_small_parts(store: Store) -> None:
    worker = await store.worker()
    names = [f"{number:03}" for number in range(120)]
    for at, name in enumerate(names):
        await store.enqueue(name, priority=at % 4, delay_ms=1000 * (at % 3 == 0))
    running = ids(await worker.take(20))
    assert await purge(store, limit=7, is_trial=True) == 100
    assert await purge(store, limit=7) == 100
    counts = await store.counts()
    assert (sum(counts.ready), counts.running, counts.scheduled) == (0, 20, 0)
    assert len(running) == 20


async def test_jobs_that_come_meanwhile_do_not_keep_it_going(store: Store) -> None:
    await store.enqueue("a", "b", "c")
    wanted = Purge(QUEUE, outcome=CANCELLED, result_ttl_ms=1000)
    jobs, after = await store.backend.control.queues.purge(wanted, 1)
    parts = 1
    while after is not None:
        await store.enqueue(f"new-{parts}")
        more, after = await store.backend.control.queues.purge(wanted, 1, after)
        jobs += more
        parts += 1
        assert parts < 30
    assert jobs >= 3
    for name in "abc":
        assert await store.state(name) is State.CANCELLED


async def test_jobs_that_become_due_meanwhile_hide_no_other(store: Store) -> None:
    worker = await store.worker()
    await put(store, "fast", "a", "b", "c", delay_ms=100)
    await put(store, "fast", "d", delay_ms=150)
    await put(store, "slow", *map(str, range(6)), delay_ms=200)
    wanted = Purge(QUEUE, "slow", SCHEDULED, CANCELLED, 60_000)
    control = store.backend.control.queues
    jobs, after = await control.purge(wanted, 2)
    store.clock.ms += 100
    assert set(ids(await worker.take())) == {"a", "b", "c"}
    while after is not None:
        more, after = await control.purge(wanted, 2, after)
        jobs += more
    assert jobs == 6
    assert (await store.counts()).scheduled == 1


async def test_jobs_given_back_and_set_aside_are_purged(store: Store) -> None:
    worker = await store.worker()
    await put(store, "slow", "back", "suspect")
    dying = await store.worker()
    (back,) = await worker.take(1)
    await dying.take(1)
    await worker.exchange(Settlement.release(back))
    await store.end_leases(worker)
    await put(store, "slow", "aside")
    await pause(store, "slow")
    assert await worker.take() == []
    assert await purge(store) == 3
    await resume(store, "slow")
    assert await worker.take() == []
    assert sum((await store.counts()).ready) == 0


async def test_nothing_is_left_of_purged_jobs(store: Store) -> None:
    if not store.backend.capabilities.notes:
        pytest.skip("no capability notes")
    worker = await store.worker()
    await store.enqueue("a", "b")
    a, b = await worker.take()
    await worker.lease.note([Note(a, PROGRESS, b"half"), Note(b, PROGRESS, b"half")])
    await worker.exchange(Settlement.release(a), Settlement.reschedule(b, b"{}", 1000))
    assert await purge(store) == 2
    await store.pass_time(2 * store.settings.id_ttl_ms + 1, worker)
    await store.enqueue("a", "b")
    assert await worker.lease.notes(await worker.take()) == [{}, {}]


async def test_a_queue_that_was_never_used(store: Store) -> None:
    assert await purge(store, queue="never") == 0
    assert await purge(store, queue="never", is_trial=True) == 0


async def test_a_purge_that_fails_can_be_made_again(
    store: Store, spoil: Spoil, any_part: str
) -> None:
    await store.enqueue("a", "b", queue=BAD)
    await store.enqueue("later", queue=BAD, delay_ms=1000)
    await spoil(any_part)
    with contextlib.suppress(StoreError):
        await purge(store, queue=BAD)
    await spoil.mend(any_part)
    await purge(store, queue=BAD)
    for name in ("a", "b", "later"):
        record = await store.look(name, BAD)
        assert (record.state, record.outcome) == (State.CANCELLED, CANCELLED)
    counts = await store.counts(BAD)
    assert (sum(counts.ready), counts.scheduled) == (0, 0)
    await spoil.mend()


@pytest.mark.parametrize("function", [None, "slow"])
async def test_a_pause_that_fails_can_be_made_again(
    store: Store, spoil: Spoil, any_part: str, function: str | None
) -> None:
    await put(store, "slow", "a", "b", queue=BAD)
    worker = await store.worker(BAD)
    await pause(store, function, BAD)
    await worker.exchange(demand=10)
    await spoil(any_part)
    with contextlib.suppress(StoreError):
        await resume(store, function, BAD)
        await pause(store, function, BAD)
    await spoil.mend(any_part)
    await pause(store, function, BAD)
    assert await worker.take() == []
    await resume(store, function, BAD)
    assert ids(await worker.take()) == ["a", "b"]
    await spoil.mend()


async def test_held_jobs_are_purged(store: Store) -> None:
    if not store.backend.capabilities.unique:
        pytest.skip("no capability unique")
    worker = await store.worker()
    names = [("running", "held"), ("back", "behind")]
    taken: dict[str, TakenJob] = {}
    for pair in names:
        terms = Terms(Unique(pair[0].encode(), "finished", 60_000, replace=True, hold=True))
        for name in pair:
            new = NewJob(QUEUE, name, 2, CALL, terms=terms)
            await store.backend.enqueue(EnqueueBatch(store.token(), [new]))
            taken |= {job.id: job for job in await worker.take()}
    assert taken.keys() == {"running", "back"}
    assert (await store.counts()).held == 2
    assert await purge(store, "slow", HELD, is_trial=True) == 2
    # The job in front of it is purged, too, and must not let it go on.
    await worker.exchange(Settlement.release(taken["back"]))
    everything = Purge(QUEUE).states
    assert await purge(store, states=everything, limit=1, is_trial=True) == 3
    assert await purge(store, states=everything, limit=1) == 3
    for name in ("held", "back", "behind"):
        assert await store.state(name) is State.CANCELLED
    assert await store.state("running") is State.RUNNING
    assert await worker.take() == []


async def test_a_job_behind_many_that_were_given_back(store: Store) -> None:
    leaving = await store.worker()
    await put(store, "slow", *(f"slow-{number:03}" for number in range(150)))
    await put(store, "fast", "z")
    jobs = await leaving.take(151)
    await pause(store, "slow")
    await leaving.exchange(*map(Settlement.release, jobs))
    # One free slot is enough: nobody would be called for a job that is left behind the others.
    assert ids(await (await store.worker()).take(1)) == ["z"]
