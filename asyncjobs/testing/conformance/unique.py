"""At most one job at a time holds a unique key, and each way to end frees it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from asyncjobs.model.demand import Demand
from asyncjobs.model.job import NewJob, State, TakenJob
from asyncjobs.model.settlement import Settlement
from asyncjobs.model.terms import Terms, Unique, Until
from asyncjobs.store.answers import CancelVerdict, Placed
from asyncjobs.store.changes import Change, Changed, Target
from asyncjobs.store.lease import Offer
from asyncjobs.store.letters import LetterQuery, Revival, Revived
from asyncjobs.store.locks import LockRef, UniqueLock
from asyncjobs.store.seam import EnqueueBatch
from asyncjobs.testing.conformance.store import (
    LIMIT_S,
    SHORT_S,
    Store,
    Worker,
    ids,
    outcome,
    ref,
)

pytestmark = pytest.mark.anyio

HOUR_MS = 3_600_000

FINISHED = Unique(b"key", "finished", HOUR_MS)
STARTED = Unique(b"key", "started", HOUR_MS)
WINDOW = Unique(b"key", "window", HOUR_MS)
REPLACE = FINISHED._replace(replace=True)
LATEST = FINISHED._replace(replace=True, hold=True)


def new(
    id: str,
    unique: Unique | None = FINISHED,
    *,
    priority: int = 2,
    delay_ms: int = 0,
    at_ms: int | None = None,
    envelope: bytes | None = None,
    queue: str = "work",
    has_new_id: bool = True,
) -> NewJob:
    terms = None if unique is None else Terms(unique=unique)
    call = id.encode() if envelope is None else envelope
    return NewJob(queue, id, priority, call, delay_ms, at_ms, has_new_id, terms)


async def enqueue(store: Store, *jobs: NewJob, token: str | None = None) -> list[Placed | None]:
    """Enqueue them. Skips the case for a store without unique keys."""
    if not store.backend.capabilities.unique:
        pytest.skip("no capability unique")
    answer = await store.backend.enqueue(EnqueueBatch(token or store.token(), jobs))
    for refusal in answer.refused.values():
        raise refusal
    return list(answer.places)


def there(id: str) -> Placed:
    return Placed(ref(id), "there")


def replaced(id: str) -> Placed:
    return Placed(ref(id), "replaced")


def held(id: str) -> Placed:
    return Placed(ref(id), "held")


async def is_free(store: Store, unique: Unique = FINISHED) -> bool:
    """Whether the key is free now. Takes it, and gives it back."""
    (place,) = await enqueue(store, new("probe", unique, delay_ms=HOUR_MS, has_new_id=False))
    if place is None:
        await store.backend.cancel([ref("probe")], None, 0)
        await store.pass_time(2 * store.settings.id_ttl_ms + 1)
    return place is None


async def running(store: Store, id: str = "a") -> tuple[Worker, TakenJob]:
    """A job that holds the key and runs."""
    assert await enqueue(store, new(id)) == [None]
    worker = await store.worker()
    return worker, await worker.take_one()


# One holder


async def test_the_second_job_with_a_key_is_not_stored(store: Store) -> None:
    assert await enqueue(store, new("a")) == [None]
    assert await enqueue(store, new("b")) == [there("a")]
    assert await store.find("b") is None
    assert sum((await store.counts()).ready) == 1
    assert ids(await (await store.worker()).take()) == ["a"]


async def test_other_keys_and_queues_are_free(store: Store) -> None:
    other = FINISHED._replace(key=b"other")
    jobs = (new("a"), new("b", other), new("c", queue="second"), new("d", None))
    assert await enqueue(store, *jobs) == [None] * 4


async def test_a_key_twice_in_a_batch(store: Store) -> None:
    jobs = (new("a"), new("plain", None), new("b"), new("c", REPLACE, envelope=b"newest"))
    places = await enqueue(store, *jobs)
    assert places == [None, None, there("a"), replaced("a")]
    taken = await (await store.worker()).take()
    assert [(job.id, job.envelope) for job in taken] == [("plain", b"plain"), ("a", b"newest")]


@pytest.mark.parametrize("has_new_id", [False, True])
async def test_a_batch_that_is_sent_again_has_the_same_answer(
    store: Store, has_new_id: bool
) -> None:
    await enqueue(store, new("a"))
    worker = await store.worker()
    running = await worker.take_one()
    jobs = [
        new("b", has_new_id=has_new_id),
        new("c", LATEST, has_new_id=has_new_id),
        new("d", LATEST, envelope=b"newest", has_new_id=has_new_id),
        new("e", None, has_new_id=has_new_id),
    ]
    places = await enqueue(store, *jobs, token="same")
    assert places == [there("a"), held("c"), replaced("c"), None]
    assert await enqueue(store, *jobs, token="same") == places
    await worker.exchange(Settlement.succeeded(running))
    assert await enqueue(store, *jobs, token="same") == places
    assert sorted(ids(await worker.take())) == ["c", "e"]


async def test_an_id_that_is_there_comes_before_its_key(store: Store) -> None:
    other = FINISHED._replace(key=b"other", replace=True)
    await enqueue(store, new("a", has_new_id=False))
    same = new("a", other, has_new_id=False, envelope=b"second")
    assert await enqueue(store, same) == [there("a")]
    assert (await store.look("a")).envelope == b"a"
    # Its key was not taken.
    assert await enqueue(store, new("b", other)) == [None]


async def test_new_unique_work_signals(store: Store) -> None:
    worker = await store.worker()
    await worker.settle_signals()
    await enqueue(store, new("a"))
    assert await worker.signalled() == ["work"]
    await enqueue(store, new("b"))
    assert await worker.signalled(SHORT_S) == []
    await enqueue(store, new("c", FINISHED._replace(key=b"other"), delay_ms=1000))
    assert await worker.signalled() == ["work"]


async def test_a_key_may_be_any_bytes(store: Store) -> None:
    keys = [bytes(range(256)), b" ", b"\n1 2 3", b"\0", b"a b"]
    jobs = [new(f"{n}", FINISHED._replace(key=key)) for n, key in enumerate(keys)]
    assert await enqueue(store, *jobs) == [None] * len(keys)
    again = [job._replace(id=f"again {job.id}") for job in jobs]
    assert await enqueue(store, *again) == [there(job.id) for job in jobs]


@pytest.mark.parametrize("id", ["ünïcode ✓", "a b", "1 2 3", "s 1:2", "\n", "%s"])
async def test_the_holder_may_have_any_id(store: Store, id: str) -> None:
    await enqueue(store, new(id))
    assert await enqueue(store, new("b")) == [there(id)]


# How it is free again


ENDS: dict[str, Callable[[TakenJob], Settlement]] = {
    "succeeded": Settlement.succeeded,
    "discarded": Settlement.discarded,
    "cancelled": Settlement.cancelled,
    "dead": lambda job: Settlement.dead(job, b"{}\n{}"),
}


@pytest.mark.parametrize("end", ENDS)
async def test_the_end_of_its_job_frees_a_key(store: Store, end: str) -> None:
    await enqueue(store, new("a"))
    worker = await store.worker()
    taken = await worker.take_one()
    assert not await is_free(store)
    await worker.exchange(ENDS[end](taken))
    assert await enqueue(store, new("b")) == [None]


async def test_a_kept_result_frees_a_key(store: Store) -> None:
    await enqueue(store, new("a"))
    worker = await store.worker()
    await worker.exchange(Settlement.succeeded(await worker.take_one(), outcome(), 60_000))
    assert await enqueue(store, new("b")) == [None]


@pytest.mark.parametrize("until", ["finished", "started"])
@pytest.mark.parametrize("delay_ms", [0, 1000])
async def test_a_cancel_of_a_waiting_job_frees_its_key(
    store: Store, until: Until, delay_ms: int
) -> None:
    unique = FINISHED._replace(until=until)
    await enqueue(store, new("a", unique, delay_ms=delay_ms))
    await store.backend.cancel([ref("a")], None, 0)
    assert await enqueue(store, new("b", unique)) == [None]


async def test_a_running_job_that_is_asked_to_stop_keeps_its_key(store: Store) -> None:
    await enqueue(store, new("a"))
    worker = await store.worker()
    taken = await worker.take_one()
    verdicts = await store.backend.cancel([ref("a")], None, 0)
    assert verdicts == [CancelVerdict.REQUESTED]
    assert await enqueue(store, new("b")) == [there("a")]
    # Its retry ends it.
    await worker.exchange(Settlement.reschedule(taken, b"again", 10))
    assert await store.state("a") is State.CANCELLED
    assert await enqueue(store, new("c")) == [None]


async def test_retries_releases_and_crashes_keep_a_key(store: Store) -> None:
    await enqueue(store, new("a"))
    first = await store.worker()
    await first.exchange(Settlement.reschedule(await first.take_one(), b"again", 1000))
    assert await enqueue(store, new("b")) == [there("a")]
    store.clock.ms += 1000
    await first.exchange(Settlement.release(await first.take_one()))
    assert await enqueue(store, new("b")) == [there("a")]
    await first.take_one()
    second = await store.worker()
    await store.end_leases(second)
    assert await enqueue(store, new("b")) == [there("a")]
    await second.exchange(Settlement.succeeded(await second.take_one()))
    assert await enqueue(store, new("b")) == [None]


async def test_a_lost_lease_frees_no_key(store: Store) -> None:
    await enqueue(store, new("a"))
    first, second = await store.worker(), await store.worker()
    taken = await first.take_one()
    await store.end_leases(second)
    again = await second.take_one()
    assert (await first.exchange(Settlement.succeeded(taken))).lost == ("work",)
    late = await second.exchange(Settlement.succeeded(taken._replace(holder=taken.holder)))
    assert len(late.not_yours) == 1
    assert await enqueue(store, new("b")) == [there("a")]
    await second.exchange(Settlement.succeeded(again))
    assert await enqueue(store, new("b")) == [None]


@pytest.mark.parametrize("way", ["exchange", "offer"])
async def test_a_start_frees_a_key_that_lasts_until_then(store: Store, way: str) -> None:
    worker = await store.worker()
    await enqueue(store, new("a", STARTED))
    assert await enqueue(store, new("b", STARTED)) == [there("a")]
    if way == "exchange":
        taken = await worker.take_one()
    else:
        parked = await worker.lease.park(LIMIT_S, Offer(1, {"work": Demand(1)}))
        assert parked.exchange is not None
        (taken,) = parked.exchange.jobs
    assert await enqueue(store, new("b", STARTED)) == [None]
    # What becomes of the first one is nothing to the key of the second.
    await worker.exchange(Settlement.reschedule(taken, b"again", 10))
    assert await enqueue(store, new("c", STARTED)) == [there("b")]


async def test_a_window_outlasts_its_job(store: Store) -> None:
    await enqueue(store, new("a", WINDOW, delay_ms=5000))
    worker = await store.worker()
    store.clock.ms += 5000
    await worker.exchange(Settlement.succeeded(await worker.take_one()))
    assert await enqueue(store, new("b", WINDOW)) == [there("a")]
    # From the enqueue on, whenever the job was due.
    store.clock.ms += HOUR_MS - 5001
    assert await enqueue(store, new("b", WINDOW)) == [there("a")]
    store.clock.ms += 1
    assert await enqueue(store, new("b", WINDOW)) == [None]


async def test_a_lock_is_over_after_its_time_which_includes_the_delay(store: Store) -> None:
    await enqueue(store, new("a", delay_ms=1000))
    store.clock.ms += HOUR_MS + 999
    assert await enqueue(store, new("b")) == [there("a")]
    store.clock.ms += 1
    assert await enqueue(store, new("b")) == [None]
    # The first one is alive, but the key is no longer its own.
    worker = await store.worker()
    first, second = sorted(await worker.take(), key=lambda job: job.id)
    assert (first.id, second.id) == ("a", "b")
    await worker.exchange(Settlement.succeeded(first))
    assert await enqueue(store, new("c")) == [there("b")]


async def test_a_step_back_of_the_clock_prolongs_no_window(store: Store) -> None:
    await enqueue(store, new("a", WINDOW))
    store.clock.ms -= 24 * HOUR_MS
    assert await enqueue(store, new("b", WINDOW)) == [there("a")]
    store.clock.ms += HOUR_MS
    assert await enqueue(store, new("b", WINDOW)) == [None]


# Dead letters


async def dead(store: Store, worker: Worker, taken: TakenJob) -> Revival:
    """The job dies; how it is revived with its key."""
    await worker.exchange(Settlement.dead(taken, b"{}\n{}"))
    page = await store.backend.dead.page(LetterQuery("work"))
    return Revival(page.letters[0].key, b"again", FINISHED)


async def test_a_dead_job_takes_its_key_again(store: Store) -> None:
    worker, taken = await running(store)
    revival = await dead(store, worker, taken)
    assert await store.backend.dead.revive([revival]) == [Revived.READY]
    assert await enqueue(store, new("b")) == [there("a")]
    await worker.exchange(Settlement.succeeded(await worker.take_one()))
    assert await enqueue(store, new("b")) == [None]


async def test_a_dead_job_whose_key_is_taken(store: Store) -> None:
    worker, taken = await running(store)
    revival = await dead(store, worker, taken)
    await enqueue(store, new("b"))
    assert await store.backend.dead.revive([revival]) == [Revived("taken", ref("b"))]
    assert await store.state("a") is State.DEAD
    # A window is none of its business.
    free = revival._replace(unique=WINDOW)
    assert await store.backend.dead.revive([free]) == [Revived.READY]


async def test_two_dead_jobs_of_one_key(store: Store) -> None:
    worker, taken = await running(store)
    first = await dead(store, worker, taken)
    await enqueue(store, new("b"))
    store.clock.ms += 1
    second = await dead(store, worker, await worker.take_one())
    gone = first._replace(key=first.key._replace(died_ms=1))
    answer = await store.backend.dead.revive([gone, second, first])
    assert answer == [Revived.GONE, Revived.READY, Revived("taken", ref("b"))]
    assert ids(await worker.take()) == ["b"]


async def test_a_dead_job_takes_its_key_until_it_starts(store: Store) -> None:
    worker, taken = await running(store)
    revival = (await dead(store, worker, taken))._replace(unique=STARTED)
    assert await store.backend.dead.revive([revival]) == [Revived.READY]
    assert await enqueue(store, new("b", STARTED)) == [there("a")]
    await worker.take_one()
    assert await enqueue(store, new("b", STARTED)) == [None]


# What is left


async def test_a_window_keeps_its_queue(store: Store) -> None:
    await enqueue(store, new("a", WINDOW))
    worker = await store.worker()
    await worker.exchange(Settlement.succeeded(await worker.take_one()))
    await worker.lease.leave()
    store.clock.ms += 2 * store.settings.id_ttl_ms + 1
    (left,) = await store.backend.inspect.queues.forget(["work"], 0)
    assert (left.indexed, left.wait_ms) == (0, HOUR_MS - 2 * store.settings.id_ttl_ms - 1)
    assert await enqueue(store, new("b", WINDOW)) == [there("a")]
    store.clock.ms += HOUR_MS
    await store.backend.prune(["work"], 100)
    (left,) = await store.backend.inspect.queues.forget(["work"], 0)
    assert left.is_forgotten


async def test_pruning_frees_nothing_that_is_held(store: Store) -> None:
    other = FINISHED._replace(key=b"other")
    await enqueue(store, new("a"), new("b", WINDOW._replace(key=b"window")), new("c", other))
    worker = await store.worker()
    await worker.take(2)
    await enqueue(store, new("d", LATEST))
    await store.backend.prune(["work"], 100)
    again = (new("e"), new("f", WINDOW._replace(key=b"window")), new("g", other))
    assert await enqueue(store, *again) == [there("a"), there("b"), there("c")]
    assert await store.state("d") is State.HELD


async def test_many_at_once(store: Store) -> None:
    keys = [b"%d" % (n % 700) for n in range(1000)]
    jobs = [new(f"n{n}", FINISHED._replace(key=key)) for n, key in enumerate(keys)]
    places = await enqueue(store, *jobs)
    assert places[:700] == [None] * 700
    assert places[700:] == [there(f"n{n}") for n in range(300)]
    worker = await store.worker()
    taken = await worker.take(700)
    while len(taken) < 700:
        taken += await worker.take(700)
    await worker.exchange(*map(Settlement.succeeded, taken))
    assert await enqueue(store, *[job._replace(id=f"m{job.id}") for job in jobs[:700]]) == (
        [None] * 700
    )


@pytest.mark.parametrize("delay_ms", [0, 1000])
async def test_a_job_that_is_deleted_frees_its_key(store: Store, delay_ms: int) -> None:
    await enqueue(store, new("a", delay_ms=delay_ms))
    assert await store.backend.inspect.jobs.delete([Target(ref("a"))]) == [Changed.DONE]
    assert await enqueue(store, new("b")) == [None]


async def test_a_job_that_is_changed_keeps_its_key(store: Store) -> None:
    await enqueue(store, new("a", delay_ms=1000))
    change = Change(ref("a"), b"a", b"new", store.clock.ms + 500)
    assert await store.backend.inspect.jobs.change([change]) == [Changed.DONE]
    assert await enqueue(store, new("b")) == [there("a")]
    assert await store.backend.inspect.jobs.run_now([Target(ref("a"))]) == [Changed.DONE]
    assert await enqueue(store, new("b")) == [there("a")]
    worker = await store.worker()
    await worker.exchange(Settlement.succeeded(await worker.take_one()))
    assert await enqueue(store, new("b")) == [None]


async def locks(store: Store, limit: int = 500) -> list[UniqueLock]:
    """All locks of the queue, by their keys."""
    found: dict[bytes, UniqueLock] = {}
    page = await store.backend.inspect.unique.page("work", None, limit)
    found.update((lock.ref.key, lock) for lock in page.locks)
    while page.after is not None:
        page = await store.backend.inspect.unique.page("work", page.after, limit)
        found.update((lock.ref.key, lock) for lock in page.locks)
    return [found[key] for key in sorted(found)]


async def test_locks_are_listed(store: Store) -> None:
    now = store.clock.ms
    await enqueue(store, new("a", FINISHED, delay_ms=1000), new("b", WINDOW._replace(key=b"w")))
    await enqueue(store, new("c", STARTED._replace(key=b"s")))
    assert await locks(store) == [
        UniqueLock(LockRef("work", b"key", ref("a")), "finished", now, now + HOUR_MS + 1000),
        UniqueLock(LockRef("work", b"s", ref("c")), "started", now, now + HOUR_MS),
        UniqueLock(LockRef("work", b"w", ref("b")), "window", now, now + HOUR_MS),
    ]
    assert (await store.backend.inspect.unique.page("never")).locks == []


async def test_many_locks_are_listed_in_pages(store: Store) -> None:
    jobs = [new(f"n{n}", FINISHED._replace(key=b"%05d" % n)) for n in range(1000)]
    await enqueue(store, *jobs)
    found = await locks(store, 100)
    assert [lock.ref.holder.id for lock in found] == [job.id for job in jobs]


async def test_a_key_is_freed_by_hand(store: Store) -> None:
    worker, taken = await running(store)
    (lock,) = await locks(store)
    other = lock.ref._replace(holder=ref("other"))
    none = lock.ref._replace(key=b"none")
    unique = store.backend.inspect.unique
    assert await unique.free([other, none, lock.ref, lock.ref]) == [False, False, True, False]
    assert await enqueue(store, new("b")) == [None]
    # What becomes of the job that had it is nothing to the next holder.
    await worker.exchange(Settlement.succeeded(taken))
    assert await enqueue(store, new("c")) == [there("b")]


async def test_a_key_is_kept_while_its_job_waits_for_a_retry(store: Store) -> None:
    short = FINISHED._replace(ttl_ms=1000)
    await enqueue(store, new("a", short))
    worker = await store.worker()
    taken = await worker.take_one()
    await worker.exchange(Settlement.reschedule(taken, b"a", 5000))
    store.clock.ms += 5500
    assert await enqueue(store, new("b", short)) == [there("a")]
    store.clock.ms += 500
    assert await enqueue(store, new("b", short)) == [None]


async def test_a_key_is_kept_while_its_job_is_put_off(store: Store) -> None:
    short = FINISHED._replace(ttl_ms=1000)
    await enqueue(store, new("a", short))
    for delay_ms in (2000, 5000):
        due = store.clock.ms + delay_ms
        put_off = Change(ref("a"), b"a", b"a", due)
        assert await store.backend.inspect.jobs.change([put_off]) == [Changed.DONE]
    store.clock.ms += 5500
    assert await enqueue(store, new("b", short)) == [there("a")]
    store.clock.ms += 500
    assert await enqueue(store, new("b", short)) == [None]
