from __future__ import annotations

import pytest

from asyncjobs import errors
from asyncjobs.errors import (
    AsyncJobsError,
    Discard,
    JobFailed,
    JobSignal,
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


@pytest.mark.parametrize("signal", [Retry(delay=3), Snooze(3), Discard("no use")])
def test_signals_are_no_errors_of_ours(signal: JobSignal) -> None:
    assert not isinstance(signal, AsyncJobsError)
    assert str(signal)


def test_a_result_timeout_is_a_timeout_error() -> None:
    assert issubclass(ResultTimeout, TimeoutError)


def test_a_failed_job_shows_the_remote_traceback() -> None:
    error = JobFailed("dead", error_type="ValueError", remote_traceback="Traceback: here")
    assert str(error) == "dead\n\nTraceback: here"
    assert str(JobFailed("dead")) == "dead"
