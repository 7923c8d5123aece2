"""What a foreign writer does to a schedule costs that schedule at the most."""

from __future__ import annotations

from typing import Any

import pytest

from asyncjobs.model.job import NewJob
from asyncjobs.model.schedules import tick_job_id
from asyncjobs.store.redis.backend import RedisBackend
from asyncjobs.store.schedules import MOST_RUNS, Fire, Put, Ran, Schedules, Tick, TickVerdict
from asyncjobs.testing.conformance.schedules import MINUTE_MS, one, rule
from asyncjobs.testing.conformance.store import QUEUE, PinnedClock, Store, clock, new_settings

__all__ = ["clock", "new_settings"]

pytestmark = [pytest.mark.anyio, pytest.mark.unaudited("a foreign writer has been there")]


@pytest.fixture(params=["valkey", "redis"])
async def store(request: Any, servers: Any, new_settings: Any, clock: PinnedClock) -> Any:
    server = servers.get(request.param)

    def make(settings: Any, now_ms: Any) -> RedisBackend:
        return RedisBackend(server.url, settings, now_ms=now_ms)

    backend = make(new_settings, clock)
    await backend.open()
    yield Store(backend, clock, new_settings, make)
    await backend.close()
    server.command("DEL", *server.command("KEYS", f"*{new_settings.prefix}*"))


@pytest.fixture
def schedules(store: Store) -> Schedules:
    return store.backend.schedules


async def write(store: Store, *command: str) -> None:
    """A command of somebody else; `cron` stands for the start of the queue's keys."""
    assert isinstance(store.backend, RedisBackend)
    base = store.backend._keys.queue(QUEUE).base
    words = [base + word.encode() if word.startswith("cron") else word for word in command]
    await store.backend._link.call(*words)


@pytest.mark.parametrize(
    "command",
    [
        ("SET", "cron:of:report", "x"),
        ("HSET", "cron:of:report", "next", "soon"),
        ("HDEL", "cron:of:report", "version"),
        ("UNLINK", "cron:of:report"),
    ],
)
async def test_a_spoiled_rule_keeps_nobody_busy_and_can_be_put_again(
    store: Store, schedules: Schedules, command: tuple[str, ...]
) -> None:
    await schedules.put([rule(store), rule(store, "other", in_ms=2 * MINUTE_MS)])
    if command[0] == "SET":
        await write(store, "UNLINK", "cron:of:report")
    await write(store, *command)
    store.clock.ms += MINUTE_MS
    found = await schedules.due([QUEUE], 10)
    # The other one: a time that is due for ever would be asked for again and again.
    assert (found.records, found.next_ms) == ([], {QUEUE: store.clock.ms + MINUTE_MS})
    await schedules.page([QUEUE])
    await schedules.put([rule(store, version="v2", in_ms=7)])
    assert (await one(schedules)).next_ms == store.clock.ms + 7
    store.clock.ms += 7
    assert [each.ref.id for each in (await schedules.due([QUEUE], 10)).records] == ["report"]


async def test_a_time_that_is_due_too_early_is_put_right(
    store: Store, schedules: Schedules
) -> None:
    await schedules.put([rule(store)])
    await write(store, "ZADD", "cron:next", "5", "report")
    found = await schedules.due([QUEUE], 10)
    assert (found.records, found.next_ms) == ([], {QUEUE: store.clock.ms + MINUTE_MS})


async def test_numbers_that_are_none_count_as_none(store: Store, schedules: Schedules) -> None:
    await schedules.put([rule(store)])
    for field in ("fired", "missed", "skipped", "lag", "left", "last", "declared"):
        await write(store, "HSET", "cron:of:report", field, "many")
    await write(store, "SET", "cron:ran:report", "x")
    store.clock.ms += MINUTE_MS
    at = store.clock.ms
    ticks = [Tick(at, NewJob(QUEUE, tick_job_id("report", at), 2, b"{}"))]
    record = await one(schedules)
    (fired,) = await schedules.fire([Fire(record.ref, "v1", at, None, at, ticks)])
    assert fired.verdicts == [TickVerdict.FIRED]
    record = await one(schedules)
    assert (record.fired, record.missed, record.left, record.last_ms) == (1, 0, None, at)
    assert len(await schedules.runs("report")) == 1


async def test_an_index_that_is_wrong_is_a_hint(store: Store, schedules: Schedules) -> None:
    await schedules.put([rule(store)])
    name = f"{store.settings.prefix}:schedules"
    await write(store, "HSET", name, "ghost", "nowhere")
    assert await schedules.get(["ghost"]) == [None]
    assert await schedules.delete(["ghost"]) == [False]
    await write(store, "HDEL", name, "report")
    assert await schedules.get(["report"]) == [None]
    assert await schedules.put([rule(store)]) == [Put.SAME]
    assert (await one(schedules)).version == "v1"


async def test_a_move_that_was_broken_off_can_be_made_again(
    store: Store, schedules: Schedules
) -> None:
    await schedules.put([rule(store)])
    before = await one(schedules)
    assert isinstance(store.backend, RedisBackend)
    await store.backend.schedules._take(QUEUE, rule(store, queue="mail"), 0)
    store.clock.ms += MINUTE_MS
    # Nobody fires it meanwhile: the mover may be about to store it elsewhere.
    assert (await schedules.due([QUEUE], 10)).records == []
    moved = rule(store, queue="mail", in_ms=7)
    assert await schedules.put([moved]) == [Put.CHANGED]
    assert await one(schedules) == before._replace(ref=moved.ref)


async def test_a_move_that_was_broken_off_can_be_taken_back(
    store: Store, schedules: Schedules
) -> None:
    await schedules.put([rule(store)])
    before = await one(schedules)
    assert isinstance(store.backend, RedisBackend)
    await store.backend.schedules._take(QUEUE, rule(store, queue="mail"), 0)
    await store.backend.schedules._take(QUEUE, rule(store, queue="mail"), 0)
    assert await schedules.put([rule(store)]) == [Put.SAME]
    assert await one(schedules) == before


async def test_a_move_that_was_broken_off_is_found_by_those_who_declare_it(
    store: Store, schedules: Schedules
) -> None:
    code = rule(store, is_code=True)
    await schedules.put([code])
    before = await one(schedules)
    assert isinstance(store.backend, RedisBackend)
    await store.backend.schedules._take(QUEUE, rule(store, queue="mail", is_code=True), 0)
    # The mover may be about to store it there.
    assert await schedules.declare([(code.ref, "v1")]) == [True]
    store.clock.ms += MINUTE_MS + 1
    assert await schedules.declare([(code.ref, "v1")]) == [False]
    assert await schedules.put([code], fresh_ms=5 * MINUTE_MS) == [Put.SAME]
    assert (await one(schedules)).next_ms == before.next_ms


async def test_the_jobs_that_are_remembered_are_bounded(store: Store, schedules: Schedules) -> None:
    await schedules.put([rule(store)])
    assert isinstance(store.backend, RedisBackend)
    key = store.backend._keys.queue(QUEUE).ran("report")
    await store.backend._link.call("RPUSH", key, *range(1, MOST_RUNS + 1))
    # All of them move.
    moved = rule(store, queue="mail")
    await schedules.put([moved])
    assert len(await schedules.runs("report")) == MOST_RUNS
    tick = Tick(MOST_RUNS + 1, NewJob("mail", "by-hand", 2, b"{}"))
    assert await schedules.run("report", [tick]) == Ran([TickVerdict.FIRED])
    runs = await schedules.runs("report")
    assert (len(runs), runs[0].job_id, runs[-1].tick_ms) == (MOST_RUNS, "by-hand", 2)
    key = store.backend._keys.queue("mail").ran("report")
    assert await store.backend._link.call("LLEN", key) == MOST_RUNS
