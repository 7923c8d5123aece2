"""A success is the most frequent end: what it is told of, and what for."""

from __future__ import annotations

import asyncio

import pytest

from asyncjobs import AsyncJobs
from asyncjobs.events import JobDead, JobExpired, JobSucceeded
from asyncjobs.model.job import TakenJob
from asyncjobs.model.settlement import Settlement
from asyncjobs.options.app import AppSettings
from asyncjobs.telemetry.tracing import Tracing
from tests.telemetry import tasks
from tests.telemetry.attempts import attempt_info, knows_nothing
from tests.telemetry.recording import Recording
from tests.worker.kit import register, working

pytestmark = pytest.mark.anyio


async def test_a_success_costs_a_tracer_no_event(recording: Recording) -> None:
    app = AsyncJobs("memory:", tracer_provider=recording.provider)
    job = register(app, tasks.looks)
    async with app, working(app):
        wanted = [app.events.wants(kind) for kind in (JobSucceeded, JobExpired, JobDead)]
        await job.enqueue()
        (attempt,) = await recording.ended(1)
    assert wanted == [False, True, True]
    assert (attempt.attributes or {})["asyncjobs.job.outcome"] == "succeeded"


async def test_a_success_is_of_the_attempt_that_runs(recording: Recording) -> None:
    """A job may run a worker of its own, whose untraced jobs are not this attempt."""
    tracing = Tracing(recording.provider, AppSettings.of(), lambda: "", knows_nothing)
    done = Settlement.succeeded(TakenJob("default", "inner", 2, b"1-1", b"", 0, 0))

    async def inner() -> Settlement:
        return done

    async def outer() -> None:
        untraced = attempt_info(tracing="none")
        assert await asyncio.create_task(tracing(untraced, inner)) is done

    await asyncio.create_task(tracing(attempt_info(), outer))
    (attempt,) = recording.attempts()
    assert "asyncjobs.job.outcome" not in (attempt.attributes or {})
