"""A deploy in the middle of a step, and jobs that sleep without a slot."""

from __future__ import annotations

from datetime import timedelta

import pytest

from asyncjobs import AsyncJobs, State
from asyncjobs.jobs.steps import Step
from asyncjobs.testing import StageWorker, VirtualClock, drain, interrupt_at, perform
from tests.testing import shop

pytestmark = pytest.mark.anyio


async def test_an_interrupted_step_resumes_at_its_cursor(
    asyncjobs_app: AsyncJobs, ran: list[object]
) -> None:
    handle = await shop.imports.enqueue(5)
    with interrupt_at("rows", 3) as interruption:
        done = await drain()
        assert (done.released, done.attempts) == (1, 1)
        assert interruption.has_happened
        assert ran == [0, 1, 2]
        assert await handle.status() is State.READY
        done = await drain()
    assert (done.succeeded, done.attempts) == (1, 1)
    assert ran == [0, 1, 2, 3, 4]


async def test_a_place_that_no_job_comes_to_fails_the_test(asyncjobs_app: AsyncJobs) -> None:
    advance = Step.advance
    await shop.imports.enqueue(2)
    with (
        pytest.raises(AssertionError, match="no job has advanced the step 'rows' to 3"),
        interrupt_at("rows", 3),
    ):
        await drain()
    assert Step.advance is advance


async def test_an_interruption_comes_once(asyncjobs_app: AsyncJobs, ran: list[object]) -> None:
    await shop.imports.enqueue(4)
    with interrupt_at("rows"):
        assert (await drain()).released == 1
        assert (await drain()).succeeded == 1
    assert ran == [0, 1, 2, 3]


async def test_perform_is_interrupted_too(asyncjobs_app: AsyncJobs, ran: list[object]) -> None:
    with interrupt_at("rows", lambda cursor: cursor >= 2):
        done = await perform(shop.imports, 5)
    assert done.state == "released"
    assert ran == [0, 1]


async def test_perform_tells_the_newest_progress(asyncjobs_app: AsyncJobs) -> None:
    done = await perform(shop.imports, 3)
    assert done.progress is not None
    assert (done.progress.done, done.progress.total, done.progress.note) == (3, 3, "rows")


async def test_a_job_that_sleeps_is_woken_by_the_clock(
    clock: VirtualClock, worker: StageWorker
) -> None:
    asleep = await perform(shop.naps)
    assert (asleep.state, asleep.reason, asleep.delay) == (
        "suspended",
        "sleep",
        timedelta(hours=1),
    )
    handle = await shop.naps.enqueue()
    assert (await worker.drain()).suspended == 1
    assert (await clock.advance(minutes=59)).attempts == 0
    assert (await clock.advance(minutes=1)).succeeded == 1
    assert await handle.result(timeout=0) == "awake"
