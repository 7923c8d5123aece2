"""A job that awaits another one: warned of once, and no reason for a worker to stay."""

from __future__ import annotations

import asyncio
import logging

import anyio
import pytest

from asyncjobs import AsyncJobs, JobFunction, State, Worker
from asyncjobs.events import JobReleased, WorkerQuiet
from asyncjobs.worker.engine import result_waits
from tests.worker import jobs
from tests.worker.kit import LIMIT_S, Stage, events_of, register, until

pytestmark = pytest.mark.anyio

ENDLESS_S = 600
"""A grace that no test may wait for."""


class Family:
    """Parents, which wait for the job `child`, registered with one app."""

    app: AsyncJobs


async def parent() -> object:
    jobs.stage.note("waits")
    return await Family.app.handle("child", queue="default").result()


async def parent_in_group() -> object:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(parent())
    return task.result()


async def parent_by_plain_call() -> object:
    found = Family.app.registry.find("parent")
    assert found is not None
    return await found()


def parent_in_thread() -> object:
    jobs.stage.note("waits")
    return Family.app.handle("child", queue="default").result_sync()


async def child(number: int) -> int:
    jobs.stage.note("child")
    await jobs.stage.gate("child").wait()
    return number


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows with each look at the jobs that are waited for."""
    counted: list[int] = []
    look = result_waits.ResultWaits._look

    async def count(self: result_waits.ResultWaits) -> None:
        await look(self)
        counted.append(1)

    monkeypatch.setattr(result_waits.ResultWaits, "_look", count)
    monkeypatch.setattr(result_waits, "LOOK_S", 0.01)
    return counted


@pytest.fixture
def family(app: AsyncJobs, stage: Stage) -> AsyncJobs:
    Family.app = app
    for function in (parent, parent_in_group, parent_by_plain_call, parent_in_thread, child):
        register(app, function, timeout=None)
    return app


def job(app: AsyncJobs, function: object) -> JobFunction[..., object]:
    found = app.registry.find(function.__name__)  # type: ignore[attr-defined]
    assert found is not None
    return found


PARENTS = [parent, parent_in_group, parent_by_plain_call, parent_in_thread]


@pytest.mark.parametrize("function", PARENTS)
async def test_one_that_waits_in_vain_does_not_hold_a_stop(
    family: AsyncJobs, stage: Stage, function: object
) -> None:
    released = events_of(family, JobReleased)
    async with family:
        with anyio.fail_after(2 * LIMIT_S):
            async with Worker(family, concurrency=1, grace=ENDLESS_S) as worker:
                await job(family, child).options(id="child", delay=ENDLESS_S).enqueue(1)
                waits = await job(family, function).options(id="parent").enqueue()
                await stage.noted("waits")
                worker.stop()
        assert await waits.status() is State.READY
        assert (await waits.info()).attempt == 1
        assert await family.handle("child", queue="default").status() is State.SCHEDULED
        assert [event.ref for event in released] == [waits.ref]
        assert stage.count("child") == 0


@pytest.mark.parametrize("function", PARENTS)
async def test_one_whose_job_is_running_may_finish(
    family: AsyncJobs, stage: Stage, looks: list[int], function: object
) -> None:
    async with family:
        with anyio.fail_after(2 * LIMIT_S):
            async with Worker(family, grace=ENDLESS_S) as worker:
                await job(family, child).options(id="child").enqueue(7)
                await stage.noted("child")
                waits = await job(family, function).enqueue()
                await stage.noted("waits")
                worker.stop()
                await until(lambda: len(looks) >= 3)
                stage.open("child")
        assert await waits.result(LIMIT_S) == 7


async def test_one_that_waits_when_no_more_jobs_may_be_taken(
    family: AsyncJobs, stage: Stage
) -> None:
    async with family:
        await job(family, child).options(id="child", delay=ENDLESS_S).enqueue(1)
        waits = await job(family, parent).enqueue()
        worker = Worker(family, grace=ENDLESS_S)
        with anyio.fail_after(2 * LIMIT_S):
            async with asyncio.TaskGroup() as group:
                running = group.create_task(worker.run(max_jobs=1))
        assert (running.result().taken, running.result().released) == (1, 1)
        assert await waits.status() is State.READY


async def test_a_warning_with_the_way_out_once(
    family: AsyncJobs, stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "asyncjobs.worker"):
        async with family, Worker(family):
            await job(family, child).options(id="child").enqueue(3)
            stage.open("child")
            for _ in range(3):
                handle = await job(family, parent).enqueue()
                assert await handle.result(LIMIT_S) == 3
    told = [r for r in caplog.records if "waits for the result of" in r.getMessage()]
    assert len(told) == 1
    assert "default/child, which this worker serves too" in told[0].getMessage()
    assert "raise Snooze and look at handle.status()" in told[0].getMessage()


async def wait_elsewhere() -> object:
    jobs.stage.note("waits")
    return await Family.app.handle("child", queue="elsewhere").result()


async def test_no_warning_of_jobs_that_others_run(
    family: AsyncJobs, stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    waits_elsewhere = register(family, wait_elsewhere)
    with caplog.at_level(logging.WARNING, "asyncjobs.worker"):
        async with (
            family,
            Worker(family, queues=["default"]),
            Worker(family, queues=["elsewhere"]),
        ):
            await job(family, child).options(id="child", queue="elsewhere").enqueue(4)
            stage.open("child")
            assert await (await waits_elsewhere.enqueue()).result(LIMIT_S) == 4
    assert "waits for the result of" not in caplog.text


async def test_who_waits_outside_of_jobs_is_not_the_workers_business(
    family: AsyncJobs, stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    quiet = events_of(family, WorkerQuiet)
    async with family:
        async with Worker(family, grace=0.1):
            handle = await job(family, child).options(id="child").enqueue(5)
            await stage.noted("child")
            outside = asyncio.create_task(handle.result())
        assert len(quiet) == 1
        assert not outside.done()
        stage.open("child")
        async with Worker(family):
            assert await outside == 5
    assert "waits for the result of" not in caplog.text
