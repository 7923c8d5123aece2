"""An outcome is recorded once, by the holder only."""

from __future__ import annotations

import pytest

from asyncjobs.model.ends import ENDS
from asyncjobs.model.job import State, TakenJob
from asyncjobs.model.outcome import Outcome, dead_letter
from asyncjobs.model.settlement import Settlement
from asyncjobs.testing.conformance.store import Store, eventually, ids, outcome

pytestmark = pytest.mark.anyio

LETTER = dead_letter(Outcome(State.DEAD, message="boom").encode(), b"raw\nenvelope\xff")


def finished(state: State, job: TakenJob, record: bytes | None, ttl_ms: int) -> Settlement:
    if state is State.DEAD:
        return Settlement.dead(job, LETTER, record, ttl_ms)
    return Settlement.succeeded(job, record, ttl_ms)._replace(state=state)


@pytest.mark.parametrize("state", ENDS)
@pytest.mark.parametrize("priority", range(4))
async def test_a_finished_job_keeps_its_outcome(store: Store, state: State, priority: int) -> None:
    await store.enqueue("a", priority=priority)
    worker = await store.worker()
    kept = outcome(state)
    answer = await worker.exchange(finished(state, await worker.take_one(), kept, 60_000))
    assert answer.not_yours == []
    record = await store.look("a")
    assert (record.state, record.outcome, record.holder) == (state, kept, None)
    assert record.envelope is None
    counts = await store.counts()
    assert (sum(counts.ready), counts.running, counts.scheduled) == (0, 0, 0)
    assert await worker.take() == []


@pytest.mark.parametrize("state", ENDS)
async def test_without_a_result_the_state_is_kept(store: Store, state: State) -> None:
    await store.enqueue("a", "b")
    worker = await store.worker()
    first, second = await worker.take()
    await worker.exchange(
        finished(state, first, outcome(state), 0), finished(state, second, None, 60_000)
    )
    for id in ("a", "b"):
        record = await store.look(id)
        assert (record.state, record.outcome) == (state, None)


async def test_an_outcome_goes_after_its_time(store: Store) -> None:
    await store.enqueue("short", "long")
    worker = await store.worker()
    short, long = await worker.take()
    await worker.exchange(
        Settlement.succeeded(short, outcome(), 100), Settlement.succeeded(long, outcome(), 600_000)
    )
    store.clock.ms += 101

    async def gone() -> bool:
        return (await store.look("short")).outcome is None

    await eventually(gone)
    assert await store.state("short") is State.SUCCEEDED
    assert (await store.look("long")).outcome == outcome()


async def test_an_outcome_can_outlive_the_known_id(store: Store) -> None:
    await store.enqueue("a")
    worker = await store.worker()
    kept = outcome(State.DISCARDED)
    await worker.exchange(Settlement.discarded(await worker.take_one(), kept, 3_600_000))
    await store.pass_time(store.settings.id_ttl_ms * 2 + 1, worker)
    record = await store.look("a")
    assert (record.state, record.outcome) == (State.DISCARDED, kept)


async def test_an_outcome_is_not_that_of_an_earlier_job(store: Store) -> None:
    await store.enqueue("a")
    worker = await store.worker()
    await worker.exchange(Settlement.succeeded(await worker.take_one(), outcome(), 3_600_000))
    await store.pass_time(store.settings.id_ttl_ms * 2 + 1, worker)
    await store.enqueue("a")
    await worker.exchange(Settlement.discarded(await worker.take_one()))
    record = await store.look("a")
    assert (record.state, record.outcome) == (State.DISCARDED, None)


async def test_an_id_that_is_gone_is_unknown(store: Store) -> None:
    await store.enqueue("a")
    worker = await store.worker()
    await worker.exchange(Settlement.succeeded(await worker.take_one()))
    await store.pass_time(store.settings.id_ttl_ms * 2 + 1, worker)
    assert await store.find("a") is None


async def test_what_is_not_held_among_many_has_no_effect_and_the_others_do(store: Store) -> None:
    await store.enqueue("a", "b", "c", priority=1)
    await store.enqueue("d", priority=2)
    worker = await store.worker()
    a, b, c, d = await worker.take()
    await worker.exchange(Settlement.succeeded(b))
    again, twice = Settlement.succeeded(b), Settlement.discarded(c, outcome(State.DISCARDED), 0)
    settled = [Settlement.succeeded(a), again, Settlement.succeeded(c), twice]
    answer = await worker.exchange(*settled, Settlement.reschedule(d, b"later", 60_000))
    assert answer.not_yours == [again, twice]
    counts = await store.counts()
    assert (sum(counts.ready), counts.running, counts.scheduled) == (0, 0, 1)
    (flow,) = await store.backend.inspect.queues.flow(["work"])
    assert flow.ended.get(State.SUCCEEDED) == 3
    assert flow.ended.get(State.DISCARDED, 0) == 0


async def test_settling_twice_has_no_effect(store: Store) -> None:
    await store.enqueue("a")
    worker = await store.worker()
    taken = await worker.take_one()
    await worker.exchange(Settlement.succeeded(taken, outcome(), 60_000))
    again = [
        Settlement.dead(taken, LETTER, outcome(State.DEAD), 60_000),
        Settlement.reschedule(taken, b"again", 0),
        Settlement.release(taken),
        Settlement.discarded(taken),
    ]
    answer = await worker.exchange(*again, demand=5)
    assert (answer.not_yours, answer.jobs) == (again, [])
    record = await store.look("a")
    assert (record.state, record.outcome) == (State.SUCCEEDED, outcome())
    assert (await store.counts()).dead == 0


async def test_each_settlement_is_judged_by_itself(store: Store) -> None:
    await store.enqueue("a", "b", "c")
    worker = await store.worker()
    a, b, c = await worker.take()
    await worker.exchange(Settlement.succeeded(b))
    answer = await worker.exchange(
        Settlement.succeeded(a), Settlement.discarded(b), Settlement.succeeded(c)
    )
    assert answer.not_yours == [Settlement.discarded(b)]
    states = [await store.state(id) for id in ("a", "b", "c")]
    assert states == [State.SUCCEEDED] * 3


async def test_settlements_over_several_queues(store: Store) -> None:
    await store.enqueue("a", queue="one")
    await store.enqueue("a", queue="two")
    worker = await store.worker("one", "two")
    one, two = sorted(await worker.take(), key=lambda job: job.queue)
    await worker.exchange(Settlement.succeeded(one, outcome(), 60_000), Settlement.discarded(two))
    assert await store.state("a", "one") is State.SUCCEEDED
    assert await store.state("a", "two") is State.DISCARDED


async def test_a_dead_job_leaves_a_dead_letter(store: Store) -> None:
    await store.enqueue("a", priority=1)
    worker = await store.worker()
    await worker.exchange(Settlement.dead(await worker.take_one(), LETTER))
    record = await store.look("a")
    assert (record.state, record.priority, record.dead_letter) == (State.DEAD, 1, LETTER)
    assert (await store.counts()).dead == 1
    await store.pass_time(store.settings.id_ttl_ms * 2 + 1, worker)
    record = await store.look("a")
    assert (record.state, record.dead_letter) == (State.DEAD, LETTER)


async def test_a_rescheduled_job_comes_back_with_its_new_envelope(store: Store) -> None:
    await store.enqueue("a", priority=1)
    worker = await store.worker()
    taken = await worker.take_one()
    answer = await worker.exchange(Settlement.reschedule(taken, b"second", 500), demand=5)
    due = store.clock.ms + 500
    assert (answer.jobs, answer.next_due_ms) == ([], {"work": due})
    record = await store.look("a")
    assert (record.state, record.due_ms, record.envelope) == (State.SCHEDULED, due, b"second")
    assert (record.priority, record.holder) == (1, None)
    store.clock.ms = due
    again = await worker.take_one()
    assert (again.id, again.priority, again.envelope) == ("a", 1, b"second")
    assert again.receipt != taken.receipt
    assert (await worker.exchange(Settlement.succeeded(taken))).not_yours != []
    assert (await worker.exchange(Settlement.succeeded(again))).not_yours == []


async def test_a_job_rescheduled_without_delay_is_taken_in_the_same_exchange(store: Store) -> None:
    await store.enqueue("a")
    worker = await store.worker()
    taken = await worker.take_one()
    answer = await worker.exchange(Settlement.reschedule(taken, b"second", 0), demand=1)
    assert [job.envelope for job in answer.jobs] == [b"second"]


async def test_a_rescheduled_id_is_known(store: Store) -> None:
    await store.enqueue("a")
    worker = await store.worker()
    await worker.exchange(Settlement.reschedule(await worker.take_one(), b"second", 500))
    assert await store.enqueue("a") == [False]


async def test_released_jobs_keep_their_place_and_order(store: Store) -> None:
    await store.enqueue("a", "b", "c", "d")
    worker = await store.worker()
    a, b, c = await worker.take(3)
    await worker.exchange(Settlement.release(c), Settlement.release(a))
    record = await store.look("a")
    assert (record.state, record.holder, record.envelope) == (State.READY, None, b"a")
    counts = await store.counts()
    assert (counts.ready, counts.running) == ((0, 0, 3, 0), 1)
    taken = await worker.take(100)
    assert ids(taken) == ["a", "c", "d"]
    assert [job.crashes for job in taken] == [0, 0, 0]
    assert (await worker.exchange(Settlement.succeeded(b))).not_yours == []
    assert (await worker.exchange(*map(Settlement.succeeded, taken))).not_yours == []


async def test_a_released_job_waits_behind_more_urgent_ones(store: Store) -> None:
    await store.enqueue("normal", priority=2)
    worker = await store.worker()
    await worker.exchange(Settlement.release(await worker.take_one()))
    await store.enqueue("high", priority=1)
    await store.enqueue("younger", priority=2)
    assert ids(await worker.take()) == ["high", "normal", "younger"]


async def test_a_job_released_and_taken_in_one_exchange(store: Store) -> None:
    await store.enqueue("a", "b")
    worker = await store.worker()
    taken = await worker.take_one()
    answer = await worker.exchange(Settlement.release(taken), demand=1)
    assert (ids(answer.jobs), answer.left_ready) == (["a"], frozenset({"work"}))


async def test_the_time_of_being_ready_survives_a_release(store: Store) -> None:
    await store.enqueue("a")
    worker = await store.worker()
    taken = await worker.take_one()
    store.clock.ms += 5000
    await worker.exchange(Settlement.release(taken))
    assert (await worker.take_one()).ready_ms == taken.ready_ms
