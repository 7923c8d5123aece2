from __future__ import annotations

import dataclasses
import uuid
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncjobs.errors import EncodeError
from asyncjobs.guard.untrusted import MAX_DEPTH
from asyncjobs.model.codec import BadRecord, check_json
from asyncjobs.model.envelope import Envelope, NewerEnvelope
from asyncjobs.model.headers import NO_HEADERS, Headers
from asyncjobs.model.job import State
from asyncjobs.model.outcome import Outcome, dead_letter, read_dead_letter

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=20,
)


@given(st.lists(JSON), st.dictionaries(TEXT, JSON), st.integers(1, 50))
def test_what_the_check_lets_pass_arrives_unchanged(
    args: list[Any], kwargs: dict[str, Any], attempt: int
) -> None:
    for value in (*args, *kwargs.values()):
        check_json(value, "x")
    envelope = Envelope("tasks.send", args, kwargs, enqueued_ms=5, attempt=attempt)
    back = Envelope.decode(envelope.encode())
    assert (back.name, back.args, back.kwargs, back.attempt) == (
        "tasks.send",
        args,
        kwargs,
        attempt,
    )
    assert (back.enqueued_ms, back.scheduled_ms, back.options) == (5, None, None)
    assert back.headers is NO_HEADERS


def test_an_envelope_carries_options_headers_and_its_time() -> None:
    headers, options = Headers({"t": "x"}), {"timeout": 3}
    envelope = Envelope(
        "f", [], {}, enqueued_ms=1, scheduled_ms=9, options=options, headers=headers
    )
    back = Envelope.decode(envelope.encode())
    assert (back.scheduled_ms, back.options, back.headers.fields) == (9, {"timeout": 3}, {"t": "x"})
    assert back.expires_ms is None


def test_an_envelope_carries_its_expiry_only_when_it_has_one() -> None:
    raw = Envelope("f", [], {}, enqueued_ms=1, expires_ms=7).encode()
    assert Envelope.decode(raw).expires_ms == 7
    assert orjson.loads(raw)["x"] == 7
    assert orjson.loads(Envelope("f", [], {}, enqueued_ms=1).encode()).keys() == set("vfne")
    with pytest.raises(BadRecord, match="wrong type"):
        Envelope.decode(raw.replace(b'"x":7', b'"x":"7"'))


def test_an_outcome_names_the_worker_that_saw_the_error() -> None:
    raw = Outcome(State.DEAD, error_type="KeyError", worker="w\x1b1").encode()
    assert Outcome.decode(raw).worker == "w\\x1b1"
    assert b'"w"' not in Outcome(State.DEAD).encode()


class Colour(Enum):
    RED = 1


class Level(IntEnum):
    LOW = 1


class Word(StrEnum):
    A = "a"


@dataclasses.dataclass
class Point:
    x: int


class Pair(NamedTuple):
    a: int


class MyList(list[int]):
    pass


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ((1, 2), "list(value)"),
        (Pair(1), "list(value)"),
        ({1, 2}, "sorted(value)"),
        (frozenset(), "sorted(value)"),
        (b"x", "base64"),
        (bytearray(b"x"), "base64"),
        (datetime(2027, 1, 1, tzinfo=UTC), "isoformat"),
        (date(2027, 1, 1), "isoformat"),
        (time(1), "isoformat"),
        (timedelta(1), "total_seconds"),
        (uuid.UUID(int=1), "str(value)"),
        (Decimal(1), "str(value)"),
        (lambda: 1, "function"),
        (1j, "value.real"),
        (Path("x"), "str(value)"),
        (Colour.RED, "value.value"),
        (Level.LOW, "value.value"),
        (Word.A, "value.value"),
        (Point(1), "asdict"),
        (MyList(), "list(value)"),
        (object(), "its id or its plain data"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (2**64, "str(value)"),
        ({1: 2}, "str(key)"),
    ],
)
def test_what_json_would_lose_or_change_is_refused_with_the_conversion(
    value: Any, said: str
) -> None:
    for nested, path in ((value, "x"), ([value], "x[0]"), ({"k": ["", value]}, "x['k'][1]")):
        with pytest.raises(EncodeError) as caught:
            check_json(nested, "x")
        assert said in str(caught.value)
        assert str(caught.value).startswith(path)


def test_nesting_has_a_limit() -> None:
    value: Any = 1
    for _ in range(MAX_DEPTH):
        value = [value]
    check_json(value, "x")
    with pytest.raises(EncodeError, match="nested deeper"):
        check_json([value], "x")
    ring: list[Any] = []
    ring.append(ring)
    with pytest.raises(EncodeError, match="nested deeper"):
        check_json(ring, "x")


def test_a_lone_surrogate_is_an_encode_error() -> None:
    with pytest.raises(EncodeError, match=r"tasks\.send"):
        Envelope("tasks.send", ["\ud800"], {}, enqueued_ms=1).encode()


GOOD: dict[str, Any] = {"v": 1, "f": "f", "n": 1, "e": 1}


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff",
        b"[]",
        b"3",
        b"null",
        b"{}",
        b"[" * 300,
        orjson.dumps({**GOOD, "v": "1"}),
        orjson.dumps({**GOOD, "v": 0}),
        orjson.dumps({**GOOD, "f": 3}),
        orjson.dumps({**GOOD, "a": {"x": 1}}),
        orjson.dumps({**GOOD, "k": [1]}),
        orjson.dumps({**GOOD, "n": 0}),
        orjson.dumps({**GOOD, "n": True}),
        orjson.dumps({**GOOD, "e": "now"}),
        orjson.dumps({**GOOD, "s": "later"}),
        orjson.dumps({**GOOD, "o": []}),
        orjson.dumps({**GOOD, "h": 3}),
    ],
)
def test_bytes_that_are_no_envelope(raw: bytes) -> None:
    with pytest.raises(BadRecord):
        Envelope.decode(raw)


@given(st.binary())
def test_any_bytes_are_refused_in_one_way(raw: bytes) -> None:
    with pytest.raises(BadRecord):
        Envelope.decode(raw)


def test_a_newer_envelope_says_so() -> None:
    with pytest.raises(NewerEnvelope, match="2"):
        Envelope.decode(orjson.dumps({**GOOD, "v": 2, "f": 3}))


def test_outcomes_travel() -> None:
    for value in (None, 0, "", [1], {"a": None}):
        back = Outcome.decode(Outcome(State.SUCCEEDED, value).encode())
        assert (back.state, back.value) == (State.SUCCEEDED, value)
    dead = Outcome(
        State.DEAD, reason="exhausted", error_type="ValueError", message="\ud800", traceback="tb"
    )
    back = Outcome.decode(dead.encode())
    assert (back.reason, back.error_type, back.message) == ("exhausted", "ValueError", "\\ud800")
    assert Outcome.decode(Outcome(State.SUCCEEDED, 3, unavailable="too big").encode()).value is None


def test_long_texts_keep_their_end() -> None:
    raw = Outcome(State.DEAD, traceback="a" * 100_000 + "the cause").encode()
    assert len(raw) < 20_000
    assert Outcome.decode(raw).traceback.endswith("the cause")


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b'{"s": "no such state"}', b'{"s": []}'])
def test_bytes_that_are_no_outcome(raw: bytes) -> None:
    with pytest.raises(BadRecord):
        Outcome.decode(raw)


def test_a_dead_letter_keeps_the_envelope_byte_by_byte() -> None:
    raw = b"\x00broken\nlines\n\xff"
    ended = Outcome(State.DEAD, reason="unreadable").encode()
    outcome, kept = read_dead_letter(dead_letter(ended, raw))
    assert (outcome.reason, kept) == ("unreadable", raw)
