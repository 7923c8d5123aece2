"""An envelope that is written again: what it costs, and that the call in it stays."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncjobs.model.codec import BadRecord
from asyncjobs.model.envelope import Envelope, encode_call, without_trace
from asyncjobs.model.headers import NO_HEADERS, Headers, new_headers

TRACE = {"traceparent": "00-1-2-01"}
SENSITIVE = {"names": ["password"]}

texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=5)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner),
    max_leaves=5,
)
fields = st.dictionaries(texts, values, max_size=3)
times = st.none() | st.integers(0, 2**40)


def written(envelope: Envelope, attempt: int, headers: Headers) -> bytes:
    """The same by encoding all of it."""
    other = Envelope.decode(envelope.encode())
    other.attempt, other.headers = attempt, headers
    return other.encode()


@given(texts, st.lists(values, max_size=3), fields, times, times, fields, fields, fields)
def test_again_is_what_encoding_all_of_it_would_write(
    name: str,
    args: list[Any],
    kwargs: dict[str, Any],
    scheduled_ms: int | None,
    expires_ms: int | None,
    options: dict[str, Any],
    before: dict[str, Any],
    after: dict[str, Any],
) -> None:
    envelope = Envelope(
        name, args, kwargs, 5, scheduled_ms, expires_ms, 9, options, Headers.of(before)
    )
    raw = envelope.encode()
    read = Envelope.decode(raw)
    headers = Headers.of(after)
    expected = written(envelope, 10, headers)
    # What the job does to its arguments is not seen.
    read.args.append("changed")
    read.kwargs["changed"] = object()
    assert read.again(raw, 10, headers) == expected


@pytest.mark.parametrize(
    "raw",
    [
        b'{"v": 1, "f": "mail", "n": 1, "e": 5, "a": [1]}',
        b'{"f":"mail","v":1,"n":1,"e":5,"a":[1]}',
        b'{"v":1,"f":"mail","n":1,"e":5,"h":{"crashes":2},"a":[1]}',
        b'{"v":1,"f":"mail","n":1,"e":5,"a":[1],"h":{"crashes": 2}}',
        b'{"v":1,"f":"mail","n":1,"e":5,"a":[1],"h":{"crashes":2,"crashes":2}}',
        b'{"v":1,"f":"m\\u0061il","n":1,"e":5,"a":[1]}\n',
    ],
)
def test_what_another_program_has_written_is_written_anew(raw: bytes) -> None:
    again = Envelope.decode(raw).again(raw, 2, Headers({"crashes": 3}))
    assert again == b'{"v":1,"f":"mail","n":2,"e":5,"a":[1],"h":{"crashes":3}}'


def test_a_field_that_is_there_twice_keeps_no_job_for_ever() -> None:
    """The last one counts: the number of the attempt rises at the latest with the second one."""
    raw = b'{"v":1,"f":"mail","n":1,"e":5,"a":[1],"n":1}'
    attempts = []
    for _ in range(3):
        envelope = Envelope.decode(raw)
        attempts.append(envelope.attempt)
        raw = envelope.again(raw, envelope.attempt + 1, NO_HEADERS)
    assert attempts == [1, 1, 2]


def test_a_field_that_only_a_later_release_has_stays() -> None:
    raw = b'{"v":1,"f":"mail","n":1,"e":5,"a":[1],"later":[2]}'
    again = orjson.loads(Envelope.decode(raw).again(raw, 2, NO_HEADERS))
    assert (again["n"], again["later"]) == (2, [2])


def test_another_envelope_is_not_taken_for_its_own() -> None:
    with pytest.raises(BadRecord):
        Envelope("mail", [], {}, 5).again(b"no envelope", 2, NO_HEADERS)


@pytest.mark.parametrize("sensitive", [None, SENSITIVE])
def test_a_trace_is_taken_off_without_encoding_the_call(sensitive: dict[str, Any] | None) -> None:
    def encoded(trace: dict[str, Any] | None) -> bytes:
        options = {"timeout": 3}
        headers = new_headers(sensitive, trace)
        return encode_call("mail", (1,), {}, 5, None, None, options, headers)

    assert Envelope.decode(encoded(TRACE)).headers.trace == TRACE
    assert without_trace(encoded(TRACE)) == encoded(None)
    assert without_trace(encoded(None)) == encoded(None)
