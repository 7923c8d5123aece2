"""What a job raises after its worker has told it to stop is a release, and spends nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from asyncjobs import INJECTED, AsyncJobs, Discard, JobContext, Retry, Snooze, State, Worker
from asyncjobs.events import JobDead, JobReleased, JobRetryScheduled
from tests.worker import jobs
from tests.worker.kit import LIMIT_S, Stage, counts, events_of, register

pytestmark = pytest.mark.anyio

ERRORS: dict[str, Callable[[], BaseException]] = {
    "error": lambda: ConnectionError("planted"),
    "exit": lambda: SystemExit(3),
    "interrupt": KeyboardInterrupt,
    "group": lambda: ExceptionGroup("planted", [OSError(), ValueError()]),
    "mixed group": lambda: BaseExceptionGroup("planted", [asyncio.CancelledError(), OSError()]),
    "discard": lambda: Discard("planted"),
    "retry": lambda: Retry("planted"),
    "snooze": lambda: Snooze(3600),
}


async def waits(kind: str) -> None:
    jobs.stage.note("started")
    try:
        await jobs.stage.gate("g").wait()
    finally:
        if not jobs.stage.gate("g").is_set():
            error = ERRORS[kind]()
            raise error


async def plain(kind: str, *, ctx: JobContext = INJECTED) -> int:
    await waits(kind)
    return ctx.attempt


async def from_except(kind: str, *, ctx: JobContext = INJECTED) -> int:
    with contextlib.suppress(asyncio.CancelledError):
        jobs.stage.note("started")
        await jobs.stage.gate("g").wait()
        return ctx.attempt
    error = ERRORS[kind]()
    raise error


async def in_gather(kind: str, *, ctx: JobContext = INJECTED) -> int:
    await asyncio.gather(waits(kind), jobs.stage.gate("g").wait())
    return ctx.attempt


async def in_task_group(kind: str, *, ctx: JobContext = INJECTED) -> int:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(waits(kind))
        tasks.create_task(waits(kind))
    return ctx.attempt


SHAPES: dict[str, Callable[..., Any]] = {
    "plain": plain,
    "except": from_except,
    "gather": in_gather,
    "task group": in_task_group,
}
# An exit of a sub-task ends the loop of asyncio itself, so those two stay out of sub-tasks.
CASES = [
    (shape, kind)
    for shape in SHAPES
    for kind in ERRORS
    if shape in ("plain", "except") or kind not in ("exit", "interrupt")
]


@pytest.mark.parametrize(("shape", "kind_of_error"), CASES)
async def test_a_failed_clean_up_spends_nothing(
    app: AsyncJobs,
    stage: Stage,
    caplog: pytest.LogCaptureFixture,
    shape: str,
    kind_of_error: str,
) -> None:
    job = register(app, SHAPES[shape], retry=False)
    released, dead = events_of(app, JobReleased), events_of(app, JobDead)
    retried = events_of(app, JobRetryScheduled)
    async with app:
        worker = Worker(app, grace=0)
        run = asyncio.create_task(worker.run())
        handle = await job.enqueue(kind_of_error)
        await stage.noted("started")
        worker.stop()
        report = await run
        assert report.released == 1
        assert (len(released), len(dead), len(retried)) == (1, 0, 0)
        assert await handle.status() is State.READY
        assert (await counts(app)).ready[2] == 1
        # Only what a job says on purpose is no failed clean-up.
        is_told = "its clean-up failed" in caplog.text
        assert is_told == (kind_of_error not in ("discard", "retry", "snooze"))
        stage.open("g")
        async with Worker(app):
            assert await handle.result(LIMIT_S) == 1


@pytest.mark.parametrize("shape", ["plain", "gather", "task group"])
async def test_a_failed_clean_up_of_a_cancelled_job_is_logged(
    app: AsyncJobs, stage: Stage, caplog: pytest.LogCaptureFixture, shape: str
) -> None:
    job = register(app, SHAPES[shape], retry=False)
    dead = events_of(app, JobDead)
    async with app, Worker(app):
        handle = await job.enqueue("error")
        await stage.noted("started")
        await handle.cancel()
        await asyncio.wait_for(asyncio.shield(_until_cancelled(handle)), LIMIT_S)
    assert "cancelled while running; its clean-up failed: " in caplog.text
    assert dead == []


async def _until_cancelled(handle: Any) -> None:
    while await handle.status() is not State.CANCELLED:
        await asyncio.sleep(0.01)
