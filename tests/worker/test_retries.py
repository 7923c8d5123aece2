"""Failures of several kinds, each with a budget of its own, and what is kept of them."""

from __future__ import annotations

import asyncio
import logging
from types import FunctionType
from typing import Any

import pytest

from asyncjobs import (
    INJECTED,
    AsyncJobs,
    JobContext,
    JobFailed,
    Retry,
    RetryPolicy,
    State,
    Worker,
    constant,
)
from asyncjobs.model.clock import new_id
from asyncjobs.model.demand import Demand
from asyncjobs.model.envelope import Envelope
from asyncjobs.store.lease import LeaseSpec
from tests.worker import jobs
from tests.worker.jobs import Broken
from tests.worker.kit import LIMIT_S, NewApp, Stage, ended, register, working

pytestmark = pytest.mark.anyio

AT_ONCE = constant(0)


async def follows(plan: list[str], *, ctx: JobContext = INJECTED) -> int:
    """Fails as the plan says for each attempt, then returns the attempt's number."""
    jobs.stage.note(ctx.attempt)
    step = plan[ctx.attempt - 1] if ctx.attempt <= len(plan) else ""
    known: dict[str, Exception] = {
        "key": KeyError("key"),
        "os": OSError("os"),
        "value": ValueError("value"),
        "retry": Retry(delay=0),
        "own": Broken("own"),
        "group": ExceptionGroup("several", [KeyError("key"), OSError("os")]),
    }
    if step == "slow":
        await asyncio.sleep(600)
    if step:
        raise known[step]
    return ctx.attempt


async def fails_at_length(load: str) -> None:
    raise ValueError("\x00" * 100_000)


POLICIES = [RetryPolicy(4, AT_ONCE, on=LookupError), RetryPolicy(3, AT_ONCE, on=(OSError,))]
APP = RetryPolicy(2, AT_ONCE)


@pytest.mark.parametrize(
    "plan",
    [
        ["key", "os", "key", "os", "value", "key"],
        ["value", "os", "key", "key", "os", "key"],
        ["retry", "key", "os", "slow"],
        ["group", "group", "key", "key", "key"],
    ],
)
async def test_each_kind_of_failure_has_its_budget(
    new_app: NewApp, stage: Stage, plan: list[str]
) -> None:
    app = new_app(retry=APP)
    job = register(app, follows, retry=POLICIES, timeout=0.1 if "slow" in plan else 60)
    async with working(app):
        assert await (await job.enqueue(plan)).result(LIMIT_S) == len(plan) + 1
    assert stage.notes == list(range(1, len(plan) + 2))


@pytest.mark.parametrize(
    ("plan", "error"),
    [
        (["key", "key", "key", "os", "key"], "KeyError"),
        (["key", "os", "key", "os", "os"], "OSError"),
        (["key", "os", "slow", "key", "slow"], "TimeoutError"),
        (["value", "key", "own"], "tests.worker.jobs.Broken"),
        (["value", "os", "retry"], "asyncjobs.errors.Retry"),
        (["group", "key", "group", "group"], "ExceptionGroup"),
    ],
)
async def test_a_budget_that_is_used_up_ends_the_job(
    new_app: NewApp, stage: Stage, plan: list[str], error: str
) -> None:
    app = new_app(retry=APP)
    job = register(app, follows, retry=POLICIES, timeout=0.1 if "slow" in plan else 60)
    async with working(app):
        handle = await job.enqueue(plan)
        with pytest.raises(JobFailed, match="exhausted") as caught:
            await handle.result(LIMIT_S)
        info = await handle.info()
    assert caught.value.error_type == error
    assert stage.notes == list(range(1, len(plan) + 1))
    assert (info.attempt, info.max_attempts) == (len(plan), 1 + 3 + 2 + 1)


async def test_a_narrower_class_is_asked_first(app: AsyncJobs, stage: Stage) -> None:
    narrow, wide = RetryPolicy(2, AT_ONCE, on=KeyError), RetryPolicy(3, AT_ONCE, on=LookupError)
    job = register(app, follows, retry=[narrow, wide, RetryPolicy(1)])
    async with working(app):
        with pytest.raises(JobFailed):
            await (await job.enqueue(["key"] * 5)).result(LIMIT_S)
    assert stage.notes == [1, 2]


async def test_the_order_of_the_policies_may_change_while_a_job_waits(
    app: AsyncJobs, stage: Stage
) -> None:
    policies = [RetryPolicy(3, AT_ONCE, on=KeyError), RetryPolicy(3, AT_ONCE, on=OSError)]
    async with app:
        handle = await register(app, follows, retry=policies).enqueue(["key"] * 6)
        await Worker(app).run(max_jobs=2)
        assert stage.notes == [1, 2]
        # What a deploy does: the same definition again, its list the other way round.
        again = FunctionType(follows.__code__, follows.__globals__, "follows")
        again.__kwdefaults__ = follows.__kwdefaults__
        register(app, again, retry=policies[::-1])
        async with Worker(app):
            with pytest.raises(JobFailed, match="exhausted"):
                await handle.result(LIMIT_S)
    assert stage.notes == [1, 2, 3]


async def test_a_crash_spends_nothing(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, follows, retry=[RetryPolicy(2, AT_ONCE, on=KeyError), RetryPolicy(1)])
    async with app:
        handle = await job.enqueue(["key", "key", "key"])
        await Worker(app, lease=1).run(max_jobs=1)
        dead = await app.backend.lease(LeaseSpec(new_id(), "dead", ("default",), 300))
        taken = await dead.exchange(1, [], {"default": Demand(1)})
        assert [Envelope.decode(held.envelope).attempt for held in taken.jobs] == [2]
        async with Worker(app, lease=1):
            with pytest.raises(JobFailed, match="exhausted"):
                await handle.result(LIMIT_S)
        info = await handle.info()
    assert stage.notes == [1, 2]
    assert [error.attempt for error in info.errors] == [1, 2]


async def test_one_enqueue_counts_all_failures_together(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, follows, retry=[*POLICIES, RetryPolicy(1)])
    async with working(app):
        handle = await job.options(retry=6).enqueue(["os", "os", "os", "os", "key"])
        assert await handle.result(LIMIT_S) == 6
        with pytest.raises(JobFailed):
            await (await job.options(retry=2).enqueue(["os", "key", "os"])).result(LIMIT_S)
    assert stage.notes == [1, 2, 3, 4, 5, 6, 1, 2]


async def test_the_last_errors_stay_with_the_job(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, follows, retry=[RetryPolicy(9, AT_ONCE)])
    plan = ["key", "os", "value", "own", "group", "key", "os", "key", "value"]
    async with working(app, name="worker-7"):
        handle = await job.enqueue(plan)
        with pytest.raises(JobFailed):
            await handle.result(LIMIT_S)
        info = await handle.info()
    # The five before the last one, and the last one.
    assert [error.attempt for error in info.errors] == [4, 5, 6, 7, 8, 9]
    assert [error.type.rpartition(".")[2] for error in info.errors] == [
        "Broken",
        "ExceptionGroup",
        "KeyError",
        "OSError",
        "KeyError",
        "ValueError",
    ]
    assert info.errors[-1] == info.error
    assert {error.worker for error in info.errors} == {"worker-7"}
    times = [error.at for error in info.errors]
    assert None not in times
    assert times == sorted(times, key=str)
    assert all("in follows" in error.traceback for error in info.errors)


async def test_a_job_that_waits_for_its_retry_tells_of_its_error(
    app: AsyncJobs, stage: Stage
) -> None:
    job = register(app, jobs.flaky, retry=RetryPolicy(5, constant(600)))
    async with working(app):
        handle = await job.enqueue(9)
        await stage.noted(1)
        await ended(app, handle.id, State.SCHEDULED)
        info = await handle.info()
    (error,) = info.errors
    assert (error.message, error.attempt, info.error, info.attempt) == ("attempt 1", 1, None, 2)


async def test_a_job_near_the_size_limit_keeps_its_errors(new_app: NewApp) -> None:
    app = new_app(max_payload=1 << 20)
    job = register(app, fails_at_length, retry=RetryPolicy(8, AT_ONCE))
    async with working(app):
        handle = await job.enqueue("x" * ((1 << 20) - 200))
        with pytest.raises(JobFailed):
            await handle.result(LIMIT_S)
        info = await handle.info()
    assert info.args is not None
    assert len(info.args[0]) == (1 << 20) - 200
    assert [error.attempt for error in info.errors] == [3, 4, 5, 6, 7, 8]


async def test_the_log_says_which_budget_is_meant(
    new_app: NewApp, stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    app = new_app(retry=APP)
    job = register(app, follows, retry=POLICIES)
    async with working(app):
        await (await job.enqueue(["os", "key", "os"])).result(LIMIT_S)
    said: list[Any] = [
        record.getMessage().partition(": ")[2].partition(", again")[0]
        for record in caplog.records
        if record.levelno == logging.WARNING
    ]
    assert said == [
        "attempt 1 of 3 failed",
        "attempt 2 failed, failure 1 of 4 of the policy on LookupError",
        "attempt 3 failed, failure 2 of 3 of the policy on OSError",
    ]
