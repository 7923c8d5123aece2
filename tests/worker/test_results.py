"""What `handle.result()` gives or raises."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import Any

import pytest

from asyncjobs import (
    AsyncJobs,
    JobCancelled,
    JobDiscarded,
    JobFailed,
    JobNotFound,
    ResultsDisabled,
    ResultTimeout,
    ResultUnavailable,
    State,
)
from asyncjobs.model.clock import LONGEST_S
from tests.worker import jobs
from tests.worker.kit import LIMIT_S, NewApp, Stage, ended, eventually, register, working

pytestmark = pytest.mark.anyio
LONG_AGO = datetime(1969, 12, 31, tzinfo=UTC)


async def test_a_waiter_that_came_first_is_told(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, jobs.gated)
    async with working(app):
        handle = await job.enqueue("g")
        waiter = asyncio.create_task(handle.result(LIMIT_S))
        await stage.noted(("started", "g"))
        assert not waiter.done()
        stage.open("g")
        assert await waiter == "g"
        assert await handle.result() == "g"


async def test_dead_discarded_and_cancelled_say_so(app: AsyncJobs) -> None:
    fails = register(app, jobs.fails, retry=False)
    discards = register(app, jobs.discards)
    async with working(app):
        with pytest.raises(JobFailed, match=r"tests\.worker\.jobs\.Broken: oh no") as failed:
            await (await fails.enqueue("oh no")).result(LIMIT_S)
        assert "Traceback (most recent call last)" in str(failed.value)
        with pytest.raises(JobDiscarded, match="nothing to do"):
            await (await discards.enqueue()).result(LIMIT_S)
        scheduled = await fails.options(delay=600).enqueue("later")
        assert await scheduled.cancel()
        with pytest.raises(JobCancelled):
            await scheduled.result(LIMIT_S)


async def test_results_that_are_off_are_told_at_once(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, jobs.gated, result_ttl=0)
    async with working(app):
        handle = await job.enqueue("g")
        with pytest.raises(ResultsDisabled):
            await handle.result()
        with pytest.raises(ResultsDisabled):
            await app.handle(handle.id, "default").result()
        stage.open("g")
        await ended(app, handle.id, State.SUCCEEDED)


async def test_results_off_for_one_enqueue(app: AsyncJobs) -> None:
    job = register(app, jobs.echo).options(result_ttl=0)
    async with working(app):
        handle = await job.enqueue(1)
        await ended(app, handle.id, State.SUCCEEDED)
        with pytest.raises(ResultsDisabled):
            await handle.result()
        # One who knows only the id cannot know that there never was a result.
        with pytest.raises(JobNotFound):
            await app.handle(handle.id, "default").result()


async def test_results_on_for_one_enqueue(new_app: NewApp) -> None:
    app = new_app(result_ttl=0)
    job = register(app, jobs.echo)
    async with working(app):
        assert await (await job.options(result_ttl=60).enqueue(1)).result(LIMIT_S) == 1
        with pytest.raises(ResultsDisabled):
            await (await job.enqueue(1)).result()


async def test_an_unknown_job_is_told_at_once(app: AsyncJobs) -> None:
    job = register(app, jobs.echo)
    async with app:
        with pytest.raises(JobNotFound, match="no-such-job"):
            await job.handle("no-such-job").result()
        with pytest.raises(JobNotFound):
            await app.handle("no-such-job").result()


async def test_an_expired_result_is_told_at_once(app: AsyncJobs) -> None:
    job = register(app, jobs.echo, result_ttl=0.05)
    async with working(app):
        handle = await job.enqueue(1)

        async def expired() -> bool:
            try:
                await handle.result(LIMIT_S)
            except JobNotFound:
                return True
            return False

        await eventually(expired)
        assert await handle.status() is State.SUCCEEDED


async def test_a_time_out_leaves_the_job_alone(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, jobs.gated)
    async with working(app):
        handle = await job.enqueue("g")
        await stage.noted(("started", "g"))
        for timeout in (0, 0.02):
            with pytest.raises(ResultTimeout, match="running"):
                await handle.result(timeout)
        assert ("stopped", "g") not in stage.notes
        stage.open("g")
        assert await handle.result(LIMIT_S) == "g"


@pytest.mark.parametrize(
    ("value", "named"), [("x" * 300, "max_result=200"), (float("nan"), "nan"), ({1, 2}, "set")]
)
async def test_a_value_that_cannot_be_kept(
    new_app: NewApp, caplog: pytest.LogCaptureFixture, value: Any, named: str
) -> None:
    app = new_app(max_result=200)
    job = register(app, _returns)
    _returned["value"] = value
    caplog.set_level(logging.WARNING, "asyncjobs.worker")
    async with working(app):
        handle = await job.enqueue()
        with pytest.raises(ResultUnavailable, match=named):
            await handle.result(LIMIT_S)
        assert await handle.status() is State.SUCCEEDED
    assert caplog.text.count("result is not kept") == 1


_returned: dict[str, Any] = {}


async def _returns() -> Any:
    return _returned["value"]


async def test_a_thousand_waiters_share_one_connection(
    app: AsyncJobs, stage: Stage, kind: str, servers: Any
) -> None:
    job = register(app, jobs.gated)
    async with working(app):
        handles = await app.enqueue_many([job.bind("g") for _ in range(1000)])
        waiters = [asyncio.create_task(handle.result(LIMIT_S)) for handle in handles]
        await stage.noted(("started", "g"), 1000)
        if kind != "memory":
            listed = await asyncio.to_thread(servers.get(kind).command, "CLIENT", "LIST")
            assert listed.count(b"name=asyncjobs:results ") == 1
        stage.open("g")
        assert await asyncio.gather(*waiters) == ["g"] * 1000


async def test_waiters_may_leave(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, jobs.gated)
    async with working(app):
        handle = await job.enqueue("g")
        await stage.noted(("started", "g"))
        waiters = [asyncio.create_task(handle.result()) for _ in range(10)]
        await asyncio.sleep(0)
        for waiter in waiters[:9]:
            waiter.cancel()
        stage.open("g")
        assert await waiters[9] == "g"
        assert all(waiter.cancelled() for waiter in waiters[:9])


@pytest.mark.parametrize(
    "options",
    [
        {"result_ttl": LONGEST_S},
        {"timeout": LONGEST_S},
        {"timeout": None},
        {"expires": LONGEST_S},
        {"at": LONG_AGO},
        {"retry": False},
    ],
    ids=str,
)
async def test_a_job_with_the_most_extreme_option_runs(
    app: AsyncJobs, options: dict[str, Any]
) -> None:
    job = register(app, jobs.echo)
    async with working(app):
        handle = await job.options(**options).enqueue("here")
        assert await handle.result(LIMIT_S) == "here"


async def test_a_job_that_expired_before_1970_is_discarded(app: AsyncJobs) -> None:
    job = register(app, jobs.echo)
    async with working(app):
        handle = await job.options(expires=LONG_AGO).enqueue("here")
        with pytest.raises(JobDiscarded, match="expired"):
            await handle.result(LIMIT_S)
