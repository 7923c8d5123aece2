"""The first failure of an error type of a job function is logged with its traceback."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from asyncjobs import AsyncJobs, JobFailed, Retry, RetryPolicy, constant
from asyncjobs.worker.engine import failures
from asyncjobs.worker.engine.error_text import ErrorText, describe
from asyncjobs.worker.engine.failures import FailureLog
from tests.worker.kit import LIMIT_S, register, working

pytestmark = pytest.mark.anyio

ERRORS = {"value": ValueError, "key": KeyError, "retry": Retry}


async def fails(kind: str) -> None:
    raise ERRORS[kind]("planted")


async def fails_alike(kind: str) -> None:
    raise ERRORS[kind]("planted")


def warnings(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.levelno == logging.WARNING]


async def test_one_traceback_and_one_line_for_each_repeat(
    app: AsyncJobs, caplog: pytest.LogCaptureFixture
) -> None:
    retry = RetryPolicy(3, constant(0))
    one, two = register(app, fails, retry=retry), register(app, fails_alike, retry=retry)
    async with working(app):
        for job, kind in ((one, "value"), (one, "value"), (one, "key"), (two, "value")):
            handle = await job.enqueue(kind)
            with pytest.raises(JobFailed):
                await handle.result(LIMIT_S)
    records = warnings(caplog)
    assert [record.exc_info is not None for record in records] == [
        *(True, False),
        *(False, False),
        *(True, False),
        *(True, False),
    ]
    assert all("again in 0.0 s" in record.getMessage() for record in records)
    assert {record.__dict__["attempt"] for record in records} == {1, 2}
    assert all("duration_ms" in record.__dict__ for record in records)


async def test_a_retry_on_purpose_has_no_traceback(
    app: AsyncJobs, caplog: pytest.LogCaptureFixture
) -> None:
    job = register(app, fails, retry=RetryPolicy(2, constant(0)))
    async with working(app):
        with pytest.raises(JobFailed):
            await (await job.enqueue("retry")).result(LIMIT_S)
    (record,) = warnings(caplog)
    assert record.exc_info is None


async def test_each_failure_is_put_into_words_once(
    app: AsyncJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To hide what is sensitive in it costs time on the event loop."""
    told: list[ErrorText] = []

    def count(*about: Any) -> ErrorText:
        told.append(describe(*about))
        return told[-1]

    monkeypatch.setattr("asyncjobs.worker.engine.settling.describe", count)
    job = register(app, fails, retry=RetryPolicy(3, constant(0)), sensitive=["kind"])
    async with working(app):
        with pytest.raises(JobFailed):
            await (await job.enqueue("value")).result(LIMIT_S)
    assert [each.message for each in told] == ["planted"] * 3
    assert [each.shown for each in told] == [None] * 3


async def test_a_group_is_known_by_its_members() -> None:
    log = FailureLog()
    group = ExceptionGroup("g", [ValueError(), KeyError()])
    assert log.is_first("f", group, "ExceptionGroup")
    assert not log.is_first("f", group, "ExceptionGroup")
    assert log.is_first("f", ExceptionGroup("g", [ValueError()]), "ExceptionGroup")


async def test_its_memory_is_bounded() -> None:
    log = FailureLog()
    for number in range(3 * failures.MOST_KINDS):
        assert log.is_first(f"f{number}", ValueError(), "ValueError")
    assert len(log._shown) == failures.MOST_KINDS
    assert not log.is_first(f"f{3 * failures.MOST_KINDS - 1}", ValueError(), "ValueError")
    assert log.is_first("f0", ValueError(), "ValueError")
