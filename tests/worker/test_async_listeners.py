"""Async listeners, on each store: in order, on the loop of the app, and not beyond its end."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import pytest

from asyncjobs import AsyncJobs, JobFailed
from asyncjobs.client import listeners
from asyncjobs.events import JobDead, JobEnqueued, JobEvent
from asyncjobs.model import inboxes
from asyncjobs.model.refs import JobRef
from tests.worker import jobs
from tests.worker.kit import LIMIT_S, Stage, register, until, working

pytestmark = pytest.mark.anyio

heard: list[Any] = []


@pytest.fixture(autouse=True)
def _nothing_heard() -> None:
    heard.clear()


def enqueued(number: int) -> JobEnqueued:
    return JobEnqueued(JobRef("default", str(number)), "tasks.send", True)


async def test_it_hears_events_in_their_order_on_the_loop_of_the_app(app: AsyncJobs) -> None:
    job = register(app, jobs.echo)

    @app.on(JobEvent)
    async def listens(event: JobEvent) -> None:
        await asyncio.sleep(0)
        heard.append((type(event).__name__, event.ref.id, threading.get_ident()))

    async with working(app):
        handle = await job.enqueue("x")
        await handle.result(LIMIT_S)
    here = threading.get_ident()
    assert heard == [
        (kind, handle.id, here) for kind in ("JobEnqueued", "JobStarted", "JobSucceeded")
    ]


async def test_it_may_enqueue_a_job(app: AsyncJobs, stage: Stage) -> None:
    fails, note = register(app, jobs.fails, retry=False), register(app, jobs.note)

    @app.on(JobDead)
    async def alarms(event: JobDead) -> None:
        await note.enqueue(str(event.ref))

    async with working(app):
        handle = await fails.enqueue()
        with pytest.raises(JobFailed):
            await handle.result(LIMIT_S)
        await stage.noted(str(handle.ref))


async def test_an_enqueue_in_a_thread_reaches_it_on_its_loop(app: AsyncJobs) -> None:
    job = register(app, jobs.echo)

    @app.on(JobEnqueued)
    async def listens(event: JobEnqueued) -> None:
        heard.append(threading.get_ident())

    async with app:
        await asyncio.to_thread(job.enqueue_sync, "x")
        await until(lambda: len(heard) == 1)
    assert heard == [threading.get_ident()]


# -- without a store of its own --------------------------------------------------------------------


memory = pytest.mark.parametrize("kind", ["memory"], indirect=True)


@memory
async def test_events_of_other_threads_wake_it(app: AsyncJobs) -> None:
    @app.on(JobEnqueued)
    async def listens(event: JobEnqueued) -> None:
        heard.append(event.ref.id)

    async with app:
        # So that it waits already.
        await asyncio.sleep(0)
        thread = threading.Thread(target=lambda: app.events.emit(enqueued(1)))
        thread.start()
        thread.join()
        await until(lambda: heard == ["1"])


@memory
async def test_what_happens_while_the_app_is_closed_waits_for_its_opening(app: AsyncJobs) -> None:
    @app.on(JobEnqueued)
    async def listens(event: JobEnqueued) -> None:
        heard.append(event.ref.id)

    for number in range(2):
        app.events.emit(enqueued(number))
        assert len(heard) == number
        async with app:
            pass
    assert heard == ["0", "1"]


@memory
async def test_one_that_is_added_later_or_removed(app: AsyncJobs) -> None:
    async def listens(event: JobEnqueued) -> None:
        heard.append(event.ref.id)

    async with app:
        remove = app.on(JobEnqueued, listens)
        app.events.emit(enqueued(1))
        await until(lambda: heard == ["1"])
        remove()
        app.events.emit(enqueued(2))
        assert app.events.inboxes.all == []
    assert heard == ["1"]


@memory
async def test_what_it_raises_is_logged_once_and_the_next_event_comes(
    app: AsyncJobs, caplog: pytest.LogCaptureFixture
) -> None:
    @app.on(JobEnqueued)
    async def breaks(event: JobEnqueued) -> None:
        heard.append(event.ref.id)
        raise (SystemExit if event.ref.id == "0" else asyncio.CancelledError)(3)

    async with app:
        for number in range(3):
            app.events.emit(enqueued(number))
    assert heard == ["0", "1", "2"]
    told = [record for record in caplog.records if "failed on JobEnqueued" in record.message]
    assert len(told) == 2


@memory
async def test_one_that_is_too_slow_loses_events_and_says_how_many(
    app: AsyncJobs, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(inboxes, "MOST_EVENTS", 3)
    gate = asyncio.Event()

    @app.on(JobEnqueued)
    async def waits(event: JobEnqueued) -> None:
        heard.append(event.ref.id)
        await gate.wait()

    async with app:
        app.events.emit(enqueued(0))
        await until(lambda: heard == ["0"])
        for number in range(1, 9):
            app.events.emit(enqueued(number))
        gate.set()
        await until(lambda: "has missed 5 events" in caplog.text)
    assert heard == ["0", "1", "2", "3"]
    told = [record.message for record in caplog.records if "more are dropped" in record.message]
    assert len(told) == 1
    assert "it is too slow" in told[0]


@memory
async def test_one_that_does_not_end_is_cancelled_when_the_app_is_closed(
    app: AsyncJobs, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(listeners, "CLOSE_S", 0.01)

    @app.on(JobEnqueued)
    async def hangs(event: JobEnqueued) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            heard.append("cancelled")

    async with app:
        app.events.emit(enqueued(0))
        app.events.emit(enqueued(1))
        await asyncio.sleep(0)
    assert heard == ["cancelled"]
    (told,) = [record for record in caplog.records if "was cancelled" in record.message]
    assert told.levelno == logging.ERROR
    assert "1 events wait" in told.message


@memory
async def test_one_event_has_a_time_limit(
    app: AsyncJobs, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(listeners, "LIMIT_S", 0.01)

    @app.on(JobEnqueued)
    async def hangs(event: JobEnqueued) -> None:
        heard.append(event.ref.id)
        await asyncio.sleep(60)

    async with app:
        app.events.emit(enqueued(0))
        app.events.emit(enqueued(1))
        await until(lambda: heard == ["0", "1"])
    assert "TimeoutError" in caplog.text


@memory
async def test_a_job_that_cancels_all_tasks_finds_no_listener(app: AsyncJobs) -> None:
    @app.on(JobEnqueued)
    async def listens(event: JobEnqueued) -> None:
        heard.append(asyncio.current_task())

    async with app:
        app.events.emit(enqueued(1))
        await until(lambda: len(heard) == 1)
        assert heard[0] not in asyncio.all_tasks()
        assert not heard[0].done()
    assert heard[0].done()
