"""What the store knows of jobs: states, cancels, progress, dead letters, counts."""

from __future__ import annotations

import pytest

from asyncjobs.model.clock import new_id
from asyncjobs.model.job import State
from asyncjobs.model.notes import PROGRESS, Note
from asyncjobs.model.outcome import Outcome, dead_letter
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.answers import CancelVerdict
from asyncjobs.store.inspect import QueueCounts
from asyncjobs.store.letters import Revival
from asyncjobs.store.seam import StoreSettings
from asyncjobs.testing.conformance.store import LEASE_MS, Store, ids, outcome, ref

pytestmark = pytest.mark.anyio

CANCELLED = outcome(State.CANCELLED)


async def test_opening_says_what_the_store_is(store: Store) -> None:
    info = await store.backend.open()
    assert info.name
    assert info.version
    assert info.address == store.backend.address


async def test_what_was_never_there_is_unknown(store: Store) -> None:
    await store.enqueue("a")
    records = await store.backend.get([ref("b"), ref("a"), ref("a", "never")])
    assert [record and record.state for record in records] == [None, State.READY, None]
    assert await store.backend.get([]) == []


async def test_get_answers_in_the_order_of_the_question(store: Store) -> None:
    await store.enqueue("a", "b", queue="one")
    await store.enqueue("a", queue="two", delay_ms=1000)
    refs = [ref("a", "two"), ref("b", "one"), ref("a", "one"), ref("a", "two")]
    records = await store.backend.get(refs)
    assert [record and record.ref for record in records] == refs


async def test_a_waiting_job_is_cancelled_at_once(store: Store) -> None:
    await store.enqueue("ready", "stays")
    await store.enqueue("scheduled", delay_ms=1000)
    refs = [ref("ready"), ref("scheduled")]
    verdicts = await store.backend.cancel(refs, CANCELLED, 60_000)
    assert verdicts == [CancelVerdict.CANCELLED] * 2
    counts = await store.counts()
    assert (sum(counts.ready), counts.scheduled) == (1, 0)
    for one in refs:
        record = await store.look(one.id)
        assert (record.state, record.outcome) == (State.CANCELLED, CANCELLED)
    worker = await store.worker()
    store.clock.ms += 1000
    answer = await worker.exchange(demand=5)
    assert (ids(answer.jobs), answer.next_due_ms) == (["stays"], {"work": None})
    assert await store.enqueue("ready", "scheduled") == [False, False]


@pytest.mark.parametrize("kept", [(CANCELLED, 0), (None, 60_000)])
async def test_a_job_is_cancelled_without_a_result(
    store: Store, kept: tuple[bytes | None, int]
) -> None:
    await store.enqueue("a")
    await store.backend.cancel([ref("a")], *kept)
    record = await store.look("a")
    assert (record.state, record.outcome) == (State.CANCELLED, None)


async def test_a_returned_job_is_cancelled_at_once(store: Store) -> None:
    await store.enqueue("released", "reclaimed")
    worker, keeper = await store.worker(), await store.worker()
    released, _ = await worker.take()
    await worker.exchange(Settlement.release(released))
    await store.end_leases(keeper)
    verdicts = await store.backend.cancel([ref("released"), ref("reclaimed")], None, 0)
    assert verdicts == [CancelVerdict.CANCELLED] * 2
    assert await keeper.take() == []
    counts = await store.counts()
    assert (sum(counts.ready), counts.running) == (0, 0)


async def test_a_running_job_is_asked_to_stop(store: Store) -> None:
    await store.enqueue("a", "b")
    worker, other = await store.worker(), await store.worker()
    a, b = await worker.take()
    assert await store.backend.cancel([a.ref], CANCELLED, 60_000) == [CancelVerdict.REQUESTED]
    assert await store.state("a") is State.RUNNING
    for _ in range(2):
        assert (await worker.lease.beat()).cancels == [a.ref]
        assert (await worker.exchange(demand=0)).cancels == [a.ref]
    assert (await other.lease.beat()).cancels == []
    assert (await other.exchange(demand=0)).cancels == []
    assert await store.backend.cancel([a.ref], None, 0) == [CancelVerdict.REQUESTED]
    answer = await worker.exchange(Settlement.cancelled(a, CANCELLED, 60_000))
    assert (answer.not_yours, answer.cancels) == ([], [])
    record = await store.look("a")
    assert (record.state, record.outcome) == (State.CANCELLED, CANCELLED)
    assert (await worker.lease.beat()).cancels == []
    assert (await worker.exchange(Settlement.succeeded(b))).not_yours == []


async def test_a_job_may_succeed_before_it_hears_of_a_cancel(store: Store) -> None:
    await store.enqueue("a")
    worker = await store.worker()
    taken = await worker.take_one()
    await store.backend.cancel([taken.ref], None, 0)
    answer = await worker.exchange(Settlement.succeeded(taken, outcome(), 60_000))
    assert (answer.not_yours, answer.cancels) == ([], [])
    assert await store.state("a") is State.SUCCEEDED


async def test_a_marked_job_is_not_run_again_by_a_retry(store: Store) -> None:
    await store.enqueue("a")
    worker = await store.worker()
    taken = await worker.take_one()
    await store.backend.cancel([taken.ref], None, 0)
    settlement = Settlement.reschedule(taken, b"again", 0)
    answer = await worker.exchange(settlement, demand=5)
    assert (answer.jobs, answer.not_yours, answer.cancels) == ([], [], [])
    assert list(answer.cancelled) == [settlement]
    assert await store.state("a") is State.CANCELLED


async def test_what_ends_of_itself_is_not_told_of_as_cancelled(store: Store) -> None:
    await store.enqueue("a", "b", "c")
    worker = await store.worker()
    a, b, c = (await worker.exchange(demand=3)).jobs
    await store.backend.cancel([a.ref, b.ref], None, 0)
    ends = (Settlement.succeeded(a), Settlement.cancelled(b), Settlement.reschedule(c, b"again", 9))
    answer = await worker.exchange(*ends)
    assert (answer.not_yours, list(answer.cancelled)) == ([], [])


@pytest.mark.parametrize("how", ["release", "reclaim", "deregister"])
async def test_a_mark_goes_to_the_next_holder(store: Store, how: str) -> None:
    await store.enqueue("a")
    worker, keeper = await store.worker(), await store.worker()
    taken = await worker.take_one()
    await store.backend.cancel([taken.ref], None, 0)
    if how == "release":
        assert (await worker.exchange(Settlement.release(taken))).cancels == []
    elif how == "reclaim":
        await store.end_leases(keeper)
    else:
        await worker.lease.leave()
    answer = await keeper.exchange(demand=1)
    assert (ids(answer.jobs), answer.cancels) == (["a"], [taken.ref])
    # It says so again, for that answer may be lost.
    assert (await keeper.lease.beat()).cancels == [taken.ref]
    await keeper.exchange(Settlement.cancelled(answer.jobs[0]))
    assert await store.state("a") is State.CANCELLED


async def test_a_mark_does_not_stick_to_the_id(store: Store) -> None:
    await store.enqueue("a")
    worker = await store.worker()
    taken = await worker.take_one()
    await store.backend.cancel([taken.ref], None, 0)
    await worker.exchange(Settlement.cancelled(taken))
    await store.pass_time(store.settings.id_ttl_ms * 2 + 1, worker)
    await store.enqueue("a")
    answer = await worker.exchange(demand=1)
    assert (ids(answer.jobs), answer.cancels) == (["a"], [])


async def test_what_has_finished_cannot_be_cancelled(store: Store) -> None:
    await store.enqueue("done", "dead", "cancelled")
    worker = await store.worker()
    done, dead = await worker.take(2)
    await worker.exchange(Settlement.succeeded(done), Settlement.dead(dead, b"letter"))
    refs = [ref("done"), ref("dead"), ref("cancelled"), ref("never"), ref("a", "never")]
    verdicts = await store.backend.cancel(refs, None, 0)
    assert verdicts == [
        CancelVerdict.FINISHED,
        CancelVerdict.FINISHED,
        CancelVerdict.CANCELLED,
        CancelVerdict.UNKNOWN,
        CancelVerdict.UNKNOWN,
    ]
    verdicts = await store.backend.cancel([ref("cancelled")], None, 0)
    assert verdicts == [CancelVerdict.FINISHED]
    assert await store.state("done") is State.SUCCEEDED


async def test_progress_is_kept_while_the_job_is_held(store: Store) -> None:
    await store.enqueue("a", queue="one")
    await store.enqueue("b", queue="two")
    worker = await store.worker("one", "two")
    one, two = sorted(await worker.take(), key=lambda job: job.queue)
    assert (await store.look("a", "one")).progress is None
    await worker.lease.note([Note(one, PROGRESS, b"1/2"), Note(two, PROGRESS, b"\xff")])
    await worker.lease.note([Note(one, PROGRESS, b"2/2")])
    assert (await store.look("a", "one")).progress == b"2/2"
    assert (await store.look("b", "two")).progress == b"\xff"
    await worker.exchange(Settlement.succeeded(one))
    await worker.lease.note([Note(one, PROGRESS, b"late")])
    assert (await store.look("a", "one")).progress is None


async def test_progress_of_a_lost_lease_has_no_effect(store: Store) -> None:
    await store.enqueue("a")
    worker, keeper = await store.worker(), await store.worker()
    taken = await worker.take_one()
    await store.end_leases(keeper)
    again = await keeper.take_one()
    await keeper.lease.note([Note(again, PROGRESS, b"mine")])
    await worker.lease.note([Note(taken, PROGRESS, b"not yours")])
    assert (await store.look("a")).progress == b"mine"


async def test_progress_of_a_released_job_has_no_effect(store: Store) -> None:
    await store.enqueue("a")
    worker, other = await store.worker(), await store.worker()
    taken = await worker.take_one()
    await worker.exchange(Settlement.release(taken))
    await other.take_one()
    await worker.lease.note([Note(taken, PROGRESS, b"not yours")])
    assert (await store.look("a")).progress is None


async def test_progress_of_nothing(store: Store) -> None:
    assert await (await store.worker()).lease.note([]) == []


async def bury(store: Store, *names: str) -> None:
    worker = await store.worker()
    await store.enqueue(*names)
    letters = [
        Settlement.dead(job, dead_letter(Outcome(State.DEAD).encode(), job.envelope))
        for job in await worker.take()
    ]
    await worker.exchange(*letters)
    await worker.lease.leave()


class TestPruneByAge:
    @pytest.fixture
    def new_settings(self) -> StoreSettings:
        return StoreSettings(prefix=f"test-{new_id()}", dead_max_age_ms=3_600_000)

    async def test_old_dead_letters_go(self, store: Store) -> None:
        await bury(store, "old-1", "old-2")
        store.clock.ms += 1_800_000
        await bury(store, "young")
        assert await store.backend.prune(["work"], 100) == 0
        store.clock.ms += 1_800_001
        assert await store.backend.prune(["work", "never"], 100) == 2
        assert await store.find("old-1") is None
        assert (await store.look("young")).state is State.DEAD
        assert (await store.counts()).dead == 1

    async def test_a_prune_is_bounded(self, store: Store) -> None:
        await bury(store, "a", "b", "c")
        store.clock.ms += 3_600_001
        assert await store.backend.prune(["work"], 2) == 2
        assert await store.backend.prune(["work"], 2) == 1
        assert await store.backend.prune(["work"], 2) == 0


class TestPruneByCount:
    @pytest.fixture
    def new_settings(self) -> StoreSettings:
        return StoreSettings(prefix=f"test-{new_id()}", dead_max_count=2)

    async def test_the_oldest_dead_letters_go(self, store: Store) -> None:
        for name in ("a", "b", "c", "d"):
            await bury(store, name)
            store.clock.ms += 1
        assert await store.backend.prune(["work"], 1) == 1
        assert await store.backend.prune(["work"], 100) == 1
        records = await store.backend.get([ref(name) for name in ("a", "b", "c", "d")])
        letters = [record is not None and record.dead_letter is not None for record in records]
        assert letters == [False, False, True, True]


class TestPruneByBytes:
    @pytest.fixture
    def new_settings(self) -> StoreSettings:
        return StoreSettings(prefix=f"test-{new_id()}", dead_max_bytes=2_500)

    async def test_the_oldest_dead_letters_go(self, store: Store) -> None:
        worker = await store.worker()
        for name in "abcde":
            await store.enqueue(name)
            await worker.exchange(Settlement.dead(await worker.take_one(), bytes(1000)))
            store.clock.ms += 1
        assert await store.backend.prune(["work"], 1) == 1
        assert await store.backend.prune(["work"], 100) == 2
        assert await store.backend.prune(["work"], 100) == 0
        found = await store.backend.dead.find([ref(name) for name in "abcde"])
        assert [letter is not None for letter in found] == [False, False, False, True, True]

    async def test_letters_that_have_gone_do_not_count(self, store: Store) -> None:
        worker = await store.worker()

        async def die(*names: str) -> None:
            for name in names:
                await store.enqueue(name)
                await worker.exchange(Settlement.dead(await worker.take_one(), bytes(1000)))

        await die("purged", "revived")
        purged, revived = await store.backend.dead.find([ref("purged"), ref("revived")])
        assert purged is not None
        assert revived is not None
        assert await store.backend.dead.purge([purged.key]) == [True]
        await store.backend.dead.revive([Revival(revived.key, b"again")])
        # It dies a second time: one letter takes the place of the other.
        await worker.exchange(Settlement.dead(await worker.take_one(), bytes(1000)))
        await die("other")
        assert await store.backend.prune(["work"], 100) == 0
        assert (await store.counts()).dead == 2


async def test_counts_of_each_state(store: Store) -> None:
    for priority in range(4):
        await store.enqueue(*(f"p{priority}-{n}" for n in range(priority + 1)), priority=priority)
    await store.enqueue("later", delay_ms=1000)
    worker = await store.worker()
    first, *_ = await worker.take(2)
    await worker.exchange(Settlement.dead(first, b"letter"))
    assert await store.backend.inspect.queues.counts(["work", "never"]) == [
        QueueCounts("work", (0, 1, 3, 4), running=1, scheduled=1, dead=1, workers=1),
        QueueCounts("never", (0, 0, 0, 0), running=0, scheduled=0, dead=0, workers=0),
    ]
    assert await store.backend.inspect.queues.counts([]) == []


async def test_a_lease_that_is_over_is_no_worker(store: Store) -> None:
    await store.worker()
    store.clock.ms += LEASE_MS
    assert (await store.counts()).workers == 0


async def test_queues_are_those_ever_used(store: Store) -> None:
    assert await store.backend.inspect.queues.names() == []
    await store.enqueue("a", queue="jobs")
    await store.worker("workers", "both")
    await store.enqueue("b", queue="both")
    assert await store.backend.inspect.queues.names() == ["both", "jobs", "workers"]


async def test_backends_of_one_store_see_the_same_jobs(store: Store) -> None:
    if not store.backend.capabilities.shared:
        pytest.skip("no capability shared")
    other = store.make(store.settings, store.clock)
    await other.open()
    try:
        await store.enqueue("a", token="once")
        twin = Store(other, store.clock, store.settings, store.make)
        assert await twin.enqueue("a", token="once") == [True]
        worker = await twin.worker()
        taken = await worker.take_one()
        assert (await store.look("a")).holder == worker.lease.spec.id
        await worker.exchange(Settlement.succeeded(taken, outcome(), 60_000))
        (record,) = await store.backend.wait_results([ref("a")], None)
        assert record is not None
        assert record.outcome == outcome()
        assert (
            await other.inspect.queues.names()
            == await store.backend.inspect.queues.names()
            == ["work"]
        )
    finally:
        await other.close()


async def test_a_job_that_is_named_twice_in_one_cancel(store: Store) -> None:
    await store.enqueue("ready")
    await store.enqueue("later", delay_ms=1000)
    refs = [ref("ready"), ref("later"), ref("ready"), ref("unknown"), ref("later")]
    assert await store.backend.cancel(refs, None, 0) == [
        CancelVerdict.CANCELLED,
        CancelVerdict.CANCELLED,
        CancelVerdict.FINISHED,
        CancelVerdict.UNKNOWN,
        CancelVerdict.FINISHED,
    ]
