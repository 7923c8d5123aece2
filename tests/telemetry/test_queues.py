"""Gauges of queues: what they say, and that they say nothing while the store is away."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from asyncjobs import AsyncJobs, Concurrency, State
from asyncjobs.errors import StoreUnavailable
from asyncjobs.store.inspect import QueueFlow
from asyncjobs.telemetry import limits as limit_counts
from asyncjobs.telemetry import queues as module
from asyncjobs.telemetry.instruments import FLEET
from asyncjobs.telemetry.queues import QueueGauges, QueueView, look_at_queues
from tests.telemetry.reading import Reading
from tests.worker import jobs
from tests.worker.kit import LIMIT_S, NewApp, Stage, ended, register, working

pytestmark = pytest.mark.anyio

JOBS, OLDEST, LAG, PAUSED, OUTBOX, OLDEST_OUTBOX, FLOWS, *LIMITS = (each.name for each in FLEET)


async def view_of(app: AsyncJobs) -> QueueView:
    return await look_at_queues(app.backend)  # type: ignore[arg-type]


async def test_jobs_by_state(new_app: NewApp, reading: Reading, stage: Stage) -> None:
    app = new_app()
    gated, fails = register(app, jobs.gated), register(app, jobs.fails, retry=False)
    async with working(app, concurrency=1):
        dead = await fails.enqueue()
        await ended(app, dead.id, State.DEAD)
        await gated.enqueue("g")
        await stage.noted(("started", "g"))
        await app.enqueue_many([fails.bind(), fails.bind()])
        await fails.options(delay=60).enqueue()
        view = await view_of(app)
        QueueGauges(lambda: view).attach(reading.provider)
        found = reading.points(JOBS)
        stage.open("g")
    assert found[("ready", "default")] == 2
    assert found[("held", "default")] == 0
    assert found[("running", "default")] == 1
    assert found[("scheduled", "default")] == 1
    assert found[("dead", "default")] == 1
    assert set(reading.metrics()) | {FLOWS, *LIMITS} == {instrument.name for instrument in FLEET}


async def test_limits_by_queue_and_name(new_app: NewApp, reading: Reading, stage: Stage) -> None:
    app = new_app()
    limits = Concurrency(1, by="name", name="api")
    gated = register(app, jobs.gated, limits=limits)
    async with working(app):
        for name in ("a", "b", "a", "b", "b"):
            await gated.enqueue(name)
        await stage.noted(("started", "a"))
        await stage.noted(("started", "b"))
        view = await view_of(app)
        QueueGauges(lambda: view).attach(reading.provider)
        running, parked, oldest = (reading.points(name) for name in LIMITS)
        stage.open("a", "b")
    # One number for all keys: there may be one for each tenant.
    assert set(running.values()) == {2}
    assert set(parked.values()) == {3}
    (oldest_s,) = oldest.values()
    assert 0 <= oldest_s < LIMIT_S
    assert len(running) == len(parked) == 1


async def test_more_limits_than_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limit_counts, "MOST_NAMES", 2)
    app = AsyncJobs("memory:")
    for name in ("a", "b", "c", "d"):
        app.limits.define(name, Concurrency(5))
    async with app, AsyncExitStack() as inside:
        for name in ("a", "b", "c", "d"):
            await inside.enter_async_context(app.limit(name))
        view = await view_of(app)
    assert [(each.limit, each.running) for each in view.limits] == [
        ("a", 1),
        ("b", 1),
        ("_OTHER", 2),
    ]


async def test_paused_queues(new_app: NewApp, reading: Reading) -> None:
    app = new_app()
    mail = register(app, jobs.fails, queue="mail")
    async with app:
        await mail.enqueue()
        await mail.options(queue="work").enqueue()
        await app.queues.pause("mail")
        await app.queues.pause("work", function=mail.name)
        view = await view_of(app)
    QueueGauges(lambda: view).attach(reading.provider)
    assert reading.points(PAUSED) == {("mail",): 1, ("work",): 0}


async def test_ages(reading: Reading) -> None:
    late = QueueFlow("late", 10_000, 7_500, 0, 0, {}, next_due_ms=6_000)
    fine = QueueFlow("fine", 10_000, None, 0, 0, {}, next_due_ms=60_000)
    QueueGauges(lambda: QueueView((), (late, fine))).attach(reading.provider)
    assert reading.points(OLDEST) == {("late",): 2.5, ("fine",): 0}
    assert reading.points(LAG) == {("late",): 4.0, ("fine",): 0}


async def test_outboxes(reading: Reading) -> None:
    late = QueueFlow("late", 10_000, None, 0, 0, {}, outbox=3, oldest_outbox_ms=8_000)
    fine = QueueFlow("fine", 10_000, None, 0, 0, {}, outbox=2)
    QueueGauges(lambda: QueueView((), (late, fine))).attach(reading.provider)
    assert reading.points(OUTBOX) == {("late",): 3, ("fine",): 2}
    assert reading.points(OLDEST_OUTBOX) == {("late",): 2.0, ("fine",): 0}


async def test_one_look_serves_all_gauges(
    reading: Reading, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "FRESH_S", 60.0)
    looks: list[int] = []
    flow = QueueFlow("q", 10_000, None, 0, 0, {})

    def look() -> QueueView:
        looks.append(1)
        return QueueView((), (flow,))

    QueueGauges(look).attach(reading.provider)
    await asyncio.to_thread(reading.metrics)
    assert len(looks) == 1


async def test_nothing_is_said_while_the_store_is_away(
    reading: Reading, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "FRESH_S", 0.0)
    flow = QueueFlow("q", 10_000, None, 0, 0, {})
    away = False

    def look() -> QueueView:
        if away:
            raise StoreUnavailable("it is away")
        return QueueView((), (flow,))

    QueueGauges(look).attach(reading.provider)
    assert reading.points(OLDEST) == {("q",): 0}
    away = True
    assert reading.points(OLDEST) == {}
    assert reading.points(OLDEST) == {}
    assert caplog.text.count("it is away") == 1
    away = False
    assert reading.points(OLDEST) == {("q",): 0}
