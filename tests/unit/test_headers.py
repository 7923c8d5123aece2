"""The headers that travel with a job: its errors, its counts, and its fresh start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

import asyncjobs
from asyncjobs.model.codec import BadRecord
from asyncjobs.model.envelope import Envelope
from asyncjobs.model.headers import NO_HEADERS, Headers, PastError, PutBack
from asyncjobs.model.job import State
from asyncjobs.model.outcome import Outcome, dead_letter, revived


def failure(number: int, message: str = "no") -> PastError:
    return PastError(number, "ValueError", message, "Traceback: x", 1000 + number, "worker-1")


def letter_of(outcome: Outcome, envelope: Envelope) -> bytes:
    return dead_letter(outcome.encode(), envelope.encode())


def test_the_newest_errors_are_kept_in_order() -> None:
    headers = Headers({"trace": "t"})
    for number in range(1, 9):
        headers = headers.with_error(failure(number))
    assert headers.fields["trace"] == "t"
    assert headers.errors() == [failure(number) for number in range(4, 9)]


def test_what_is_kept_is_bounded() -> None:
    headers = NO_HEADERS
    for number in range(20):
        error = PastError(number, "E" * 10_000, "m" * 100_000, "b" * 99_999 + "end", 1, "w" * 10**5)
        headers = headers.with_error(error)
    assert len(orjson.dumps(headers.fields)) < 40_000
    assert headers.errors()[0].traceback.endswith("end")


@pytest.mark.parametrize("fields", [{}, {"errors": 3}, {"errors": [1, "x", None]}])
def test_what_is_no_error_is_passed_over(fields: dict[str, Any]) -> None:
    assert Headers(fields).errors() == []


def test_what_policies_have_counted() -> None:
    assert NO_HEADERS.spent() == Headers({"spent": [1]}).spent() == {}
    odd: dict[str, Any] = {"KeyError": 2, "a": 0, "b": -1, "c": "3", "d": True, "e": 1.5}
    headers = Headers({"spent": odd})
    assert headers.spent() == {"KeyError": 2}
    assert headers.with_spent("OSError", 1).spent() == {"KeyError": 2, "OSError": 1}


def test_changes_make_other_headers() -> None:
    """Many jobs share the same ones, and an attempt's own are read after it has ended."""
    fields = {"mine": [1], "crashes_kept": 1}
    headers = Headers(fields)
    made = [
        headers.with_error(failure(1)),
        headers.with_spent("KeyError", 1),
        headers.with_crashes(3),
        headers.with_put_back(PutBack(5, 1), 2),
        headers.with_revival(failure(2), 70),
        headers.with_trace({"traceparent": "x"}),
    ]
    assert fields == {"mine": [1], "crashes_kept": 1}
    assert all(each.fields["mine"] == [1] for each in made)
    assert NO_HEADERS.fields == {}


def test_crashes_until_the_end_of_an_attempt_and_before() -> None:
    assert NO_HEADERS.crashes() is None
    put_back = NO_HEADERS.with_put_back(PutBack(5, 1), 2)
    assert put_back.crashes() == (2, 0)
    assert put_back.with_crashes(3).crashes() == (0, 3)
    assert put_back.with_crashes(0).crashes() is None
    assert NO_HEADERS.with_crashes(0) is NO_HEADERS


@pytest.mark.parametrize("count", [-1, "2", True, 1.5, None, 2**53 + 1])
@pytest.mark.parametrize("name", ["crashes", "crashes_kept"])
def test_a_count_of_crashes_that_is_none_is_refused(name: str, count: object) -> None:
    with pytest.raises(BadRecord, match=name):
        Headers({name: count}).crashes()


def test_a_time_ahead_of_the_store_is_none() -> None:
    """It would keep a job for ever that nobody knows."""
    headers = NO_HEADERS.with_put_back(PutBack(1000, 4), 0)
    assert headers.put_back(1000) == PutBack(1000, 4)
    assert headers.put_back(999) == PutBack(999, 4)


def test_a_dead_job_starts_anew_with_its_history() -> None:
    headers = Headers({"spent": {"KeyError": 2}, "crashes": 2, "unknown_times": 3, "keep": 1})
    envelope = Envelope(
        "mail", [1], {}, enqueued_ms=5, attempt=3, headers=headers.with_error(failure(1))
    )
    about = {"attempt": 3, "error_type": "KeyError", "message": "gone", "finished_ms": 9}
    ended = Outcome(State.DEAD, reason="exhausted", worker="worker-2", **about)
    again = Envelope.decode(revived(letter_of(ended, envelope), 70))
    assert (again.name, again.args, again.attempt, again.enqueued_ms) == ("mail", [1], 1, 5)
    assert set(again.headers.fields) == {"keep", "errors", "revived", "revived_at"}
    last = PastError(3, "KeyError", "gone", "", 9, "worker-2")
    assert again.headers.errors() == [failure(1), last]
    twice = Envelope.decode(revived(letter_of(Outcome(State.DEAD), again), 80))
    assert again.headers.revivals() == (1, 70)
    assert twice.headers.revivals() == (2, 80)


@pytest.mark.parametrize(("scheduled_ms", "expires_ms"), [(None, 30), (20, 30)])
def test_the_time_until_it_expires_begins_anew(scheduled_ms: int | None, expires_ms: int) -> None:
    envelope = Envelope(
        "mail", [], {}, enqueued_ms=10, scheduled_ms=scheduled_ms, expires_ms=expires_ms
    )
    letter = letter_of(Outcome(State.DEAD), envelope)
    assert Envelope.decode(revived(letter, 1000)).expires_ms == 1020


@pytest.mark.parametrize("fields", [{}, {"revived": "x"}, {"revived": -1}, {"revived": []}])
def test_a_job_that_was_never_revived(fields: dict[str, Any]) -> None:
    assert Headers(fields).revivals() == (0, None)


def test_an_end_without_an_exception_is_told_by_its_reason() -> None:
    envelope = Envelope("mail", [], {}, enqueued_ms=5, attempt=2)
    letter = letter_of(Outcome(State.DEAD, reason="crashed"), envelope)
    (error,) = Envelope.decode(revived(letter, 70)).headers.errors()
    assert (error.attempt, error.type) == (2, "crashed")


def test_an_unreadable_envelope_comes_back_as_it_was() -> None:
    outcome = Outcome(State.DEAD, reason="unreadable").encode()
    assert revived(dead_letter(outcome, b"\xff{"), 1) == b"\xff{"


def test_nobody_else_knows_a_key() -> None:
    """What reads or writes headers elsewhere asks `Headers`, and never its dictionary."""
    package = Path(asyncjobs.__file__).parent
    for path in package.rglob("*.py"):
        # Cases of the conformance suite write what another program might have written.
        if path.parent.name not in ("model", "conformance"):
            assert "headers.fields" not in path.read_text(), path
            assert "unknown_times" not in path.read_text(), path
    for path in package.rglob("*.lua"):
        assert "unknown_times" not in path.read_text(), path
