"""How attempts end in traces and metrics alike, when their end is out of the ordinary."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

from asyncjobs import AsyncJobs, RetryPolicy, State, Worker, constant, events
from asyncjobs.model.attempt import StopAsked
from asyncjobs.model.clock import now_ms
from asyncjobs.model.outcome import revived
from asyncjobs.model.refs import JobRef
from asyncjobs.options.app import AppSettings
from asyncjobs.store.letters import Revival, Revived
from asyncjobs.telemetry.tracing import Tracing
from asyncjobs.worker.engine import records, settling
from tests.tasks import every_task
from tests.telemetry import tasks
from tests.telemetry.attempts import attempt_info, knows_nothing
from tests.telemetry.reading import Reading
from tests.telemetry.recording import Recording, context_of, events_of_span, links_of
from tests.worker import jobs
from tests.worker.kit import (
    LIMIT_S,
    Mute,
    NewApp,
    Stage,
    ended,
    events_of,
    register,
    until,
    working,
)

pytestmark = pytest.mark.anyio

FINISHED = "asyncjobs.jobs.finished"
PROCESS = "messaging.process.duration"


@pytest.fixture
def app(new_app: NewApp, reading: Reading, recording: Recording) -> AsyncJobs:
    return new_app(meter_provider=reading.provider, tracer_provider=recording.provider)


def told(span: ReadableSpan) -> tuple[object, object, StatusCode]:
    """Outcome, error type and status."""
    attributes = span.attributes or {}
    return (
        attributes["asyncjobs.job.outcome"],
        attributes.get("error.type"),
        span.status.status_code,
    )


def measured(reading: Reading) -> list[tuple[object, object]]:
    """Outcomes and error types of the attempts."""
    metric = reading.metrics().get(PROCESS)
    points = () if metric is None else metric.data.data_points
    found = [point.attributes or {} for point in points]
    return [(each["asyncjobs.job.outcome"], each.get("error.type")) for each in found]


async def test_a_lost_lease(
    app: AsyncJobs, reading: Reading, recording: Recording, stage: Stage, mute: Mute
) -> None:
    reclaimed = events_of(app, events.JobsReclaimed)
    job = register(app, jobs.gated)
    async with app, Worker(app, lease=1, grace=2):
        handle = await job.enqueue("g")
        await stage.noted(("started", "g"))
        mute.on = True
        await until(lambda: bool(reclaimed))
        mute.on = False
        (lost,) = await recording.ended(1)
        stage.open("g")
        await handle.result(LIMIT_S)
        _, done = await recording.ended(2)
    assert told(lost) == ("lease_lost", "lease_lost", StatusCode.ERROR)
    assert events_of_span(lost) == {"lease_lost": {}}
    assert ("lease_lost", "lease_lost") in measured(reading)
    # Whose worker is lost can leave nothing in the job.
    assert set(links_of(done)) == {"creation"}


async def test_a_lost_lease_that_nobody_tells_of(recording: Recording) -> None:
    tracing = Tracing(recording.provider, AppSettings.of(), lambda: "", knows_nothing)
    info = attempt_info(stops=[StopAsked("lease lost", time.monotonic() - 0.1)])

    async def body() -> None:
        """Ends after its worker has let go of it."""

    await asyncio.create_task(tracing(info, body))
    (attempt,) = recording.attempts()
    assert told(attempt) == ("lease_lost", "lease_lost", StatusCode.ERROR)
    assert events_of_span(attempt) == {"lease_lost": {}}


@pytest.mark.parametrize("attempts", [1, 2])
async def test_an_end_that_could_not_be_recorded(
    app: AsyncJobs,
    reading: Reading,
    recording: Recording,
    stage: Stage,
    monkeypatch: pytest.MonkeyPatch,
    attempts: int,
) -> None:
    heard = events_of(app, events.AttemptEnded)
    job = register(app, jobs.fails, retry=RetryPolicy(attempts, constant(600)))

    def broken(*args: Any) -> None:
        raise LookupError("planted")

    monkeypatch.setattr(settling, "describe", broken)
    state = State.DEAD if attempts == 1 else State.SCHEDULED
    outcome = "dead" if attempts == 1 else "retry"
    async with working(app):
        await ended(app, (await job.enqueue()).id, state)
        (attempt,) = await recording.ended(1)
    assert told(attempt) == (outcome, "LookupError", StatusCode.ERROR)
    assert measured(reading) == [(outcome, "LookupError")]
    assert reading.total("asyncjobs.jobs.active") == 0
    assert reading.total(FINISHED) == (attempts == 1)
    assert len(heard) == 1


async def test_a_success_whose_result_cannot_be_looked_at_stays_one(
    app: AsyncJobs, recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = events_of(app, events.AttemptEnded)
    job = register(app, jobs.echo, retry=RetryPolicy(2, constant(600)))

    def broken(*args: Any) -> None:
        raise LookupError("planted")

    monkeypatch.setattr(records, "check_json", broken)
    async with working(app):
        await ended(app, (await job.enqueue("x")).id, State.SUCCEEDED)
        (attempt,) = await recording.ended(1)
    assert told(attempt) == ("succeeded", None, StatusCode.UNSET)
    assert [type(event) for event in heard] == [events.JobSucceeded]


async def test_after_a_revival_an_attempt_links_to_the_last_one(
    app: AsyncJobs, recording: Recording, stage: Stage
) -> None:
    job = register(app, jobs.flaky, retry=RetryPolicy(2, constant(0)))
    async with working(app):
        handle = await job.enqueue(2)
        await ended(app, handle.id, State.DEAD)
        await _revive(app, handle.ref)
        *_, last, again, _ = await recording.ended(4)
    (sent,) = recording.sent()
    assert told(last) == ("dead", "tests.worker.jobs.Broken", StatusCode.ERROR)
    assert links_of(again) == {
        "creation": context_of(sent).span_id,
        "previous_attempt": context_of(last).span_id,
    }


async def test_a_letter_of_a_job_that_is_not_traced_is_as_it_was(
    app: AsyncJobs, stage: Stage
) -> None:
    job = register(app, jobs.fails, retry=False, tracing="none")
    async with working(app):
        handle = await job.enqueue()
        await ended(app, handle.id, State.DEAD)
        (letter,) = await app.backend.dead.find([handle.ref])
    assert letter is not None
    assert b'"t":' not in letter.letter.partition(b"\n")[2]


async def _revive(app: AsyncJobs, ref: JobRef) -> None:
    dead = app.backend.dead
    (letter,) = await dead.find([ref])
    assert letter is not None
    revival = Revival(letter.key, revived(letter.letter, now_ms()))
    assert await dead.revive([revival]) == [Revived.READY]


@pytest.mark.parametrize("way", ["late", "stuck", "thread", "thread left behind"])
async def test_nothing_is_detached_in_another_context(
    app: AsyncJobs,
    recording: Recording,
    stage: Stage,
    thread_gate: threading.Event,
    caplog: pytest.LogCaptureFixture,
    way: str,
) -> None:
    once = {"retry": False, "timeout": 0.05}
    names = ("sleeps", "stubborn", "thread_gated")
    async with app, Worker(app, stuck_after=0.1, grace=0):
        if way == "late":
            await register(app, tasks.sleeps, **once).enqueue()
        elif way == "stuck":
            await register(app, jobs.stubborn, **once).enqueue("s")
        else:
            thread = register(app, jobs.thread_gated, **(once if way == "thread" else {}))
            await thread.enqueue("t")
            await stage.noted(("started", "t"))
        if way == "thread":
            await until(lambda: "cannot be stopped" in caplog.text)
            thread_gate.set()
        if way != "thread left behind":
            await recording.ended(1)
    (attempt,) = await recording.ended(1)
    # What has swallowed its cancellation, and what still runs in its thread, ends now.
    stage.open_all()
    thread_gate.set()
    await until(lambda: not [task for task in every_task() if task.get_name() in names])
    if "thread" in way:
        await stage.noted(("left", "t"))
    released = way == "thread left behind"
    assert told(attempt)[::2] == (
        ("released", StatusCode.UNSET) if released else ("dead", StatusCode.ERROR)
    )
    assert set(events_of_span(attempt)) == {"shutdown_requested" if released else "timeout"}
    assert "detach" not in caplog.text
    assert "Context" not in caplog.text
