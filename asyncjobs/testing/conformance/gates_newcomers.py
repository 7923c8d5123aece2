"""Jobs that come to a gate without room and do not just wait there."""

from __future__ import annotations

import pytest

from asyncjobs.model.job import NewJob, State
from asyncjobs.model.settlement import Settlement
from asyncjobs.model.terms import Arrival, Barrier, Terms, Unique, WhenFull
from asyncjobs.store.answers import CancelCall, CancelVerdict, Placed
from asyncjobs.store.seam import EnqueueBatch
from asyncjobs.testing.conformance.gates import (
    HOUR_MS,
    drain,
    enqueue,
    finish,
    gate,
    gated,
    need_gates,
    states,
    use,
)
from asyncjobs.testing.conformance.store import SHORT_S, Store, ids, ref

pytestmark = pytest.mark.anyio

KEY = Unique(b"key", "finished", HOUR_MS)


async def test_a_job_that_shall_not_wait_is_cancelled_without_room(store: Store) -> None:
    its = gate(when_full="cancel_new")
    assert await enqueue(store, gated("a", its)) == [None]
    worker = await store.worker()
    running = await worker.take_one()
    jobs = gated("b", its), gated("c", gate())
    assert await enqueue(store, *jobs, token="same") == [Placed(ref("b"), "cancelled"), None]
    assert await enqueue(store, *jobs, token="same") == [Placed(ref("b"), "cancelled"), None]
    assert await states(store, "b", "c") == [State.CANCELLED, State.HELD]
    assert await enqueue(store, gated("b", its, has_new_id=False)) == [Placed(ref("b"), "there")]
    assert ids(await finish(worker, running, slots=100)) == ["c"]


async def test_one_that_was_let_in_waits_from_then_on(store: Store) -> None:
    """A retry is no new job: it is not cancelled when there is no room for it."""
    its = gate(when_full="cancel_new")
    await enqueue(store, gated("a", its))
    worker = await store.worker()
    running = await worker.take_one()
    await worker.exchange(Settlement.reschedule(running, b"again", 1_000))
    await enqueue(store, gated("b", its))
    other = await worker.take_one()
    store.clock.ms += 1_000
    assert await worker.take() == []
    assert await store.state("a") is State.HELD
    assert ids(await finish(worker, other, slots=100)) == ["a"]


async def test_a_delayed_job_that_shall_not_wait_is_cancelled_at_its_time(store: Store) -> None:
    await enqueue(store, gated("late", gate(when_full="cancel_new"), delay_ms=1_000), gated("a"))
    worker = await store.worker()
    running = await worker.take_one()
    store.clock.ms += 1_000
    assert await worker.take() == []
    assert await store.state("late") is State.CANCELLED
    await finish(worker, running)
    assert await worker.take() == []


async def test_a_job_that_makes_room_asks_the_longest_holder_to_stop(store: Store) -> None:
    its = gate(use(2), when_full="cancel_running")
    await enqueue(store, gated("a", its), gated("b", its))
    worker, watcher = await store.worker(), await store.worker()
    first = await worker.take_one()
    store.clock.ms += 1_000
    second = await worker.take_one()
    assert (first.id, second.id) == ("a", "b")
    assert await enqueue(store, gated("c", its)) == [None]
    assert (await worker.exchange()).cancels == [first.ref]
    assert await store.state("c") is State.HELD
    # The next one asks the other: each is asked once.
    await enqueue(store, gated("d", its))
    assert set((await worker.exchange()).cancels) == {first.ref, second.ref}
    answer = await worker.exchange(Settlement.cancelled(first), demand=100)
    assert ids(answer.jobs) == ["c"]
    answer = await worker.exchange(Settlement.cancelled(second), demand=100)
    assert ids(answer.jobs) == ["d"]
    assert await watcher.take() == []


async def test_of_jobs_that_make_room_the_newest_ones_stay(store: Store) -> None:
    """One that only waits makes room, too: it would run for nobody."""
    its = gate(use(2), when_full="cancel_running")
    await enqueue(store, gated("a", its), gated("b", its))
    worker = await store.worker()
    first, second = await worker.take()
    await enqueue(store, *(gated(id, its) for id in "cd"))
    answer = await worker.exchange()
    assert set(answer.cancels) == {first.ref, second.ref}
    await enqueue(store, gated("e", its, priority=3))
    assert await states(store, "c", "d", "e") == [State.CANCELLED, State.HELD, State.HELD]
    assert await enqueue(store, gated("c", its, has_new_id=False)) == [Placed(ref("c"), "there")]
    assert ids(await finish(worker, first, second, slots=100)) == ["d", "e"]


async def test_of_a_burst_as_many_stay_as_there_are_permits(store: Store) -> None:
    newest = gate(use(2), when_full="cancel_running")
    oldest = gate(use(2, "b"), when_full="cancel_new")
    jobs = [gated(f"n{n}", newest) for n in range(4)] + [gated(f"o{n}", oldest) for n in range(4)]
    places = await enqueue(store, *jobs)
    refused = [Placed(ref(id), "cancelled") for id in ("o2", "o3")]
    assert places == [None] * 6 + refused
    # Those that are given twice, too.
    again = gated("n0", newest, has_new_id=False)
    assert await enqueue(store, again) == [Placed(ref("n0"), "there")]
    worker = await store.worker()
    assert sorted(await drain(store, worker)) == ["n2", "n3", "o0", "o1"]
    ended = await states(store, "n0", "n1", "o2", "o3")
    assert ended == [State.CANCELLED] * 4


async def test_an_id_that_has_ended_in_a_batch_is_known_in_it(store: Store) -> None:
    its = gate(when_full="cancel_running")
    given = [gated(id, its, has_new_id=False) for id in "aba"]
    assert await enqueue(store, *given) == [None, None, Placed(ref("a"), "there")]
    assert await states(store, "a", "b") == [State.CANCELLED, State.READY]
    worker = await store.worker()
    assert await drain(store, worker) == ["b"]


@pytest.mark.parametrize(("when_full", "left"), [("cancel_new", "a"), ("cancel_running", "c")])
async def test_of_those_that_are_due_together_one_stays(
    store: Store, when_full: WhenFull, left: str
) -> None:
    its = gate(when_full=when_full)
    await enqueue(store, *(gated(id, its, delay_ms=1_000 + ord(id)) for id in "abc"))
    worker = await store.worker()
    store.clock.ms += 2_000
    assert await drain(store, worker) == [left]
    rest = [id for id in "abc" if id != left]
    assert await states(store, *rest) == [State.CANCELLED] * 2
    verdicts = await store.backend.cancel([ref(id) for id in rest], None, 0)
    assert verdicts == [CancelVerdict.FINISHED] * 2
    counts = await store.counts()
    assert (counts.scheduled, counts.held, sum(counts.ready), counts.running) == (0, 0, 0, 0)


async def test_one_that_makes_room_lets_its_key_and_those_behind_it_go(store: Store) -> None:
    """Its end is an end as any other: of its unique key, and for what waits for it."""
    need_gates(store)
    if not (store.backend.capabilities.unique and store.backend.capabilities.flows):
        pytest.skip("no capability unique, or no capability flows")
    its = gate(when_full="cancel_running")
    behind = NewJob("work", "z", 2, b"z", 0, None, True, Terms(behind="end"))
    keyed = gated("a", its, unique=KEY)
    assert keyed.terms is not None
    first = keyed._replace(terms=keyed.terms._replace(arrivals=(Arrival("work", "end", "run"),)))
    batch = EnqueueBatch(store.token(), [behind, first], [Barrier("work", "end", 1)])
    assert not (await store.backend.enqueue(batch)).refused
    await enqueue(store, gated("b", its))
    assert await states(store, "a", "z") == [State.CANCELLED, State.READY]
    assert await enqueue(store, gated("c", gate(use(key="other")), unique=KEY)) == [None]
    worker = await store.worker()
    assert sorted(await drain(store, worker)) == ["b", "c", "z"]


async def test_a_worker_hears_at_once_that_a_job_shall_make_room(store: Store) -> None:
    its = gate(when_full="cancel_running")
    await enqueue(store, gated("a", its))
    worker = await store.worker()
    running = await worker.take_one()
    await worker.lease.listen(SHORT_S)
    await enqueue(store, gated("b", its))
    heard = await worker.lease.listen(5)
    assert CancelCall(running.holder, running.ref) in heard
