"""What a success causes is stored in the step that records it, and only then."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest

from asyncjobs.errors import MissingCapability, StoreError, UsageError
from asyncjobs.model.clock import new_id
from asyncjobs.model.job import NewJob, State, TakenJob
from asyncjobs.model.notes import Note
from asyncjobs.model.settlement import MOST_EFFECT_BYTES, MOST_EFFECT_JOBS, Effects, Settlement
from asyncjobs.model.terms import Barrier, Gate, Terms
from asyncjobs.store.letters import LetterQuery
from asyncjobs.store.seam import EnqueueBatch
from asyncjobs.testing.conformance.spoiled import BAD, Part, Spoil
from asyncjobs.testing.conformance.store import LEASE_MS, SHORT_S, Store, Worker, ids, outcome, ref

pytestmark = pytest.mark.anyio


def new(
    id: str,
    priority: int = 2,
    delay_ms: int = 0,
    at_ms: int | None = None,
    *,
    queue: str = "work",
    has_new_id: bool = False,
    terms: Terms | None = None,
) -> NewJob:
    return NewJob(queue, id, priority, id.encode(), delay_ms, at_ms, has_new_id, terms)


def causing(job: TakenJob, *jobs: NewJob) -> Settlement:
    return Settlement.succeeded(job).causing(Effects(jobs))


async def parent(store: Store, worker: Worker, id: str = "parent", queue: str = "work") -> TakenJob:
    """A job that runs."""
    await store.enqueue(id, queue=queue)
    return await worker.take_one()


@pytest.mark.parametrize("has_new_id", [False, True])
async def test_they_are_ready_with_the_success(store: Store, has_new_id: bool) -> None:
    worker = await store.worker()
    end = Settlement.succeeded(await parent(store, worker), outcome(), 60_000)
    jobs = tuple(new(id, has_new_id=has_new_id) for id in ("a", "b", "c"))
    answer = await worker.exchange(end.causing(Effects(jobs)))
    assert (answer.jobs, answer.not_yours) == ([], [])
    assert answer.left_ready == {"work"}
    assert (await store.look("parent")).outcome == outcome()
    assert await store.state("a") is State.READY
    taken = await worker.take()
    assert [(job.id, job.envelope, job.crashes) for job in taken] == [
        ("a", b"a", 0),
        ("b", b"b", 0),
        ("c", b"c", 0),
    ]
    assert (await worker.exchange(*map(Settlement.succeeded, taken))).not_yours == []


async def test_they_are_taken_by_the_exchange_that_settles(store: Store) -> None:
    worker, other = await store.worker(), await store.worker()
    end = causing(await parent(store, worker), new("a"), new("b", 0), new("c", 3))
    await other.settle_signals()
    assert ids((await worker.exchange(end, demand=10)).jobs) == ["b", "a", "c"]
    # Nothing is left, so nobody may be signalled.
    assert await other.signalled(SHORT_S) == []


async def test_what_is_left_of_them_signals(store: Store) -> None:
    worker, other = await store.worker(), await store.worker()
    end = causing(await parent(store, worker), new("a"), new("b"))
    await other.settle_signals()
    assert ids((await worker.exchange(end, demand=1)).jobs) == ["a"]
    assert await other.signalled() == ["work"]
    assert ids(await other.take()) == ["b"]


async def test_they_may_be_for_later(store: Store) -> None:
    worker, other = await store.worker(), await store.worker()
    later, last = store.clock.ms + 500, store.clock.ms + 900
    past = new("past", at_ms=store.clock.ms - 1)
    jobs = (new("delayed", 1, 500), new("at", at_ms=last), past)
    end = causing(await parent(store, worker), *jobs)
    await other.settle_signals()
    answer = await worker.exchange(end, demand=1)
    assert (ids(answer.jobs), answer.next_due_ms) == (["past"], {"work": later})
    record = await store.look("delayed")
    assert (record.state, record.due_ms, record.envelope) == (State.SCHEDULED, later, b"delayed")
    assert (await store.look("at")).due_ms == last
    # A sleeping worker would sleep past a new earliest time.
    assert await other.signalled() == ["work"]
    store.clock.ms = last
    assert ids(await other.take()) == ["delayed", "at"]


async def test_one_that_is_later_than_others_signals_nobody(store: Store) -> None:
    worker, other = await store.worker(), await store.worker()
    await store.enqueue("first", delay_ms=100)
    end = causing(await parent(store, worker), new("later", delay_ms=500))
    await other.settle_signals()
    await worker.exchange(end)
    assert await other.signalled(SHORT_S) == []


async def test_a_success_that_is_sent_again_stores_nothing_twice(store: Store) -> None:
    worker = await store.worker()
    made = [new(new_id(), has_new_id=True), new(new_id(), has_new_id=True, delay_ms=10)]
    end = causing(await parent(store, worker), *made)
    await worker.exchange(end)
    again = [job._replace(id=new_id()) for job in made]
    answer = await worker.exchange(end, end._replace(effects=Effects(tuple(again))))
    assert len(answer.not_yours) == 2
    counts = await store.counts()
    assert (sum(counts.ready), counts.scheduled) == (1, 1)
    (flow,) = await store.backend.inspect.queues.flow(["work"])
    assert flow.enqueued == 3  # with their parent


async def test_a_lost_lease_stores_nothing(store: Store) -> None:
    first, second = await store.worker(), await store.worker()
    taken = await parent(store, first)
    await store.end_leases(second)
    again = await second.take_one()
    late = causing(taken, new("late", has_new_id=True), new("given"))
    assert (await first.exchange(late)).lost == ("work",)
    # Not even under the lease that holds the job now: it was taken under another one.
    answer = await second.exchange(late, causing(again, new("mine", has_new_id=True)))
    assert answer.not_yours == [late]
    assert ids(await second.take()) == ["mine"]
    assert await store.find("given") is None


async def test_an_id_that_is_there_is_not_stored_again(store: Store) -> None:
    worker = await store.worker()
    await store.enqueue("ended")
    await worker.exchange(Settlement.succeeded(await worker.take_one(), outcome(), 60_000))
    await store.enqueue("waits", delay_ms=1000)
    taken = await parent(store, worker)
    same = [new("twice", 0), new("twice", 1), new("twice", delay_ms=5)]
    jobs = (new("waits"), new("ended"), new("parent"), *same)
    answer = await worker.exchange(causing(taken, *jobs), demand=10)
    assert [(job.id, job.priority) for job in answer.jobs] == [("twice", 0)]
    assert (await store.look("ended")).outcome == outcome()
    assert await store.state("parent") is State.SUCCEEDED
    assert await store.state("waits") is State.SCHEDULED


async def test_the_same_id_in_two_successes(store: Store) -> None:
    await store.enqueue("one", "two")
    worker = await store.worker()
    one, two = await worker.take()
    # The id of a job that is settled beside is known as well, in any order.
    ends = causing(one, new("child", 1), new("two")), causing(two, new("child", 2), new("one"))
    answer = await worker.exchange(*ends, demand=10)
    assert [(job.id, job.priority) for job in answer.jobs] == [("child", 1)]


async def test_a_given_id_is_rid_of_an_old_result(store: Store) -> None:
    worker = await store.worker()
    await store.enqueue("a")
    await worker.exchange(Settlement.succeeded(await worker.take_one(), outcome(), 3_600_000))
    await store.pass_time(store.settings.id_ttl_ms * 2 + 1, worker)
    (child,) = (
        await worker.exchange(causing(await parent(store, worker), new("a")), demand=1)
    ).jobs
    await worker.exchange(Settlement.discarded(child))
    record = await store.look("a")
    assert (record.state, record.outcome) == (State.DISCARDED, None)


async def test_they_stand_beside_settlements_of_all_kinds(store: Store) -> None:
    await store.enqueue("kept", "dead", "again", "back", "plain", "two")
    worker = await store.worker()
    kept, dead, again, back, plain, two = await worker.take()
    answer = await worker.exchange(
        Settlement.succeeded(kept, outcome(), 60_000).causing(Effects((new("a"),))),
        Settlement.dead(dead, b"{}\n{}", outcome(State.DEAD), 60_000),
        Settlement.reschedule(again, b"again", 500),
        Settlement.release(back),
        Settlement.succeeded(plain),
        Settlement.succeeded(two).causing(Effects((new("b", 0), new("c", has_new_id=True)))),
    )
    assert answer.not_yours == []
    assert (await store.look("kept")).outcome == outcome()
    assert (await store.look("dead")).outcome == outcome(State.DEAD)
    assert await store.state("again") is State.SCHEDULED
    assert ids(await worker.take()) == ["b", "back", "a", "c"]


async def test_each_queue_has_its_own(store: Store) -> None:
    await store.enqueue("x", queue="one")
    await store.enqueue("y", queue="two")
    worker = await store.worker("one", "two")
    one, two = sorted(await worker.take(), key=lambda job: job.queue)
    await worker.exchange(causing(one, new("a", queue="one")), causing(two, new("a", queue="two")))
    assert sorted(job.ref for job in await worker.take()) == [ref("a", "one"), ref("a", "two")]


async def test_as_many_as_are_allowed(store: Store) -> None:
    worker = await store.worker()
    jobs = [new(f"n{n:04}", n % 4, has_new_id=n % 2 == 0) for n in range(MOST_EFFECT_JOBS)]
    answer = await worker.exchange(causing(await parent(store, worker), *jobs), demand=0)
    assert answer.not_yours == []
    assert (await store.counts()).ready == (250, 250, 250, 250)
    taken: list[str] = []
    while len(taken) < MOST_EFFECT_JOBS:
        taken += ids(await worker.take(400))
    assert sorted(taken) == [job.id for job in jobs]


async def test_large_ones_are_handed_out_in_parts(store: Store) -> None:
    """One read of all of them would hold up everybody else."""
    worker = await store.worker()
    size = MOST_EFFECT_BYTES // 20
    jobs = [NewJob("work", f"n{n:02}", 2, bytes(size), has_new_id=True) for n in range(20)]
    ends = [causing(await parent(store, worker, "one"), *jobs)]
    more = [job._replace(id=f"m{job.id}") for job in jobs]
    ends.append(causing(await parent(store, worker, "two"), *more))
    answer = await worker.exchange(*ends, demand=40)
    assert 20 <= len(answer.jobs) < 30
    assert answer.left_ready == {"work"}


async def test_a_success_of_what_was_given_back_stores_nothing(store: Store) -> None:
    """Another worker runs the job by now, and will store what its own success causes."""
    first, second = await store.worker(), await store.worker()
    taken = await parent(store, first)
    await first.exchange(Settlement.release(taken))
    await store.enqueue("beside", priority=3)
    again, beside = await second.take()
    late = causing(taken, new("late"), new("made", has_new_id=True))
    answer = await first.exchange(late)
    assert answer.not_yours == [late]
    assert await store.find("late") is None
    assert await store.state("parent") is State.RUNNING
    ends = causing(again, new("mine")), Settlement.succeeded(beside)
    assert (await second.exchange(*ends)).not_yours == []
    assert ids(await second.take()) == ["mine"]


async def test_all_of_one_exchange_wake_one_worker(store: Store) -> None:
    await store.enqueue("one", "two")
    worker = await store.worker()
    one, two = await worker.take()
    await worker.settle_signals()
    ends = causing(one, new("a"), new("b", delay_ms=500)), causing(two, new("c", delay_ms=200))
    await worker.exchange(*ends)
    assert await worker.signalled() == ["work"]
    assert await worker.signalled(SHORT_S) == []


REFUSED = [
    ([new("a", queue="other")], UsageError, r"work/parent.*other/a.*by itself"),
    ([new(f"n{n}") for n in range(MOST_EFFECT_JOBS + 1)], UsageError, r"1,001 jobs.*in parts"),
    ([NewJob("work", "a", 2, bytes(MOST_EFFECT_BYTES + 1))], UsageError, r"4,194,305 bytes"),
    ([new("a"), new("b", 4)], UsageError, r"work/b.*priority 4"),
    ([new("a"), new("b", -1)], UsageError, r"work/b.*priority -1"),
]


@pytest.mark.parametrize(
    ("jobs", "error", "match"), REFUSED, ids=["queue", "count", "size", "above", "below"]
)
async def test_what_no_success_may_cause(
    store: Store, jobs: list[NewJob], error: type[Exception], match: str
) -> None:
    """Refused before anything is sent: neither the job nor the one beside it is settled."""
    if jobs[0].terms is not None and store.backend.capabilities.gates:
        pytest.skip("it has the capability gates")
    is_elsewhere = any(job.queue != "work" for job in jobs)
    if is_elsewhere and store.backend.capabilities.across_queues:
        pytest.skip("it has the capability across_queues")
    await store.enqueue("parent", "beside")
    worker = await store.worker()
    taken, beside = await worker.take()
    with pytest.raises(error, match=match):
        await worker.exchange(Settlement.succeeded(beside), causing(taken, *jobs))
    assert (await store.counts()).running == 2
    assert await store.find(jobs[0].id) is None


async def test_effects_with_a_gate_that_it_cannot_keep(store: Store) -> None:
    if store.backend.capabilities.gates:
        pytest.skip("it has the capability gates")
    worker = await store.worker()
    end = causing(await parent(store, worker), new("a", terms=Terms(gate=Gate(turn="acme"))))
    with pytest.raises(MissingCapability, match=r"'gates'.*work/a"):
        await worker.exchange(end)
    assert await store.find("a") is None


async def test_effects_with_barriers_that_it_cannot_keep(store: Store) -> None:
    if store.backend.capabilities.flows:
        pytest.skip("it has the capability flows")
    worker = await store.worker()
    effects = Effects(barriers=(Barrier("work", "end", 1),))
    end = Settlement.succeeded(await parent(store, worker)).causing(effects)
    with pytest.raises(MissingCapability, match=r"'flows'.*work/parent"):
        await worker.exchange(end)


@pytest.mark.parametrize(
    "end",
    [
        Settlement.discarded,
        Settlement.cancelled,
        Settlement.release,
        lambda job: Settlement.dead(job, b"{}\n{}"),
        lambda job: Settlement.reschedule(job, b"again", 1),
    ],
    ids=["discarded", "cancelled", "release", "dead", "reschedule"],
)
async def test_nothing_but_a_success_causes_anything(
    store: Store, end: Callable[[TakenJob], Settlement]
) -> None:
    worker = await store.worker()
    settlement = end(await parent(store, worker)).causing(Effects((new("a"),)))
    with pytest.raises(UsageError, match=r"work/parent.*only a success"):
        await worker.exchange(settlement)
    assert (await store.counts()).running == 1


async def test_effects_without_jobs(store: Store) -> None:
    worker = await store.worker()
    answer = await worker.exchange(causing(await parent(store, worker)), demand=1)
    assert (answer.jobs, answer.not_yours) == ([], [])
    assert await store.state("parent") is State.SUCCEEDED


async def test_a_success_wins_over_a_mark_and_stores_its_jobs(store: Store) -> None:
    worker = await store.worker()
    taken = await parent(store, worker)
    await store.backend.cancel([ref("parent")], None, 0)
    assert ids((await worker.exchange(causing(taken, new("a")), demand=1)).jobs) == ["a"]


@pytest.mark.parametrize("part", [Part.NORMAL, Part.DUE_TIMES, Part.SCHEDULED, Part.PLACES])
async def test_where_they_cannot_be_kept_the_job_is_not_acknowledged(
    store: Store, spoil: Spoil, part: Part
) -> None:
    worker = await store.worker(BAD)
    await store.enqueue("parent", queue=BAD, priority=1)
    jobs = new("a", queue=BAD, has_new_id=True), new("b", 2, 1, queue=BAD, has_new_id=True)
    end = causing(await worker.take_one(), *jobs)
    await spoil(part)
    assert list((await worker.exchange(end)).away) == [BAD]
    await spoil.mend(part)
    worker.sequence += 1
    answer = await worker.lease.resync(worker.sequence, [])
    assert ids(answer.missing) == ["parent"]
    assert await store.find("a", BAD) is None


@pytest.mark.parametrize("has_notes", [False, True])
async def test_whatever_fails_they_are_stored_once(
    store: Store, spoil: Spoil, any_part: str, has_notes: bool
) -> None:
    """With the success, or when the job has run again."""
    worker = await store.worker(BAD)
    await store.enqueue("parent", queue=BAD, priority=1)
    taken = await worker.take_one()
    if has_notes and store.backend.capabilities.notes:
        await worker.lease.note([Note(taken, "x", b"1")])
    jobs = [
        new("a", queue=BAD, has_new_id=True),
        new("b", queue=BAD),
        new("c", queue=BAD, delay_ms=1),
    ]
    await spoil(any_part)
    with contextlib.suppress(StoreError):
        await worker.exchange(causing(taken, *jobs))
    await spoil.mend(any_part)
    other = await store.worker(BAD)
    await store.pass_time(LEASE_MS + 1, other)
    await store.reclaim(BAD)
    found = await other.take()
    if "parent" in ids(found):
        assert ids(found) == ["parent"]
        await other.exchange(causing(found.pop(), *jobs))
    store.clock.ms += 1
    found += await other.take()
    assert sorted(ids(found)) == ["a", "b", "c"]
    assert (await other.exchange(*map(Settlement.succeeded, found))).not_yours == []


async def test_a_child_that_dies_leaves_a_letter(store: Store) -> None:
    """A job like any other: nothing of it depends on where it came from."""
    worker = await store.worker()
    end = causing(await parent(store, worker), new("child", 1))
    (child,) = (await worker.exchange(end, demand=1)).jobs
    await worker.exchange(Settlement.dead(child, b"{}\n{}"))
    (letter,) = (await store.backend.dead.page(LetterQuery("work"))).letters
    assert letter.key.ref == ref("child")
    answer = await store.backend.enqueue(EnqueueBatch("again", [new("child")]))
    assert [place is None for place in answer.places] == [False]
