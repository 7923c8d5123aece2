"""Outboxes on a server: what is kept, and what a target that has lost something gets again."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeAlias

import pytest

from asyncjobs.errors import StoreError, StoreUnavailable
from asyncjobs.model.clock import new_id
from asyncjobs.model.job import State
from asyncjobs.model.refs import JobRef
from asyncjobs.model.settlement import Settlement
from asyncjobs.model.terms import Arrival, Barrier, Terms
from asyncjobs.store.answers import CancelVerdict
from asyncjobs.store.redis.backend import RedisBackend
from asyncjobs.store.redis.bringing import MOST_TRIPS, PART
from asyncjobs.store.redis.outbox import Outboxes
from asyncjobs.store.seam import EnqueueBatch, StoreSettings
from asyncjobs.testing.conformance.outbox import causing, new, parent, relay
from asyncjobs.testing.conformance.store import PinnedClock, Store, ids

pytestmark = [pytest.mark.anyio, pytest.mark.unaudited("keys are changed by hand")]

Command: TypeAlias = Callable[..., Any]
LOOK_MS = 10_000


@pytest.fixture(params=["valkey", "redis"])
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
async def store(kind: str, servers: Any, anyio_backend: str) -> AsyncIterator[Store]:
    clock, settings = PinnedClock(), StoreSettings(prefix=f"test-{new_id()}", id_ttl_ms=1_000)
    backend = RedisBackend(servers.get(kind).url, settings, now_ms=clock)
    try:
        await backend.open()
        yield Store(backend, clock, settings, lambda *_: backend)
    finally:
        await backend.close()


@pytest.fixture
def command(kind: str, servers: Any) -> Command:
    return servers.get(kind).command  # type: ignore[no-any-return]


class Copy:
    """All keys of one queue as they are now, to put them back later: a server that restarts with
    what it had written to its disk by then."""

    def __init__(self, command: Command, store: Store, queue: str) -> None:
        self._command = command
        self._pattern = f"{{{store.settings.prefix}:{queue}}}:*"
        self._saved = {key: command("DUMP", key) for key in command("KEYS", self._pattern)}

    def put_back(self) -> None:
        for key in self._command("KEYS", self._pattern):
            self._command("DEL", key)
        for key, value in self._saved.items():
            self._command("RESTORE", key, "0", value)


def key(store: Store, queue: str, name: str) -> str:
    return f"{{{store.settings.prefix}:{queue}}}:{name}"


async def send(store: Store, worker: Any, *jobs: Any, id: str = "parent") -> None:
    await worker.exchange(causing(await parent(store, worker, id), *jobs))


async def take_all(worker: Any) -> list[str]:
    found: list[str] = []
    while taken := await worker.take(100):
        found += ids(taken)
        await worker.exchange(*map(Settlement.succeeded, taken))
    return sorted(found)


async def test_what_was_relayed_is_dropped_when_it_is_safe(store: Store, command: Command) -> None:
    worker = await store.worker()
    outbox = key(store, "work", "outbox")
    await send(store, worker, new("a"), new("b", "third"))
    assert await relay(store) == 2
    assert await relay(store) == 0
    store.clock.ms += LOOK_MS - 1
    await relay(store)
    assert command("XLEN", outbox) == 2
    await send(store, worker, new("c"), id="second")
    await relay(store)
    store.clock.ms += 1
    await relay(store)
    # The younger one is looked at after its own ten seconds.
    assert command("XLEN", outbox) == 1
    store.clock.ms += LOOK_MS
    await relay(store)
    assert command("XLEN", outbox) == 0
    assert command("EXISTS", key(store, "work", "outbox:state")) == 0
    assert command("EXISTS", key(store, "work", "outbox:old")) == 0
    # Its next entries do not start anew: the targets know the ids of the last ones.
    await send(store, worker, new("d"), id="third")
    assert await relay(store) == 1
    assert await take_all(await store.worker("other")) == ["a", "c", "d"]


async def test_what_one_target_has_lost_is_sent_to_it_alone(store: Store, command: Command) -> None:
    worker = await store.worker()
    other, third = await store.worker("other"), await store.worker("third")
    await send(store, worker, new("before"), new("t1", "third"))
    await relay(store)
    assert await take_all(other) == ["before"]
    copy = Copy(command, store, "other")
    await send(store, worker, new("a"), new("b"), new("t2", "third"), id="second")
    assert await relay(store) == 3
    copy.put_back()
    store.clock.ms += LOOK_MS
    # The look begins with what was relayed by its time. The next one finds what came after that.
    for _ in range(3):
        await relay(store)
        store.clock.ms += LOOK_MS
    again = await store.worker("other")
    assert await take_all(again) == ["a", "b"]
    assert await take_all(third) == ["t1", "t2"]
    assert command("XLEN", key(store, "work", "outbox")) == 0


async def test_what_comes_behind_a_loss_does_not_hide_it(store: Store, command: Command) -> None:
    worker = await store.worker()
    await send(store, worker, new("before"))
    await relay(store)
    copy = Copy(command, store, "other")
    await send(store, worker, new("a"), new("b"), id="second")
    await relay(store)
    copy.put_back()
    # No time has passed: the loss is found by what is sent next.
    await send(store, worker, new("c"), id="third")
    await relay(store)
    assert await take_all(await store.worker("other")) == ["a", "b", "before", "c"]


async def test_a_target_that_has_lost_all_gets_what_is_kept(store: Store, command: Command) -> None:
    worker = await store.worker()
    copy = Copy(command, store, "other")
    await send(store, worker, *(new(f"{n}") for n in range(250)))
    await relay(store)
    copy.put_back()
    await send(store, worker, new("last"), id="second")
    await relay(store)
    assert len(await take_all(await store.worker("other"))) == 251


async def test_a_queue_that_was_forgotten_takes_nothing_twice(
    store: Store, command: Command
) -> None:
    worker, other = await store.worker(), await store.worker("other")
    await send(store, worker, new("a"))
    await relay(store)
    assert await take_all(other) == ["a"]
    await other.lease.leave()
    store.clock.ms += 9_000
    command("DEL", key(store, "other", "stats"))
    (left,) = await store.backend.inspect.queues.forget(["other"], 0)
    assert left.is_forgotten
    # A relay that was on its way all the time.
    command("HSET", key(store, "work", "outbox:state"), "at", "0-0")
    await relay(store)
    assert await take_all(await store.worker("other")) == []
    assert command("TTL", key(store, "other", "inbox")) == -1


async def test_a_relay_that_repeats_after_the_ids_are_forgotten_brings_nothing_twice(
    store: Store, command: Command
) -> None:
    worker, other = await store.worker(), await store.worker("other")
    await send(store, worker, new("a"), new("b"))
    assert await relay(store) == 2
    assert await take_all(other) == ["a", "b"]
    store.clock.ms += 2 * store.settings.id_ttl_ms
    assert await store.find("a", "other") is None
    # A relay that died when its jobs had come, and before it noted that.
    command("DEL", key(store, "work", "outbox:state"))
    assert await relay(store) == 2
    assert await take_all(other) == []
    assert await store.find("a", "other") is None


async def test_a_queue_with_something_for_others_is_not_forgotten(
    store: Store, command: Command
) -> None:
    worker = await store.worker()
    await send(store, worker, new("a"))
    await worker.lease.leave()
    store.clock.ms += 3_000
    command("DEL", key(store, "work", "stats"))
    (left,) = await store.backend.inspect.queues.forget(["work"], 0)
    assert (left.outbox, left.is_forgotten) == (1, False)
    await relay(store)
    store.clock.ms += LOOK_MS
    await relay(store)
    (left,) = await store.backend.inspect.queues.forget(["work"], 0)
    assert left.is_forgotten
    assert await relay(store) == 0


async def test_what_waits_in_an_outbox_is_counted(store: Store, command: Command) -> None:
    async def waits() -> tuple[int, int | None]:
        (flow,) = await store.backend.inspect.queues.flow(["work"])
        return flow.outbox, flow.oldest_outbox_ms

    def written_ms(number: int) -> int:
        entries = command("XRANGE", key(store, "work", "outbox"), "-", "+")
        return int(entries[number][0].partition(b"-")[0])

    worker = await store.worker()
    assert await waits() == (0, None)
    await send(store, worker, new("a"), new("b"))
    assert await waits() == (2, written_ms(0))
    await relay(store)
    # They are kept for a look, and wait for nothing.
    assert await waits() == (2, None)
    await send(store, worker, new("c"), id="second")
    assert await waits() == (3, written_ms(2))
    await relay(store)
    for _ in range(2):
        store.clock.ms += LOOK_MS
        await relay(store)
    assert await waits() == (0, None)


async def test_a_trip_carries_a_bounded_number(store: Store) -> None:
    worker = await store.worker()
    await send(store, worker, *(new(f"{n}") for n in range(250)))
    answer = await store.backend.relay(["work"])
    assert (answer.moved, answer.left) == (100, {"work"})
    await send(store, worker, *(new(f"l{n}", size=1_100_000) for n in range(3)), id="second")
    await send(store, worker, *(new(f"m{n}", size=1_100_000) for n in range(3)), id="third")
    await store.backend.relay(["work"])
    await store.backend.relay(["work"], 50)
    # After 4 MiB a trip is over.
    assert (await store.backend.relay(["work"])).moved == 4
    assert (await store.backend.relay(["work"])).moved == 2


async def leave_arrival(store: Store) -> None:
    """A job whose cancel lets another one go in queue `other`."""
    front = new("front", "work", terms=Terms(arrivals=(Arrival("other", "end", "run"),)))
    behind = new("behind", terms=Terms(behind="end"))
    batch = EnqueueBatch(store.token(), [front, behind], [Barrier("other", "end", 1)])
    assert (await store.backend.enqueue(batch)).refused == {}


async def test_an_act_brings_a_bounded_number(store: Store) -> None:
    worker = await store.worker()
    parents = [await parent(store, worker, f"p{n}") for n in range(3)]
    for number, job in enumerate(parents):
        jobs = (new(f"{number}-{n}") for n in range(200))
        await worker.exchange(causing(job, *jobs))
    await leave_arrival(store)
    await store.backend.cancel([JobRef("work", "front")], None, 0)
    # The arrival is behind them. Whoever cancels does not bring all that others have left.
    assert await store.state("behind", "other") is State.HELD
    assert sum((await store.counts("other")).ready) == PART * MOST_TRIPS
    assert await relay(store) == 101
    assert await store.state("behind", "other") is State.READY


@pytest.mark.parametrize("error", [StoreUnavailable("gone"), ValueError("broken")])
async def test_an_act_counts_though_its_relay_fails(
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    async def fail(*_: object) -> None:
        raise error

    await leave_arrival(store)
    with monkeypatch.context() as patch:
        patch.setattr(Outboxes, "relay", fail)
        verdicts = await store.backend.cancel([JobRef("work", "front")], None, 0)
    assert verdicts == [CancelVerdict.CANCELLED]
    # What the network does is no news; a fault of ours is told.
    told = [record.levelname for record in caplog.records if record.name == "asyncjobs.redis"]
    assert told == ["ERROR"] * isinstance(error, ValueError)
    # A worker finds it.
    assert await relay(store) == 1
    assert await store.state("behind", "other") is State.READY


async def test_what_nobody_can_read_holds_up_nothing(
    store: Store, command: Command, caplog: pytest.LogCaptureFixture
) -> None:
    worker = await store.worker()
    outbox = key(store, "work", "outbox")
    await send(store, worker, new("a"))
    for text in ("j", "j3:abc", "j999:abc", "jabc", "j1:a1:91:1:x0:", "j1:a1:23:now1:x0:"):
        command("XADD", outbox, "*", "other", text)
    command("XADD", outbox, "*", "other", "j1:b1:20:1:x4:z1:x")
    await send(store, worker, new("c"), id="second")
    with caplog.at_level(logging.ERROR):
        await relay(store)
    assert "7 entries of the outbox of queue 'work' for queue 'other' could not be read" in (
        caplog.text
    )
    assert await take_all(await store.worker("other")) == ["a", "c"]


async def test_a_kind_of_a_later_release_waits_for_that(store: Store, command: Command) -> None:
    worker = await store.worker()
    outbox = key(store, "work", "outbox")
    command("XADD", outbox, "*", "other", "x1:a")
    await send(store, worker, new("a"))
    answer = await store.backend.relay(["work"])
    assert (answer.moved, answer.left) == (0, {"work"})
    (error,) = answer.away.values()
    assert isinstance(error, StoreError)
    assert "unknown kind x" in str(error)
    assert command("XLEN", outbox) == 2


async def test_one_that_cannot_be_read_is_away(store: Store, command: Command) -> None:
    worker = await store.worker()
    await send(store, worker, new("a"))
    await send(store, worker, new("b", "third"), id="second")
    command("SET", key(store, "other", "inbox"), "foreign")
    answer = await store.backend.relay(["work", "other"])
    assert (answer.moved, list(answer.away)) == (0, ["other"])
    command("DEL", key(store, "other", "inbox"))
    assert await relay(store) == 2
