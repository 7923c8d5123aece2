"""Steps that fail or are one too many, and what other parts of a job make of a suspension."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from asyncjobs import (
    INJECTED,
    AsyncJobs,
    Depends,
    JobAttempt,
    JobContext,
    JobFailed,
    RetryPolicy,
    constant,
)
from asyncjobs.events import JobSuspended
from asyncjobs.jobs import notebook
from asyncjobs.jobs.middleware import CallNext
from tests.worker import jobs
from tests.worker.kit import LIMIT_S, Stage, events_of, register, until, working

pytestmark = pytest.mark.anyio
AT_ONCE = RetryPolicy(max_attempts=2, backoff=constant(0))


async def broken() -> None:
    jobs.stage.note("broken")
    raise jobs.Broken("no")


async def passes_a_broken_step(*, ctx: JobContext = INJECTED) -> None:
    with contextlib.suppress(jobs.Broken):
        await ctx.step("optional", broken)
    async for _ in ctx.step("alone", isolated=True):
        jobs.stage.note("alone")


async def test_a_step_that_always_fails_does_not_hold_up_an_isolated_one(
    app: AsyncJobs, stage: Stage
) -> None:
    suspended = events_of(app, JobSuspended)
    job = register(app, passes_a_broken_step, retry=False)
    async with working(app):
        await (await job.enqueue()).result(LIMIT_S)
    assert stage.notes == ["broken", "alone"]
    assert not suspended


async def passes_a_broken_isolated_step(*, ctx: JobContext = INJECTED) -> None:
    with contextlib.suppress(jobs.Broken):
        async for _ in ctx.step("alone", isolated=True):
            await broken()
    async for _ in ctx.step("after"):
        jobs.stage.note("after")


async def test_an_isolated_step_that_always_fails_does_not_hold_up_the_next(
    app: AsyncJobs, stage: Stage
) -> None:
    job = register(app, passes_a_broken_isolated_step, retry=False)
    async with working(app):
        await (await job.enqueue()).result(LIMIT_S)
    assert stage.notes == ["broken", "after"]


async def charge(number: int) -> None:
    jobs.stage.note(number)


async def charges(*, ctx: JobContext = INJECTED) -> None:
    for number in range(3):
        await ctx.step(f"charge {number}", charge, number)


async def test_a_step_too_many_does_not_run(
    app: AsyncJobs, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notebook, "MOST_NOTES", 2)
    job = register(app, charges, retry=AT_ONCE)
    async with working(app):
        with pytest.raises(JobFailed, match="'charge 2' would be note 3"):
            await (await job.enqueue()).result(LIMIT_S)
    # Its effect would come again in each attempt, for the store cannot know it.
    assert stage.notes == [0, 1]


async def get_session() -> AsyncIterator[str]:
    jobs.stage.note("begin")
    try:
        yield "session"
    except BaseException as error:
        jobs.stage.note(f"rollback for {type(error).__name__}")
        raise
    jobs.stage.note("commit")


async def sleeps_with_a_session(
    *, session: str = Depends(get_session), ctx: JobContext = INJECTED
) -> str:
    await ctx.step("charge", charge, 1)
    await ctx.sleep(1.2)
    return session


async def test_a_sleep_ends_dependencies_and_passes_what_is_around(
    app: AsyncJobs, stage: Stage
) -> None:
    suspended = events_of(app, JobSuspended)
    job = register(app, sleeps_with_a_session, retry=False, max_running=1)

    @job.on_error(Exception)
    async def answer(attempt: JobAttempt, error: Exception) -> str:
        return "answered"

    @job.middleware
    async def around(attempt: JobAttempt, call_next: CallNext) -> Any:
        try:
            return await call_next()
        finally:
            stage.note("left")

    async with working(app):
        first = await job.enqueue()
        await until(lambda: bool(suspended))
        # The bound counts those that run: one that sleeps has given its turn away.
        second = await job.enqueue()
        await until(lambda: len(suspended) == 2)
        assert await first.result(LIMIT_S) == "session"
        assert await second.result(LIMIT_S) == "session"
    assert stage.notes[:4] == ["begin", 1, "rollback for Suspend", "left"]
    assert stage.count(1) == 2
    assert stage.count("commit") == 2
    assert not stage.count("rollback for CancelledError")
