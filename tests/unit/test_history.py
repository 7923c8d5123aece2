"""The errors that stay with a job, and its fresh start from a dead letter."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from asyncjobs.codec import Envelope, Outcome, dead_letter
from asyncjobs.history import PastError, past_errors, remember, revivals, revived, spent_by_policy
from asyncjobs.job import State


def failure(number: int, message: str = "no") -> PastError:
    return PastError(number, "ValueError", message, "Traceback: x", 1000 + number, "worker-1")


def test_the_newest_errors_are_kept_in_order() -> None:
    headers: dict[str, Any] | None = {"trace": "t"}
    for number in range(1, 9):
        headers = remember(headers, failure(number))
    assert headers is not None
    assert headers["trace"] == "t"
    assert past_errors(headers) == [failure(number) for number in range(4, 9)]


def test_what_is_kept_is_bounded() -> None:
    headers: dict[str, Any] | None = None
    for number in range(20):
        error = PastError(number, "E" * 10_000, "m" * 100_000, "b" * 99_999 + "end", 1, "w" * 10**5)
        headers = remember(headers, error)
    assert len(orjson.dumps(headers)) < 40_000
    assert past_errors(headers)[0].traceback.endswith("end")


@pytest.mark.parametrize("headers", [None, {}, {"errors": 3}, {"errors": [1, "x", None]}])
def test_what_is_no_error_is_passed_over(headers: dict[str, Any] | None) -> None:
    assert past_errors(headers) == []


def test_what_policies_have_counted() -> None:
    assert spent_by_policy(None) == spent_by_policy({"spent": [1]}) == {}
    odd: dict[str, Any] = {"KeyError": 2, "a": 0, "b": -1, "c": "3", "d": True, "e": 1.5}
    assert spent_by_policy({"spent": odd}) == {"KeyError": 2}


def test_a_dead_job_starts_anew_with_its_history() -> None:
    headers = remember(
        {"spent": {"KeyError": 2}, "crashes": 2, "unknown_times": 3, "keep": 1}, failure(1)
    )
    envelope = Envelope("mail", [1], {}, enqueued_ms=5, attempt=3, headers=headers)
    about = {"attempt": 3, "error_type": "KeyError", "message": "gone", "finished_ms": 9}
    ended = Outcome(State.DEAD, reason="exhausted", worker="worker-2", **about)
    letter = dead_letter(ended, envelope.encode())
    again = Envelope.decode(revived(letter, 70))
    assert (again.name, again.args, again.attempt, again.enqueued_ms) == ("mail", [1], 1, 5)
    assert again.headers is not None
    assert set(again.headers) == {"keep", "errors", "revived", "revived_at"}
    last = PastError(3, "KeyError", "gone", "", 9, "worker-2")
    assert past_errors(again.headers) == [failure(1), last]
    twice = Envelope.decode(revived(dead_letter(Outcome(State.DEAD), again.encode()), 80))
    assert twice.headers is not None
    assert revivals(again.headers) == (1, 70)
    assert revivals(twice.headers) == (2, 80)


@pytest.mark.parametrize(("scheduled_ms", "expires_ms"), [(None, 30), (20, 30)])
def test_the_time_until_it_expires_begins_anew(scheduled_ms: int | None, expires_ms: int) -> None:
    envelope = Envelope(
        "mail", [], {}, enqueued_ms=10, scheduled_ms=scheduled_ms, expires_ms=expires_ms
    )
    letter = dead_letter(Outcome(State.DEAD), envelope.encode())
    assert Envelope.decode(revived(letter, 1000)).expires_ms == 1020


@pytest.mark.parametrize("headers", [None, {}, {"revived": "x"}, {"revived": -1}, {"revived": []}])
def test_a_job_that_was_never_revived(headers: dict[str, Any] | None) -> None:
    assert revivals(headers) == (0, None)


def test_an_end_without_an_exception_is_told_by_its_reason() -> None:
    envelope = Envelope("mail", [], {}, enqueued_ms=5, attempt=2)
    letter = dead_letter(Outcome(State.DEAD, reason="crashed"), envelope.encode())
    (error,) = past_errors(Envelope.decode(revived(letter, 70)).headers)
    assert (error.attempt, error.type) == (2, "crashed")


def test_an_unreadable_envelope_comes_back_as_it_was() -> None:
    assert revived(dead_letter(Outcome(State.DEAD, reason="unreadable"), b"\xff{"), 1) == b"\xff{"
