"""Figures of job functions: counts and times, by minute and by hour."""

from __future__ import annotations

from typing import Any

import pytest

from asyncjobs.model.figures import HOUR_MS, MINUTE_MS, OTHERS, Figures
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.history import MOST_FUNCTIONS, FiguresQuery
from asyncjobs.testing.conformance.store import QUEUE, Store

pytestmark = pytest.mark.anyio


def figures(store: Store, function: str = "send", minute: int = 0, **about: Any) -> Figures:
    """What a worker has counted in the present minute, or in one so much later."""
    at_ms = (store.clock.ms // MINUTE_MS + minute) * MINUTE_MS
    return Figures(QUEUE, function, at_ms, 3, 1, {4: 2, 7: 1}, {0: 3})._replace(**about)


async def asked(store: Store, minutes: int = 60, **about: Any) -> list[Figures]:
    """The figures of the last so many minutes."""
    now = store.clock.ms
    query = FiguresQuery(QUEUE, now - minutes * MINUTE_MS, now + MINUTE_MS)._replace(**about)
    return await store.backend.inspect.history.figures(query)


async def test_what_workers_count_is_added_up(store: Store) -> None:
    first = figures(store)
    await store.backend.add_figures([first, figures(store, "pay"), figures(store, minute=1)])
    assert await asked(store, step_ms=MINUTE_MS, before_ms=store.clock.ms + 2 * MINUTE_MS) == [
        figures(store, "pay"),
        first,
        figures(store, minute=1),
    ]
    await store.backend.add_figures(
        [figures(store, attempts=5, failed=0, queued={7: 5}, ran={2: 5})]
    )
    both = figures(store, attempts=8, failed=1, queued={4: 2, 7: 6}, ran={0: 3, 2: 5})
    assert await asked(store, functions={"send"}) == [both]
    await store.backend.add_figures([])


async def test_spans_of_several_minutes_and_of_hours(store: Store) -> None:
    store.clock.ms -= store.clock.ms % HOUR_MS
    for minute in (0, 1, 9, 10, 61):
        await store.backend.add_figures([figures(store, minute=minute)])
    begin = store.clock.ms
    store.clock.ms += 2 * HOUR_MS
    tens = await asked(store, since_ms=begin, step_ms=10 * MINUTE_MS)
    assert [(each.at_ms - begin, each.attempts) for each in tens] == [
        (0, 9),
        (10 * MINUTE_MS, 3),
        (HOUR_MS, 3),
    ]
    hours = await asked(store, since_ms=begin, step_ms=HOUR_MS)
    assert [(each.at_ms - begin, each.attempts) for each in hours] == [(0, 12), (HOUR_MS, 3)]
    assert hours[0].queued == {4: 8, 7: 4}
    (day,) = await asked(store, since_ms=begin, step_ms=24 * HOUR_MS)
    assert (day.attempts, day.failed) == (15, 5)
    assert await asked(store, since_ms=begin + 2 * MINUTE_MS, before_ms=begin + 9 * MINUTE_MS) == []


async def test_minutes_are_kept_for_a_day(store: Store) -> None:
    begin = store.clock.ms
    await store.backend.add_figures([figures(store)])
    store.clock.ms += 24 * HOUR_MS + 2 * MINUTE_MS
    await store.backend.add_figures([figures(store)])
    assert len(await asked(store, since_ms=begin - MINUTE_MS)) == 1
    assert len(await asked(store, since_ms=begin - HOUR_MS, step_ms=HOUR_MS)) == 2
    store.clock.ms += 30 * 24 * HOUR_MS + 2 * HOUR_MS
    await store.backend.add_figures([figures(store)])
    assert len(await asked(store, since_ms=begin, step_ms=HOUR_MS)) == 1


async def test_functions_without_room_are_added_up(store: Store) -> None:
    names = [f"job-{number}" for number in range(MOST_FUNCTIONS + 5)]
    await store.backend.add_figures([figures(store, name) for name in names])
    await store.backend.add_figures([figures(store, "job-1"), figures(store, "late")])
    for step_ms in (MINUTE_MS, HOUR_MS):
        found = {each.function: each.attempts for each in await asked(store, step_ms=step_ms)}
        assert len(found) == MOST_FUNCTIONS + 1
        assert (found["job-1"], found[OTHERS]) == (6, 18)


async def test_a_queue_without_figures(store: Store) -> None:
    assert await asked(store) == []
    assert await store.backend.inspect.queues.names() == []


async def test_a_forgotten_queue_has_none(store: Store) -> None:
    await store.enqueue("a")
    worker = await store.worker()
    await worker.take()
    await store.backend.add_figures([figures(store), figures(store, minute=-30)])
    await worker.lease.leave()
    store.clock.ms += 2 * store.settings.id_ttl_ms + 1_000_000
    assert len(await asked(store, minutes=120)) == 2
    (left,) = await store.backend.inspect.queues.forget([QUEUE], 0)
    assert not left.is_forgotten
    worker = await store.worker()
    (job,) = await worker.take()
    await worker.exchange(Settlement.succeeded(job))
    await worker.lease.leave()
    store.clock.ms += 2 * store.settings.id_ttl_ms + 1_000_000
    (left,) = await store.backend.inspect.queues.forget([QUEUE], 0)
    assert left.is_forgotten
    assert await asked(store, minutes=24 * 60) == []
    assert await asked(store, minutes=24 * 60, step_ms=HOUR_MS) == []
