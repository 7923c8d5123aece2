"""The history on a server: its bounds, and what foreign writers put there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from asyncjobs.model.clock import new_id
from asyncjobs.model.figures import HOUR_MS, MINUTE_MS, Figures
from asyncjobs.model.history import FinishedJob
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.answers import CancelVerdict
from asyncjobs.store.history import FiguresQuery, FinishedQuery
from asyncjobs.store.redis.backend import RedisBackend
from asyncjobs.store.seam import StoreSettings
from asyncjobs.testing.conformance.store import LIMIT_S, QUEUE, PinnedClock, Store, Worker, ref

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["valkey", "redis"])
async def own(
    request: pytest.FixtureRequest, servers: Any, anyio_backend: str
) -> AsyncIterator[tuple[Any, Store]]:
    server, clock = servers.get(request.param), PinnedClock()
    settings = StoreSettings(prefix=f"test-{new_id()}", history=10)
    backend = RedisBackend(server.url, settings, now_ms=clock)
    try:
        await backend.open()
        yield server, Store(backend, clock, settings, lambda *_: backend)
    finally:
        await backend.close()
        server.command("DEL", *server.command("KEYS", f"*{settings.prefix}*"))


def key(store: Store, name: str = "history") -> str:
    return f"{{{store.settings.prefix}:{QUEUE}}}:{name}"


async def end(store: Store, worker: Worker, *names: str) -> None:
    await store.enqueue(*names)
    await worker.exchange(*map(Settlement.succeeded, await worker.take()))


async def finished(store: Store) -> list[FinishedJob]:
    page = await store.backend.inspect.history.finished(FinishedQuery(QUEUE))
    return list(page.jobs)


async def test_the_ring_is_bounded_by_its_jobs(own: tuple[Any, Store]) -> None:
    """An exchange of many jobs is one entry, so entries alone would say nothing."""
    server, store = own
    worker = await store.worker()
    for begin in range(0, 40, 4):
        await end(store, worker, *(f"job-{n}" for n in range(begin, begin + 4)))
    assert server.command("XLEN", key(store)) == 3
    assert len(await finished(store)) == 10
    for number in range(20):
        await end(store, worker, f"alone-{number}")
    assert server.command("XLEN", key(store)) == 10
    await end(store, worker, *(f"many-{n}" for n in range(50)))
    assert server.command("XLEN", key(store)) == 1


TOLD = '{"w": "w", "i": ["a"], "f": "f", "n": 1, "e": 1, "r": 1, "b": 1, "t": 1, "s": "dead"}'


@pytest.mark.parametrize(
    "fields",
    [
        ("at", "soon", "told", "{}", "void", "", "cancelled", ""),
        ("at", "1", "told", "no json", "void", "", "cancelled", ""),
        ("at", "1", "told", '{"w": "w", "i": 3}', "void", "", "cancelled", ""),
        ("at", "1", "told", '{"w": "w", "i": ["a"]}', "void", "", "cancelled", ""),
        ("at", "1", "told", TOLD.replace('"t": 1', '"t": "x"'), "void", "", "cancelled", ""),
        ("at", "1", "told", TOLD.replace('"s"', '"x": 5, "s"'), "void", "", "cancelled", ""),
        ("at", "1", "told", TOLD.replace("dead", "no state"), "void", "", "cancelled", ""),
        ("at", "1", "told", TOLD.replace('"b": 1', '"b": [1, 2]'), "void", "", "cancelled", ""),
        ("at", "1", "told", TOLD, "void", "x", "cancelled", ""),
        ("at", "1", "id", "a"),
        ("jobs", "many"),
        ("anything", "\\xff"),
    ],
)
async def test_entries_of_a_foreign_writer_are_passed_over(
    own: tuple[Any, Store], fields: tuple[str, ...]
) -> None:
    server, store = own
    worker = await store.worker()
    await end(store, worker, "a")
    server.command("XADD", key(store), "1-50", *fields)
    await end(store, worker, "b")
    assert [job.ref.id for job in await finished(store)] == ["b", "a"]


@pytest.mark.parametrize("name", ["history", "history:jobs"])
async def test_keys_of_a_wrong_type_hold_up_no_settlement(
    own: tuple[Any, Store], name: str
) -> None:
    server, store = own
    worker = await store.worker()
    await end(store, worker, "a")
    server.command("DEL", key(store, name))
    server.command("SADD", key(store, name), "x")
    await end(store, worker, "b")
    assert [(job.number, job.ref.id) for job in await finished(store)] == [(1, "b")]
    assert (await store.counts()).running == 0
    server.command("DEL", key(store, name))
    server.command("SADD", key(store, name), "x")
    await store.enqueue("c")
    (verdict,) = await store.backend.cancel([ref("c")], None, 0)
    assert verdict is CancelVerdict.CANCELLED


async def test_it_begins_anew_behind_a_foreign_entry(own: tuple[Any, Store]) -> None:
    server, store = own
    worker = await store.worker()
    await end(store, worker, "a")
    server.command("XADD", key(store), "18446744073709551615-1", "rows", "")
    await end(store, worker, "b", "c")
    assert [(job.number, job.ref.id) for job in await finished(store)] == [(2, "c"), (1, "b")]
    # A server that has lost one of the keys.
    server.command("DEL", key(store, "history:jobs"))
    await end(store, worker, "d")
    assert [(job.number, job.ref.id) for job in await finished(store)] == [(1, "d")]


async def test_an_id_that_is_no_text(own: tuple[Any, Store]) -> None:
    server, store = own
    worker = await store.worker()
    server.command("XADD", key(store, "ready:2"), "*", b"\xff\xfe", b"{}")
    await end(store, worker, "a")
    assert {job.ref.id for job in await finished(store)} == {"\\xff\\xfe", "a"}


def counted(store: Store, function: str = "send") -> Figures:
    at_ms = store.clock.ms - store.clock.ms % MINUTE_MS
    return Figures(QUEUE, function, at_ms, 2, 1, {4: 2}, {0: 1, 7: 1})


async def figures(store: Store, step_ms: int = MINUTE_MS) -> dict[str, int]:
    now = store.clock.ms
    query = FiguresQuery(QUEUE, now - HOUR_MS, now + 1, step_ms)
    found = await store.backend.inspect.history.figures(query)
    return {each.function: each.attempts for each in found}


async def test_figures_expire(own: tuple[Any, Store]) -> None:
    server, store = own
    await store.backend.add_figures([counted(store)])
    minute, hour = store.clock.ms // MINUTE_MS, store.clock.ms // HOUR_MS
    day_ms = 24 * HOUR_MS
    left_ms = server.command("PTTL", key(store, f"figures:minute:{minute}"))
    assert day_ms - MINUTE_MS < left_ms <= day_ms
    left_ms = server.command("PTTL", key(store, f"figures:hour:{hour}"))
    assert 30 * day_ms - MINUTE_MS < left_ms <= 30 * day_ms


@pytest.mark.parametrize("told", ["x", "x" * 2_000_000])
async def test_entries_that_cannot_be_read_end_no_look(own: tuple[Any, Store], told: str) -> None:
    server, store = own
    await end(store, await store.worker(), "a")
    # Each is as much as one call looks at.
    for entry in ("5000-8000", "8000-8000"):
        server.command("XADD", key(store), entry, "at", 1, "jobs", 2000, "told", told)
    with anyio.fail_after(LIMIT_S):
        assert [job.ref.id for job in await finished(store)] == ["a"]


async def test_spoiled_figures_begin_anew(own: tuple[Any, Store]) -> None:
    server, store = own
    minute, hour = store.clock.ms // MINUTE_MS, store.clock.ms // HOUR_MS
    for name in (f"figures:minute:{minute}", f"figures:hour:{hour}"):
        server.command("SET", key(store, name), "x")
    assert await figures(store) == {}
    await store.backend.add_figures([counted(store)])
    assert await figures(store) == await figures(store, HOUR_MS) == {"send": 2}
    for stored in ("x", "1 2|x|4", "-1 0||", "9" * 40 + " 0||"):
        server.command("HSET", key(store, f"figures:minute:{minute}"), "send", stored)
        assert await figures(store) == {}
        await store.backend.add_figures([counted(store)])
        assert await figures(store) == {"send": 2}


async def test_bytes_of_figures(own: tuple[Any, Store]) -> None:
    """As docs/guides/observability.md says: for one function and one day."""
    server, store = own
    spread = dict.fromkeys(range(30, 43), 9999)
    each = counted(store, "shop.orders.send")._replace(attempts=130_000, queued=spread, ran=spread)
    await store.backend.add_figures([each])
    minute = store.clock.ms // MINUTE_MS
    used = server.command("MEMORY", "USAGE", key(store, f"figures:minute:{minute}"))
    assert used < 600
    assert 24 * 60 * used < 1_000_000
