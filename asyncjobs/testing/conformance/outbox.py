"""What a success causes in other queues comes there once, in order, and whatever fails."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest

from asyncjobs.model.job import NewJob, State, TakenJob
from asyncjobs.model.settlement import Effects, Settlement
from asyncjobs.model.terms import Terms, Unique
from asyncjobs.testing.conformance.spoiled import BAD, Part, Spoil
from asyncjobs.testing.conformance.store import (
    LIMIT_S,
    SHORT_S,
    Store,
    Worker,
    eventually,
    ids,
    ref,
)

pytestmark = pytest.mark.anyio

HOUR_MS = 3_600_000
KEY = Unique(b"key", "finished", HOUR_MS)


@pytest.fixture(autouse=True)
def across_queues(store: Store) -> None:
    if not store.backend.capabilities.across_queues:
        pytest.skip("no capability across_queues")


def new(
    id: str,
    queue: str = "other",
    priority: int = 2,
    delay_ms: int = 0,
    *,
    at_ms: int | None = None,
    has_new_id: bool = False,
    terms: Terms | None = None,
    size: int = 0,
) -> NewJob:
    envelope = id.encode() + b" " * size
    return NewJob(queue, id, priority, envelope, delay_ms, at_ms, has_new_id, terms)


def causing(job: TakenJob, *jobs: NewJob) -> Settlement:
    return Settlement.succeeded(job).causing(Effects(jobs))


async def parent(store: Store, worker: Worker, id: str = "parent", queue: str = "work") -> TakenJob:
    await store.enqueue(id, queue=queue)
    return await worker.take_one()


async def relay(store: Store, *queues: str) -> int:
    """Relay until nothing is left; how many entries have moved."""
    moved = 0
    left: Sequence[str] = queues or ("work",)
    while left:
        answer = await store.backend.relay(left)
        assert not answer.away
        moved += answer.moved
        left = sorted(answer.left)
    return moved


@pytest.mark.parametrize("has_new_id", [False, True])
async def test_a_job_for_another_queue_comes_there(store: Store, has_new_id: bool) -> None:
    worker, other = await store.worker(), await store.worker("other")
    later = store.clock.ms + 700
    jobs = (
        new("a", priority=1, has_new_id=has_new_id),
        new("own", "work", has_new_id=has_new_id),
        new("delayed", delay_ms=500, has_new_id=has_new_id),
        new("at", at_ms=later, has_new_id=has_new_id),
    )
    end = causing(await parent(store, worker), *jobs)
    await other.settle_signals()
    answer = await worker.exchange(end)
    assert answer.not_yours == []
    await relay(store)
    assert await other.signalled() == ["other"]
    (taken,) = await other.take()
    assert (taken.id, taken.priority, taken.envelope) == ("a", 1, b"a")
    record = await store.look("delayed", "other")
    assert (record.state, record.due_ms) == (State.SCHEDULED, store.clock.ms + 500)
    assert (await store.look("at", "other")).due_ms == later
    assert await store.state("own") is State.READY
    assert await store.backend.get([ref("own", "other"), ref("a")]) == [None, None]
    assert await store.backend.inspect.queues.names() == ["other", "work"]
    (flow,) = await store.backend.inspect.queues.flow(["other"])
    assert flow.enqueued == 3


async def test_the_worker_hears_that_there_is_something_to_relay(store: Store) -> None:
    worker = await store.worker()
    first = await parent(store, worker)
    plain = await parent(store, worker, "plain")
    answer = await worker.exchange(causing(first, new("a")))
    is_there = await store.find("a", "other") is not None
    # Either it is there, or the settling worker is told to bring it there.
    assert (answer.relay == {"work"}) != is_there
    assert (await worker.exchange(Settlement.succeeded(plain))).relay == frozenset()
    await relay(store)
    assert await store.find("a", "other") is not None


async def test_relays_that_repeat_bring_nothing_twice(store: Store) -> None:
    worker, other = await store.worker(), await store.worker("other")
    await worker.exchange(causing(await parent(store, worker), new("a"), new("b")))
    await relay(store)
    assert await relay(store) == 0
    taken = await other.take()
    assert ids(taken) == ["a", "b"]
    await other.exchange(*map(Settlement.succeeded, taken))
    store.clock.ms += HOUR_MS
    await relay(store)
    assert await other.take() == []


async def test_a_success_that_does_not_count_reaches_no_other_queue(store: Store) -> None:
    first, second = await store.worker(), await store.worker()
    job = await parent(store, first)
    await store.end_leases(second)
    again = await second.take_one()
    await first.lease.rejoin(["work"])
    late = causing(job, new("late"))
    answer = await first.exchange(late)
    assert (answer.not_yours, answer.relay) == ([late], frozenset())
    end = causing(again, new("once"))
    await second.exchange(end)
    await second.exchange(end._replace(effects=Effects((new("twice"),))))
    await relay(store)
    other = await store.worker("other")
    assert ids(await other.take()) == ["once"]


async def test_an_id_that_is_known_there_is_not_stored_again(store: Store) -> None:
    worker, other = await store.worker(), await store.worker("other")
    await store.enqueue("lives", "ended", queue="other")
    lives, ended = await other.take()
    await other.exchange(Settlement.succeeded(ended))
    jobs = (new("lives"), new("ended"), new("fresh"))
    await worker.exchange(causing(await parent(store, worker), *jobs))
    await relay(store)
    assert ids(await other.take()) == ["fresh"]
    await other.exchange(Settlement.succeeded(lives))


async def test_jobs_for_other_queues_keep_their_terms(store: Store) -> None:
    if not store.backend.capabilities.unique:
        pytest.skip("no capability unique")
    worker, other = await store.worker(), await store.worker("other")
    jobs = (
        new("a", terms=Terms(unique=KEY)),
        new("b", terms=Terms(unique=KEY)),
        new("c", "third", terms=Terms(unique=KEY)),
    )
    await worker.exchange(causing(await parent(store, worker), *jobs))
    await relay(store)
    assert ids(await other.take()) == ["a"]
    assert await store.find("b", "other") is None
    assert await store.state("c", "third") is State.READY


async def test_they_come_in_the_order_of_their_successes(store: Store) -> None:
    worker, other = await store.worker(), await store.worker("other")
    await store.enqueue(*(f"p{n}" for n in range(30)))
    for n in range(30):
        job = await worker.take_one()
        await worker.exchange(causing(job, new(f"{n}-a"), new(f"{n}-x", "third"), new(f"{n}-b")))
    await relay(store)
    taken = [job for _ in range(3) for job in await other.take(30)]
    assert ids(taken) == [f"{n}-{letter}" for n in range(30) for letter in "ab"]


async def test_large_jobs_come_in_parts(store: Store) -> None:
    worker, other = await store.worker(), await store.worker("other")
    for n in range(3):
        job = await parent(store, worker, f"p{n}")
        await worker.exchange(causing(job, *(new(f"{n}-{k}", size=700_000) for k in range(5))))
    await relay(store)
    taken: list[str] = []
    while len(taken) < 15:
        taken += ids(await other.take(15))
    assert taken == [f"{n}-{k}" for n in range(3) for k in range(5)]


async def test_relays_that_die_at_random_bring_each_job_once(store: Store) -> None:
    worker = await store.worker()
    others = {name: await store.worker(name) for name in ("other", "third")}
    dice = random.Random(17)
    wanted: dict[str, list[str]] = {name: [] for name in others}
    taken: dict[str, list[str]] = {name: [] for name in others}

    async def relay_for_a_while() -> None:
        await store.backend.relay(["work"], 7)

    for n in range(40):
        children = [new(f"{n}-{k}", dice.choice(sorted(others))) for k in range(25)]
        await worker.exchange(causing(await parent(store, worker, f"p{n}"), *children))
        for child in children:
            wanted[child.queue].append(child.id)
        relays = [asyncio.ensure_future(relay_for_a_while()) for _ in range(3)]
        for one in relays:
            # Turns of the loop, not time: each one is cut off somewhere on its way.
            for _ in range(dice.randrange(12)):
                await asyncio.sleep(0)
            if dice.random() < 0.7:
                one.cancel()
        await asyncio.gather(*relays, return_exceptions=True)
        for name, other in others.items():
            taken[name] += ids(await other.take(50))
    await relay(store)
    for name, other in others.items():
        while found := await other.take(200):
            taken[name] += ids(found)
        assert sorted(taken[name]) == sorted(wanted[name])


async def test_a_queue_that_is_away_holds_its_outbox_alone(store: Store, spoil: Spoil) -> None:
    worker, second = await store.worker(), await store.worker("second")
    other = await store.worker("other")
    await store.enqueue("made", queue=BAD)
    await spoil(Part.NORMAL)
    await worker.exchange(
        causing(await parent(store, worker), new("child", BAD), new("behind", "other"))
    )
    other_parent = await parent(store, second, queue="second")
    await second.exchange(causing(other_parent, new("free", "other")))
    answer = await store.backend.relay(["work", "second"])
    is_kept = "work" in answer.left
    if is_kept:
        assert list(answer.away) == [BAD]
        # What stands behind it in the same outbox waits: it may count on what is before it.
        assert ids(await other.take()) == ["free"]
    await spoil.mend(Part.NORMAL)

    async def is_through() -> bool:
        await store.backend.relay(["work", "second"])
        return await store.find("child", BAD) is not None

    await eventually(is_through)
    if is_kept:
        assert ids(await other.take()) == ["behind"]
    assert await store.find("child", BAD) is not None
    await spoil.mend()


async def test_an_outbox_is_part_of_its_queue(store: Store) -> None:
    """Nobody signals where nothing has come, and a queue with nothing to relay is no news."""
    worker, other = await store.worker(), await store.worker("other")
    await other.settle_signals()
    assert await store.backend.relay(["work", "other", "nobody"]) == (0, frozenset(), {})
    assert await other.signalled(SHORT_S) == []
    assert worker.sequence == 0
    assert LIMIT_S > SHORT_S
