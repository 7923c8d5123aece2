"""Middleware of users around attempts, on each store: what it may do, and what it cannot."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asyncjobs import (
    INJECTED,
    Abort,
    AsyncJobs,
    CallNext,
    JobAttempt,
    JobContext,
    JobDiscarded,
    RetryPolicy,
    State,
    constant,
)
from tests.worker import jobs
from tests.worker.kit import LIMIT_S, Stage, ended, register, working

pytestmark = pytest.mark.anyio

seen: list[Any] = []


@pytest.fixture(autouse=True)
def _nothing_seen() -> None:
    seen.clear()


async def hello(name: str, *, ctx: JobContext = INJECTED) -> str:
    return f"hello {name}"


def hello_in_thread(name: str) -> str:
    return f"hello {name}"


EACH = pytest.mark.parametrize("function", [hello, hello_in_thread])


@EACH
async def test_it_sees_the_call_and_may_change_how_it_ends(app: AsyncJobs, function: Any) -> None:
    job, other = register(app, function), register(app, jobs.echo)

    @job.middleware
    async def shouts(attempt: JobAttempt, call_next: CallNext) -> Any:
        seen.append((attempt.ref, attempt.name, attempt.number, attempt.args, {**attempt.kwargs}))
        assert attempt.context.id == attempt.ref.id
        return str(await call_next()).upper()

    async with working(app):
        handle = await job.enqueue(name="you")
        assert await handle.result(LIMIT_S) == "HELLO YOU"
        # Another job function does not pass it.
        assert await (await other.enqueue("x")).result(LIMIT_S) == "x"
    assert seen == [(handle.ref, function.__name__, 1, (), {"name": "you"})]


@EACH
async def test_each_attempt_passes_app_registry_and_function(app: AsyncJobs, function: Any) -> None:
    job = register(app, function, retry=RetryPolicy(2, constant(0)))

    @app.middleware
    async def outermost(attempt: JobAttempt, call_next: CallNext) -> Any:
        seen.append(("app", attempt.number))
        return await call_next()

    @job.middleware
    async def innermost(attempt: JobAttempt, call_next: CallNext) -> Any:
        seen.append(("function", attempt.number))
        if attempt.number == 1:
            raise LookupError("from a middleware")
        return await call_next()

    async with working(app):
        assert await (await job.enqueue("you")).result(LIMIT_S) == "hello you"
    assert seen == [("app", 1), ("function", 1), ("app", 2), ("function", 2)]


@EACH
async def test_an_abort_discards_the_job_with_its_reason(app: AsyncJobs, function: Any) -> None:
    job = register(app, function)

    @app.middleware
    async def closed(attempt: JobAttempt, call_next: CallNext) -> Any:
        raise Abort("the shop is closed")

    async with working(app):
        handle = await job.enqueue("you")
        with pytest.raises(JobDiscarded, match="the shop is closed"):
            await handle.result(LIMIT_S)
        assert await handle.status() is State.DISCARDED


async def test_one_that_is_added_while_a_worker_runs_holds_from_the_next_attempt_on(
    app: AsyncJobs,
) -> None:
    job = register(app, hello)

    async def spares(attempt: JobAttempt, call_next: CallNext) -> Any:
        return "spared"

    async with working(app):
        assert await (await job.enqueue("you")).result(LIMIT_S) == "hello you"
        job.middleware(spares)
        assert await (await job.enqueue("you")).result(LIMIT_S) == "spared"


async def test_a_cancel_reaches_one_that_waits(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, hello)

    @job.middleware
    async def waits(attempt: JobAttempt, call_next: CallNext) -> Any:
        stage.note("waits")
        await asyncio.sleep(60)

    async with working(app):
        handle = await job.enqueue("you")
        await stage.noted("waits")
        assert await handle.cancel()
        await ended(app, handle.id, State.CANCELLED)
