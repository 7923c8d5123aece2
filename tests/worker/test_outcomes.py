"""How an attempt ends, and what becomes of its job."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any

import pytest

from asyncjobs import (
    AsyncJobs,
    JobDiscarded,
    JobFailed,
    RetryPolicy,
    State,
    Worker,
    constant,
)
from asyncjobs.model.envelope import Envelope
from asyncjobs.model.headers import Headers
from tests.worker import jobs
from tests.worker.kit import (
    LIMIT_S,
    NewApp,
    Stage,
    counts,
    ended,
    eventually,
    register,
    store_raw,
    working,
)

pytestmark = pytest.mark.anyio
AT_ONCE = RetryPolicy(max_attempts=5, backoff=constant(0))


@pytest.mark.parametrize("value", [None, 0, "text", [1, {"a": None}], 2**63, 0.5])
async def test_a_value_comes_back(app: AsyncJobs, value: Any) -> None:
    job = register(app, jobs.echo)
    async with working(app):
        handle = await job.enqueue(value)
        assert await handle.result(LIMIT_S) == value
        assert await handle.status() is State.SUCCEEDED


async def test_failed_attempts_are_counted_and_repeated(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, jobs.flaky, retry=AT_ONCE)
    async with working(app):
        assert await (await job.enqueue(2)).result(LIMIT_S) == 3
    assert stage.notes == [1, 2, 3]


async def test_after_the_last_attempt_a_job_is_dead(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, jobs.flaky, retry=RetryPolicy(3, constant(0)))
    async with working(app):
        handle = await job.enqueue(99)
        with pytest.raises(JobFailed, match="attempt 3") as caught:
            await handle.result(LIMIT_S)
        assert (await counts(app)).dead == 1
    assert stage.notes == [1, 2, 3]
    assert caught.value.error_type == "tests.worker.jobs.Broken"
    assert "in flaky" in caught.value.remote_traceback


async def test_no_retry_means_one_attempt(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, jobs.flaky, retry=False)
    async with working(app):
        with pytest.raises(JobFailed):
            await (await job.enqueue(1)).result(LIMIT_S)
    assert stage.notes == [1]


@pytest.mark.parametrize("attempts", [1, 2])
async def test_one_enqueue_can_ask_for_other_attempts(
    app: AsyncJobs, stage: Stage, attempts: int
) -> None:
    job = register(app, jobs.flaky, retry=AT_ONCE).options(retry=attempts)
    async with working(app):
        with pytest.raises(JobFailed):
            await (await job.enqueue(99)).result(LIMIT_S)
    assert stage.notes == list(range(1, attempts + 1))


async def test_a_job_learns_the_attempts_of_its_own_enqueue(app: AsyncJobs) -> None:
    job = register(app, jobs.describes, retry=AT_ONCE).options(retry=7)
    async with working(app):
        assert (await (await job.enqueue()).result(LIMIT_S))["max_attempts"] == 7


async def test_an_asked_retry_spends_an_attempt(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, jobs.asks_retry, retry=AT_ONCE)
    async with working(app):
        assert await (await job.enqueue(3)).result(LIMIT_S) == 4
        with pytest.raises(JobFailed):
            await (await job.enqueue(99)).result(LIMIT_S)
    assert stage.notes == [1, 2, 3, 4, 1, 2, 3, 4, 5]


async def test_a_snooze_spends_none(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, jobs.snoozes, retry=False)
    async with working(app):
        assert await (await job.enqueue(3)).result(LIMIT_S) == 1
    assert stage.notes == [1, 1, 1, 1]


async def test_a_job_can_end_itself(app: AsyncJobs) -> None:
    job = register(app, jobs.discards)
    async with working(app):
        handle = await job.enqueue()
        with pytest.raises(JobDiscarded, match="nothing to do"):
            await handle.result(LIMIT_S)
        assert await handle.status() is State.DISCARDED
        assert (await counts(app)).dead == 0


async def test_what_discard_on_names_ends_the_job(app: AsyncJobs) -> None:
    job = register(app, jobs.fails, discard_on=jobs.Broken)
    async with working(app):
        with pytest.raises(JobDiscarded, match="Broken: no such page"):
            await (await job.enqueue("no such page")).result(LIMIT_S)


@pytest.mark.parametrize(
    ("kinds", "error"),
    [
        (["broken", "discard"], JobDiscarded),
        (["broken", "value"], JobFailed),
        (["discard", "value"], JobFailed),
    ],
)
async def test_a_group_is_judged_by_its_leaves(
    app: AsyncJobs, kinds: list[str], error: type[Exception]
) -> None:
    job = register(app, jobs.fails_in_group, discard_on=jobs.Broken, retry=False)
    async with working(app):
        with pytest.raises(error):
            await (await job.enqueue(kinds)).result(LIMIT_S)


async def test_a_time_out_is_a_failed_attempt(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, jobs.slow_flaky, timeout=0.02, retry=AT_ONCE)
    async with working(app):
        assert await (await job.enqueue(600)).result(LIMIT_S) == 2
    assert stage.notes == [("attempt", 1), "stopped", "left", ("attempt", 2), "left"]


async def test_a_time_out_is_the_error_of_the_last_attempt(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, jobs.gated, retry=False).options(timeout=0.02)
    async with working(app):
        with pytest.raises(JobFailed, match=r"longer than its 0\.02 s") as caught:
            await (await job.enqueue("never")).result(LIMIT_S)
    assert caught.value.error_type == "TimeoutError"
    assert ("left", "never") in stage.notes


@pytest.mark.parametrize("kind_of_exit", ["exit", "interrupt"])
async def test_what_ends_programs_ends_only_the_attempt(app: AsyncJobs, kind_of_exit: str) -> None:
    job = register(app, jobs.exits, retry=AT_ONCE)
    async with working(app):
        assert await (await job.enqueue(kind_of_exit)).result(LIMIT_S) == 2


async def test_a_job_that_cancels_itself_has_failed(app: AsyncJobs) -> None:
    job = register(app, jobs.cancels_itself, retry=AT_ONCE)
    async with working(app):
        assert await (await job.enqueue()).result(LIMIT_S) == 2


async def test_context_variables_stay_in_their_job(app: AsyncJobs) -> None:
    job = register(app, jobs.sets_variable)
    async with working(app, concurrency=1):
        handles = [await job.enqueue(f"value {number}") for number in range(5)]
        assert [await handle.result(LIMIT_S) for handle in handles] == ["unset"] * 5
    assert jobs.variable.get() == "unset"


async def test_a_job_knows_itself(app: AsyncJobs) -> None:
    job = register(app, jobs.describes, queue="mail", timeout=30, retry=4)
    async with working(app):
        handle = await job.options(delay=0.01, id="welcome:42").enqueue()
        told = await handle.result(LIMIT_S)
    enqueued = datetime.fromisoformat(told.pop("enqueued_at"))
    scheduled = datetime.fromisoformat(told.pop("scheduled_at"))
    deadline = datetime.fromisoformat(told.pop("deadline"))
    assert enqueued < scheduled < deadline
    assert told == {
        "id": "welcome:42",
        "queue": "mail",
        "name": "describes",
        "attempt": 1,
        "max_attempts": 4,
        "crashes": 0,
    }


async def test_no_time_out_is_no_deadline(app: AsyncJobs) -> None:
    job = register(app, jobs.describes, timeout=30).options(timeout=None)
    async with working(app):
        told = await (await job.enqueue()).result(LIMIT_S)
    assert told["deadline"] is None
    assert told["scheduled_at"] is None


async def test_progress_is_seen_while_the_job_runs(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, jobs.reports)
    async with working(app):
        handle = await job.enqueue("p")
        await stage.noted(("reported", "p"))

        async def is_reported() -> bool:
            return (await handle.info()).progress is not None

        await eventually(is_reported)
        info = await handle.info()
        assert info.progress is not None
        assert (info.progress.done, info.progress.total, info.progress.note) == (2, 4, "half")
        assert info.state is State.RUNNING
        stage.open("p")
        await handle.result(LIMIT_S)


async def test_a_retry_starts_from_the_arguments_as_enqueued(app: AsyncJobs) -> None:
    job = register(app, jobs.changes_arguments, retry=AT_ONCE)
    async with working(app):
        assert await (await job.enqueue([1, 2])).result(LIMIT_S) == [1, 2]


async def test_arguments_that_no_longer_fit_are_dead_at_once(app: AsyncJobs) -> None:
    register(app, jobs.note, retry=RetryPolicy(2, constant(0)))
    async with working(app):
        envelope = Envelope("note", [1, 2, 3], {}, enqueued_ms=1)
        id = await store_raw(app, envelope.encode())
        await ended(app, id, State.DEAD)
        with pytest.raises(JobFailed, match="positional argument") as caught:
            await app.handle(id, "default").result(LIMIT_S)
        info = await app.handle(id, "default").info()
    assert caught.value.error_type == "asyncjobs.errors.UnfitArguments"
    assert (info.reason, info.attempt) == ("arguments", 1)


@pytest.mark.parametrize(
    "stored",
    [
        {"options": {"timeout": "soon"}},
        {"options": {"timeout": -1}},
        {"options": {"max_attempts": []}},
        {"options": {"result_ttl": "x"}},
        {"headers": Headers({"crashes": "many"})},
    ],
)
async def test_stored_fields_that_make_no_sense_cost_only_their_job(
    app: AsyncJobs, stored: dict[str, Any]
) -> None:
    job = register(app, jobs.echo, retry=False)
    async with working(app):
        envelope = Envelope("echo", [1], {}, enqueued_ms=1, **stored)
        id = await store_raw(app, envelope.encode())
        assert await (await job.enqueue("next")).result(LIMIT_S) == "next"
        await ended(app, id, State.DEAD)


async def test_a_backoff_that_raises_costs_neither_job_nor_slot(
    app: AsyncJobs, stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    def backoff(attempt: int) -> float:
        raise ZeroDivisionError("in the backoff")

    job = register(app, jobs.flaky, retry=RetryPolicy(2, backoff))
    caplog.set_level(logging.CRITICAL, "asyncjobs.worker")
    async with working(app, concurrency=1):
        assert await (await job.enqueue(1)).result(LIMIT_S) == 2
    assert stage.notes == [1, 2]


async def test_a_result_that_is_no_json_is_reported_and_not_rerun(
    new_app: NewApp, stage: Stage
) -> None:
    app = new_app(max_result=100)
    job = register(app, jobs.echo)
    async with working(app):
        handle = await job.enqueue("x" * 200)
        await ended(app, handle.id, State.SUCCEEDED)


async def test_a_worker_can_run_again(app: AsyncJobs) -> None:
    job = register(app, jobs.echo)
    async with app:
        worker = Worker(app)
        for number in range(3):
            handle = await job.enqueue(number)
            report = await worker.run(burst=True, burst_wait=0)
            assert (report.taken, report.released) == (1, 0)
            assert await handle.result(LIMIT_S) == number
