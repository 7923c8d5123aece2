"""Atomic outcomes beside crashes, pauses, deaths and the like: docs/reference/interactions.md."""

from __future__ import annotations

from typing import Any

import pytest

from asyncjobs import INJECTED, AsyncJobs, JobContext, JobFailed, JobFunction, State, Worker
from tests.worker import jobs
from tests.worker.kit import LIMIT_S, Stage, counts, register
from tests.worker.test_interactions import PAST, burst, crash, revive

pytestmark = pytest.mark.anyio


async def child(name: str) -> None:
    jobs.stage.note(f"child of {name}")


async def parent(name: str, *, ctx: JobContext = INJECTED) -> str:
    assert jobs.stage.again is not None
    await ctx.enqueue(jobs.stage.again.bind(name))
    jobs.stage.note(name)
    if name == "dies" and jobs.stage.count(name) == 1:
        raise ValueError(name)
    return name


def parent_in(app: AsyncJobs, stage: Stage, **options: Any) -> JobFunction[..., str]:
    stage.again = register(app, child)
    return register(app, parent, **options)


async def test_one_that_crashes_too_often_stores_nothing(app: AsyncJobs, stage: Stage) -> None:
    job = parent_in(app, stage)
    async with app:
        handle = await job.enqueue("a")
        for _ in range(app.settings.max_crashes):
            await crash(app, 1)
        await burst(app)
        with pytest.raises(JobFailed, match="crashed"):
            await handle.result(LIMIT_S)
        assert sum((await counts(app)).ready) == 0
    assert stage.notes == []


async def test_a_job_of_a_success_may_expire(app: AsyncJobs, stage: Stage) -> None:
    job = parent_in(app, stage)
    assert stage.again is not None
    stage.again = stage.again.options(id="late", expires=PAST)
    async with app:
        await job.enqueue("a")
        await burst(app)
        assert await app.handle("late", "default").status() is State.DISCARDED
    assert stage.notes == ["a"]


async def test_a_dead_job_that_runs_again_stores_them_once(app: AsyncJobs, stage: Stage) -> None:
    job = parent_in(app, stage, retry=False)
    async with app:
        handle = await job.enqueue("dies")
        await burst(app)
        assert await handle.status() is State.DEAD
        assert stage.count("child of dies") == 0
        await revive(app)
        await burst(app)
        assert await handle.result(LIMIT_S) == "dies"
    assert stage.count("child of dies") == 1


async def test_a_paused_queue_keeps_the_jobs_of_a_success(app: AsyncJobs, stage: Stage) -> None:
    job = parent_in(app, stage)
    assert stage.again is not None
    stage.again = stage.again.options(queue="paused")
    async with app:
        await app.queues.pause("paused")
        await job.enqueue("a")
        await burst(app)
        await Worker(app, queues=["paused"]).run(burst=True)
        assert stage.notes == ["a"]
        assert sum((await counts(app, "paused")).ready) == 1
        await app.queues.resume("paused")
        await Worker(app, queues=["paused"]).run(burst=True)
    assert stage.notes == ["a", "child of a"]


async def test_a_job_of_a_schedule_stores_them_too(app: AsyncJobs, stage: Stage) -> None:
    job = parent_in(app, stage)
    async with app:
        await app.schedules.put("yearly", job.bind("a"), cron="@yearly")
        await app.schedules.trigger("yearly")
        await burst(app)
    assert stage.notes == ["a", "child of a"]
