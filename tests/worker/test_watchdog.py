"""A job that blocks the event loop, seen from inside its process."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from functools import partial

import pytest

from asyncjobs import INJECTED, AsyncJobs, ConfigError, JobContext, Worker
from asyncjobs.events import LoopBlocked
from asyncjobs.host.pulse import Pulse
from tests.worker import jobs
from tests.worker.kit import LIMIT_S, Stage, events_of, register, until, working

pytestmark = pytest.mark.anyio


def spin(seconds: float) -> None:
    """Block without a call that the guard against blocking calls would see."""
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        pass


async def spinning(seconds: float) -> str:
    spin(seconds)
    return "spun"


async def spinning_later(seconds: float, *, ctx: JobContext = INJECTED) -> None:
    """A callback of the job's, while no task runs."""
    done = asyncio.Event()

    def call() -> None:
        spin(seconds)
        done.set()

    asyncio.get_running_loop().call_soon(call)
    await done.wait()


def have(blocks: list[LoopBlocked], number: int) -> bool:
    return len(blocks) == number


def blocked_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


async def test_a_block_is_told_once_with_job_and_stack(
    app: AsyncJobs, caplog: pytest.LogCaptureFixture
) -> None:
    blocks = events_of(app, LoopBlocked)
    job = register(app, spinning)
    caplog.set_level(logging.INFO, "asyncjobs.worker")
    async with working(app, block_warning=0.1, name="w") as worker:
        handle = await job.enqueue(0.6)
        assert await handle.result(LIMIT_S) == "spun"
        await until(lambda: bool(blocks))
        assert worker.running == 0
    (event,) = blocks
    assert (event.worker, event.ref, event.name) == ("w", handle.ref, "spinning")
    assert event.seconds >= 0.5
    assert "in spin\n" in event.stack
    assert "asyncjobs/worker" not in event.stack
    (line,) = blocked_lines(caplog)
    assert f"by {handle.ref} (spinning)" in line
    assert event.stack in line
    (free,) = [r.getMessage() for r in caplog.records if "is free again" in r.getMessage()]
    assert f"it was blocked by {handle.ref} (spinning)" in free


async def test_each_block_is_told(app: AsyncJobs, caplog: pytest.LogCaptureFixture) -> None:
    blocks = events_of(app, LoopBlocked)
    job = register(app, spinning)
    async with working(app, block_warning=0.1, concurrency=1):
        for number in (1, 2):
            await (await job.enqueue(0.4)).result(LIMIT_S)
            await until(partial(have, blocks, number))
    assert len(blocked_lines(caplog)) == 2


async def test_a_callback_of_a_job_is_the_jobs(app: AsyncJobs) -> None:
    blocks = events_of(app, LoopBlocked)
    job = register(app, spinning_later)
    async with working(app, block_warning=0.1):
        handle = await job.enqueue(0.5)
        # On a busy machine the loop itself may be late before: that is nobody's.
        await until(lambda: any(block.ref is not None for block in blocks))
    assert {block.ref for block in blocks} - {None} == {handle.ref}


async def test_no_job_is_named_for_what_is_no_jobs(
    app: AsyncJobs, stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    blocks = events_of(app, LoopBlocked)
    job = register(app, jobs.gated)
    async with working(app, block_warning=0.1):
        await job.enqueue("g")
        await stage.noted(("started", "g"))
        spin(0.5)
        await until(lambda: bool(blocks))
        stage.open("g")
    assert (blocks[0].ref, blocks[0].name) == (None, "")
    (line,) = blocked_lines(caplog)
    assert "by no job, the loop itself" in line


async def test_a_loop_that_turns_is_not_blocked(
    app: AsyncJobs, caplog: pytest.LogCaptureFixture
) -> None:
    job = register(app, spinning)
    async with working(app, block_warning=2, concurrency=1):
        for handle in [await job.enqueue(0.05) for _ in range(20)]:
            await handle.result(LIMIT_S)
    assert blocked_lines(caplog) == []


async def test_no_thread_is_left_and_none_started_when_all_is_off(app: AsyncJobs) -> None:
    def watching() -> bool:
        return any(thread.name == "asyncjobs-watchdog" for thread in threading.enumerate())

    async with working(app, block_warning=None, hard_limit=None):
        assert not watching()
    async with working(app, block_warning=None):
        assert watching()
    await until(lambda: not watching())


async def test_the_pulse_goes_on_while_the_worker_waits() -> None:
    """Idle or full, the processor sleeps: the lease must be renewed all the same."""
    pulse = Pulse(0.01)
    pulse.start()
    marks = {pulse.mark_s}

    def beat_on() -> bool:
        marks.add(pulse.mark_s)
        return len(marks) > 3

    await until(beat_on)
    pulse.stop()


@pytest.mark.parametrize("field", ["block_warning", "hard_limit", "stuck_after"])
@pytest.mark.parametrize("value", [0, -1, 0.01, "5s", True])
async def test_a_limit_that_cannot_work_is_refused(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=field):
        Worker(AsyncJobs("memory:"), **{field: value})  # type: ignore[arg-type]
