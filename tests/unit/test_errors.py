from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from asyncjobs import errors
from asyncjobs.errors import (
    AsyncJobsError,
    ConfigError,
    Discard,
    JobFailed,
    JobSignal,
    RateLimited,
    ResultTimeout,
    Retry,
    Snooze,
)


def test_all_names_are_there_and_in_one_of_the_two_trees() -> None:
    for name in errors.__all__:
        assert issubclass(getattr(errors, name), AsyncJobsError | JobSignal)


def test_the_drawn_tree_is_the_real_one() -> None:
    assert errors.__doc__ is not None
    for name in errors.__all__:
        assert name in errors.__doc__


@pytest.mark.parametrize("signal", [Retry(delay=3), Snooze(3), RateLimited(3), Discard("no use")])
def test_signals_are_no_errors_of_ours(signal: JobSignal) -> None:
    assert not isinstance(signal, AsyncJobsError)
    assert str(signal)


def test_a_result_timeout_is_a_timeout_error() -> None:
    assert issubclass(ResultTimeout, TimeoutError)


def test_a_failed_job_shows_the_remote_traceback() -> None:
    error = JobFailed("dead", error_type="ValueError", remote_traceback="Traceback: here")
    assert str(error) == "dead\n\nTraceback: here"
    assert str(JobFailed("dead")) == "dead"


class Busy(RateLimited):
    after = 30


def test_when_a_limited_job_comes_back() -> None:
    assert RateLimited(after=5).delay == 5
    assert Busy().delay == 30
    assert Busy(timedelta(minutes=1)).delay == timedelta(minutes=1)


@pytest.mark.parametrize(
    ("make", "wanted"),
    [
        (RateLimited, r"RateLimited\(\): say when to come back"),
        (lambda: RateLimited(-1), r"RateLimited\(after=-1\) must be a number of seconds"),
        (lambda: Busy(float("nan")), r"Busy\(after=nan\)"),
    ],
)
def test_a_limited_job_says_when_to_come_back(make: Any, wanted: str) -> None:
    with pytest.raises(ConfigError, match=wanted):
        make()
