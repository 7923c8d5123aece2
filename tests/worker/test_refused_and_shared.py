"""Calls that are refused at the caller's line, and ids that two enqueues share."""

from __future__ import annotations

import copy
import pickle
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from asyncjobs import (
    INJECTED,
    AsyncJobs,
    ConfigError,
    JobCall,
    JobContext,
    JobFailed,
    JobRegistry,
    NotBound,
    RegistrationError,
    ResultsDisabled,
    Retry,
    Snooze,
    UsageError,
)
from asyncjobs.model.clock import at_ms
from asyncjobs.model.codec import clean_text
from tests.worker import jobs
from tests.worker.kit import LIMIT_S, Stage, register, working

pytestmark = pytest.mark.anyio


async def test_a_call_of_another_app_is_refused(app: AsyncJobs) -> None:
    foreign = register(AsyncJobs("memory:"), jobs.echo)
    async with app:
        with pytest.raises(UsageError, match="belongs to another AsyncJobs"):
            await app.enqueue_many([foreign.bind(1)])


async def test_a_call_of_no_app_is_refused(app: AsyncJobs) -> None:
    unbound: Any = JobRegistry().job(jobs.echo)
    async with app:
        with pytest.raises(NotBound):
            await app.enqueue_many([unbound.bind(1)])


@pytest.mark.parametrize("wrong", [1, jobs.echo])
async def test_what_is_no_call_is_refused(app: AsyncJobs, wrong: Any) -> None:
    async with app:
        with pytest.raises(UsageError, match=r"write f\.bind"):
            await app.enqueue_many([wrong])


def test_options_beside_the_function_count() -> None:
    register_with: Any = AsyncJobs("memory:").job
    job = register_with(jobs.echo, queue="mail", timeout=3)
    assert (job.settings.queue, job.settings.timeout_s) == ("mail", 3)
    assert isinstance(job.bind(1), JobCall)


def test_retry_true_is_no_number_of_attempts(app: AsyncJobs) -> None:
    with pytest.raises(ConfigError, match="a number of attempts or False"):
        register(app, jobs.echo).options(retry=True)


async def maybe_context(*, ctx: JobContext | None = None) -> None: ...


async def text_context(*, ctx: JobContext | None = None) -> None: ...


@pytest.mark.parametrize("function", [maybe_context, text_context])
def test_a_context_that_nobody_fills_is_refused(app: AsyncJobs, function: Any) -> None:
    with pytest.raises(RegistrationError, match="JobContext = INJECTED"):
        app.job(function)
    assert INJECTED is not None


def test_a_time_more_than_a_century_ahead_is_refused() -> None:
    with pytest.raises(ConfigError, match="100 years"):
        at_ms(datetime.max.replace(tzinfo=UTC))
    assert at_ms(datetime.now(UTC) + timedelta(days=365)) > 0


@pytest.mark.parametrize("signal", [Snooze(5), Retry(delay=3), Snooze(timedelta(hours=1))])
def test_signals_survive_a_process_pool(signal: Any) -> None:
    for again in (pickle.loads(pickle.dumps(signal)), copy.copy(signal)):
        assert type(again) is type(signal)
    assert pickle.loads(pickle.dumps(Snooze(5))).delay == 5


def test_a_terminal_is_not_obeyed() -> None:
    assert clean_text("a\x1b[31m\x9b1m\x7f\x00 b\n\tc") == "a\\x1b[31m\\x9b1m\\x7f\\x00 b\n\tc"


async def test_a_traceback_starts_in_the_job(app: AsyncJobs) -> None:
    fails = register(app, jobs.fails, retry=False)
    async with working(app):
        with pytest.raises(JobFailed) as caught:
            await (await fails.enqueue()).result(LIMIT_S)
    frames = [line for line in caught.value.remote_traceback.splitlines() if "File " in line]
    assert "in fails" in frames[0]
    assert "runner.py" not in caught.value.remote_traceback


async def test_a_result_that_another_enqueue_asked_for(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, jobs.gated)
    async with working(app):
        keeps = await job.options(id="shared").enqueue("g")
        await stage.noted(("started", "g"))
        drops = await job.options(id="shared", result_ttl=0).enqueue("g")
        assert (keeps.is_new, drops.is_new) == (True, False)
        stage.open("g")
        assert await drops.result(LIMIT_S) == "g"  # asked while it ran, or just after
        assert await job.options(result_ttl=0).handle("shared").result(LIMIT_S) == "g"
        own = await job.options(result_ttl=0).enqueue("g")
        with pytest.raises(ResultsDisabled):
            await own.result(LIMIT_S)
