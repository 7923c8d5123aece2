"""Jobs that give their slot away and come back, what they note, and how they learn of a stop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import pytest

from asyncjobs import INJECTED, AsyncJobs, JobContext, JobFailed, State, Worker, current_job
from asyncjobs.errors import StoreUnavailable
from asyncjobs.events import JobLost, JobSnoozed, JobSuspended
from asyncjobs.jobs.suspend import Suspend
from asyncjobs.model.notes import Note
from tests.worker import jobs
from tests.worker.kit import LIMIT_S, Stage, events_of, processor_of, register, until, working

pytestmark = pytest.mark.anyio


async def comes_back(times: int, *, ctx: JobContext = INJECTED) -> int:
    """Counts its visits in a note, and gives its slot away until it has made this many."""
    visits = int((await ctx.seat.read()).get("visits", b"0")) + 1
    await ctx.seat.write({"visits": str(visits).encode()})
    jobs.stage.note((visits, ctx.attempt))
    if visits < times:
        ctx.interrupt()
    return visits


async def test_it_spends_no_attempt_and_has_its_notes_again(app: AsyncJobs, stage: Stage) -> None:
    suspended, snoozed = events_of(app, JobSuspended), events_of(app, JobSnoozed)
    job = register(app, comes_back, retry=False)
    async with working(app):
        assert await (await job.enqueue(4)).result(LIMIT_S) == 4
    assert stage.notes == [(1, 1), (2, 1), (3, 1), (4, 1)]
    assert [(event.attempt, event.delay_s, event.reason) for event in suspended] == [
        (1, 0, "interrupted")
    ] * 3
    assert not snoozed


async def waits_in_a_group(fails: bool) -> None:
    jobs.stage.note("visit")

    async def waits() -> None:
        raise Suspend(60, "sleep")

    async def broken() -> None:
        try:
            await asyncio.sleep(LIMIT_S)
        finally:
            raise jobs.Broken("no")

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(waits())
        if fails:
            tasks.create_task(broken())
        await asyncio.sleep(LIMIT_S)


async def test_a_task_of_the_job_may_give_its_slot_away(app: AsyncJobs, stage: Stage) -> None:
    suspended = events_of(app, JobSuspended)
    job = register(app, waits_in_a_group, retry=False)
    async with working(app):
        handle = await job.enqueue(False)
        await until(lambda: bool(suspended))
        assert suspended[0].delay_s == 60
        while await handle.status() is not State.SCHEDULED:
            await asyncio.sleep(0.005)


async def test_an_error_beside_it_is_not_lost(app: AsyncJobs) -> None:
    job = register(app, waits_in_a_group, retry=False)
    async with working(app):
        with pytest.raises(JobFailed, match="no"):
            await (await job.enqueue(True)).result(LIMIT_S)


async def swallows_errors() -> str:
    try:
        raise Suspend(3600, "sleep")
    except Exception:
        return "swallowed"


async def test_except_exception_does_not_keep_it(app: AsyncJobs) -> None:
    suspended = events_of(app, JobSuspended)
    job = register(app, swallows_errors)
    async with working(app):
        await job.enqueue()
        await until(lambda: bool(suspended))


async def notes_once() -> str:
    await current_job().seat.write({"a": b"1"})
    return "kept"


async def test_a_store_that_is_away_is_waited_for(
    app: AsyncJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = register(app, notes_once, retry=False)
    async with working(app) as worker:
        lease: Any = processor_of(worker).session.lease
        fails = [StoreUnavailable("away"), StoreUnavailable("away")]
        write = type(lease).note

        async def note(self: Any, notes: Sequence[Note]) -> list[bool]:
            if fails:
                raise fails.pop()
            kept: list[bool] = await write(self, notes)
            return kept

        monkeypatch.setattr(type(lease), "note", note)
        assert await (await job.enqueue()).result(LIMIT_S) == "kept"
        assert not fails


async def notes_and_is_stopped() -> None:
    try:
        await current_job().seat.write({"a": b"1"})
    except asyncio.CancelledError:
        jobs.stage.note("stopped")
        await asyncio.sleep(0)
        jobs.stage.note("tidied")
        raise
    jobs.stage.note("went on")


async def test_an_attempt_whose_note_is_refused_has_lost_its_job(
    app: AsyncJobs, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = events_of(app, JobLost)
    job = register(app, notes_and_is_stopped)
    async with working(app, grace=0) as worker:
        lease: Any = processor_of(worker).session.lease

        async def note(self: Any, notes: Sequence[Note]) -> list[bool]:
            return [False] * len(notes)

        monkeypatch.setattr(type(lease), "note", note)
        handle = await job.enqueue()
        await until(lambda: bool(lost))
        assert lost[0].ref == handle.ref
    # It was stopped once: its clean-up is not disturbed by a second cancellation.
    assert stage.notes == ["stopped", "tidied"]


async def waits_for_a_stop(*, ctx: JobContext = INJECTED) -> str:
    assert ctx.should_stop is None
    jobs.stage.note("runs")
    return await ctx.stopping()


async def test_a_stop_is_told_before_the_grace(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, waits_for_a_stop)
    async with app:
        worker = Worker(app, grace=LIMIT_S)
        run = asyncio.create_task(worker.run())
        handle = await job.enqueue()
        await stage.noted("runs")
        worker.stop()
        report = await run
        assert report.released == 0
        assert await handle.result(LIMIT_S) == "shutdown"


def asks_in_a_thread(*, ctx: JobContext = INJECTED) -> str:
    jobs.stage.note("runs")
    end_s = time.monotonic() + LIMIT_S
    while (reason := ctx.should_stop) is None and time.monotonic() < end_s:
        time.sleep(0.005)
    return str(reason)


async def test_a_thread_can_ask_too(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, asks_in_a_thread)
    async with app:
        worker = Worker(app, grace=LIMIT_S)
        run = asyncio.create_task(worker.run())
        stops = await job.enqueue()
        await stage.noted("runs")
        worker.stop()
        await run
        assert await stops.result(LIMIT_S) == "shutdown"


async def test_a_thread_learns_of_its_time_out(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, asks_in_a_thread, timeout=0.05, retry=False)
    async with working(app):
        with pytest.raises(JobFailed, match="longer than"):
            await (await job.enqueue()).result(LIMIT_S)


async def watches_from_a_task(*, ctx: JobContext = INJECTED) -> None:
    async def watch() -> None:
        jobs.stage.note(await ctx.stopping())

    watching = asyncio.create_task(watch())
    try:
        await asyncio.sleep(LIMIT_S)
    finally:
        await watching


async def test_who_waits_for_a_stop_hears_of_a_cancel(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, watches_from_a_task, retry=False, timeout=0.05)
    async with working(app):
        with pytest.raises(JobFailed):
            await (await job.enqueue()).result(LIMIT_S)
    assert stage.notes == ["timeout"]


async def test_a_plain_call_has_its_notes_in_memory(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, notes_once)
    assert await job() == "kept"
    context = JobContext.local("f")
    await context.seat.write({"a": b"1"})
    await context.seat.write({"b": b"2"})
    assert await context.seat.read() == {"a": b"1", "b": b"2"}
    assert context.should_stop is None
