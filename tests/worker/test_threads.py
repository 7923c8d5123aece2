"""Sync job functions in threads."""

from __future__ import annotations

import asyncio
import logging
import threading

import pytest

from asyncjobs import AsyncJobs, JobCancelled, JobFailed, RetryPolicy, Worker, constant
from tests.worker import jobs
from tests.worker.kit import LIMIT_S, Stage, counts, eventually, register, until, working

pytestmark = pytest.mark.anyio
AT_ONCE = RetryPolicy(max_attempts=5, backoff=constant(0))


async def test_a_sync_function_runs_in_a_thread_and_knows_its_job(app: AsyncJobs) -> None:
    job = register(app, jobs.in_thread)
    async with working(app):
        handle = await job.enqueue(7)
        told = await handle.result(LIMIT_S)
    assert told["value"] == 7
    assert told["id"] == handle.id
    assert told["thread"] != threading.current_thread().name


async def test_an_error_in_a_thread_is_a_failed_attempt(app: AsyncJobs) -> None:
    job = register(app, jobs.thread_fails, retry=AT_ONCE)
    async with working(app):
        assert await (await job.enqueue(2)).result(LIMIT_S) == 3
        with pytest.raises(JobFailed) as caught:
            await (await job.enqueue(99)).result(LIMIT_S)
    assert "in thread_fails" in caught.value.remote_traceback


@pytest.mark.parametrize("exit_kind", ["exit", "interrupt", "stop"])
async def test_odd_exceptions_in_a_thread_end_only_the_attempt(
    app: AsyncJobs, exit_kind: str
) -> None:
    job = register(app, jobs.thread_exits, retry=AT_ONCE)
    async with working(app, concurrency=1):
        assert await (await job.enqueue(exit_kind)).result(LIMIT_S) == 2


async def test_a_late_thread_keeps_its_slot_and_is_reported(
    app: AsyncJobs, stage: Stage, thread_gate: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    job = register(app, jobs.thread_gated, timeout=0.02, retry=False)
    echo = register(app, jobs.echo)
    async with working(app, concurrency=1):
        handle = await job.enqueue("t")
        await stage.noted(("started", "t"))
        await until(lambda: "cannot be stopped" in caplog.text)
        behind = await echo.enqueue("behind")
        assert (await counts(app)).running == 1
        assert ("left", "t") not in stage.notes
        thread_gate.set()
        # It returned in the end, but too late.
        with pytest.raises(JobFailed, match="longer than its"):
            await handle.result(LIMIT_S)
        assert await behind.result(LIMIT_S) == "behind"


async def test_a_cancelled_thread_ends_as_cancelled(
    app: AsyncJobs, stage: Stage, thread_gate: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    job = register(app, jobs.thread_gated)
    async with working(app, lease=1):
        handle = await job.enqueue("t")
        await stage.noted(("started", "t"))
        assert await handle.cancel()
        await until(lambda: "cannot be stopped" in caplog.text)
        thread_gate.set()
        with pytest.raises(JobCancelled):
            await handle.result(LIMIT_S)


async def test_a_job_that_waits_for_a_thread_can_be_cancelled(
    app: AsyncJobs, stage: Stage, thread_gate: threading.Event
) -> None:
    job = register(app, jobs.thread_gated)
    register(app, jobs.echo)  # a queue with async functions too is taken from beyond the threads
    async with app, Worker(app, threads=1, lease=1, grace=2) as worker:
        first = await job.enqueue("t")
        await stage.noted(("started", "t"))
        second = await job.enqueue("never begins")
        await until(lambda: worker.running == 2)
        assert await second.cancel()
        with pytest.raises(JobCancelled):
            await second.result(LIMIT_S)
        thread_gate.set()
        await first.result(LIMIT_S)
    assert ("started", "never begins") not in stage.notes


async def test_the_time_out_does_not_count_the_wait_for_a_thread(
    app: AsyncJobs, stage: Stage, thread_gate: threading.Event
) -> None:
    job, quick = register(app, jobs.thread_gated), register(app, jobs.in_thread, timeout=0.05)
    register(app, jobs.echo)
    async with app, Worker(app, threads=1, grace=2) as worker:
        first = await job.enqueue("t")
        await stage.noted(("started", "t"))
        second = await quick.options(retry=False).enqueue(2)
        await until(lambda: worker.running == 2)
        await asyncio.sleep(0.1)  # longer than its time-out
        thread_gate.set()
        assert (await second.result(LIMIT_S))["value"] == 2
        await first.result(LIMIT_S)


async def test_what_would_wait_for_a_thread_is_left_to_others(
    app: AsyncJobs, stage: Stage, thread_gate: threading.Event
) -> None:
    job = register(app, jobs.thread_gated)
    async with app, Worker(app, threads=3, concurrency=20, grace=2):
        handles = [await job.enqueue("t") for _ in range(8)]
        await stage.noted(("started", "t"), 3)
        async with Worker(app, threads=4, concurrency=20, grace=2):
            await stage.noted(("started", "t"), 7)
            assert stage.count(("started", "t")) == 7
            thread_gate.set()
            for handle in handles:
                await handle.result(LIMIT_S)


async def test_a_thread_left_behind_at_shutdown_is_counted(
    app: AsyncJobs, stage: Stage, thread_gate: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "asyncjobs.worker")
    job = register(app, jobs.thread_gated)
    async with app:
        worker = Worker(app, grace=0)
        async with worker:
            handle = await job.enqueue("t")
            await stage.noted(("started", "t"))
        # Given back although its thread runs on: the rerun may overlap with it.
        assert (await counts(app)).ready[2] == 1
        thread_gate.set()
        async with Worker(app):
            assert await handle.result(LIMIT_S) == 1
    assert stage.count(("started", "t")) == 2


async def test_progress_from_a_thread(
    app: AsyncJobs, stage: Stage, thread_gate: threading.Event
) -> None:
    job = register(app, jobs.thread_reports)
    async with working(app):
        handle = await job.enqueue("t")
        await stage.noted(("reported", "t"))

        async def is_reported() -> bool:
            progress = (await handle.info()).progress
            return progress is not None and progress.note == "from a thread"

        await eventually(is_reported)
        thread_gate.set()
        await handle.result(LIMIT_S)


async def test_a_thread_left_behind_is_counted(
    app: AsyncJobs, stage: Stage, thread_gate: threading.Event
) -> None:
    job = register(app, jobs.thread_gated)
    async with app:
        await job.enqueue("t")
        worker = Worker(app, grace=0)
        run = asyncio.create_task(worker.run())
        await stage.noted(("started", "t"))
        worker.stop()
        report = await run
        assert (report.released, report.threads_left) == (1, 1)
        thread_gate.set()
