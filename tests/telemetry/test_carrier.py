"""What travels with a job: bounded, and read as untrusted."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import baggage
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    TraceState,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from asyncjobs.telemetry.carrier import (
    MAX_SIZE,
    NOTHING,
    baggage_text,
    read,
    with_previous,
    write,
)

SPAN = SpanContext(7, 9, is_remote=False, trace_flags=TraceFlags(1))


def size_of(carrier: dict[str, Any]) -> int:
    return sum(map(len, carrier.values()))


def test_there_and_back() -> None:
    written = write(SPAN, "tenant=7", "default/1")
    carried = read(with_previous(written, SpanContext(8, 10, is_remote=False)))
    assert (carried.creation.trace_id, carried.creation.span_id) == (7, 9)
    assert carried.creation.trace_flags.sampled
    assert carried.creation.is_remote
    assert (carried.previous.trace_id, carried.previous.span_id) == (8, 10)
    assert baggage.get_all(carried.context) == {"tenant": "7"}
    assert carried.conversation == "default/1"


def test_what_was_carried_stays() -> None:
    carrier = {"traceparent": "x", "later": [1]}
    again = with_previous(carrier, SPAN)
    assert (again["traceparent"], again["later"]) == ("x", [1])
    assert "previous" not in carrier


def test_it_is_never_larger_than_its_limit() -> None:
    state = TraceState([(f"k{n}", "v" * 250) for n in range(32)])
    span = SpanContext(7, 9, is_remote=False, trace_state=state)
    context = Context()
    for number in range(100):
        context = baggage.set_baggage(f"key{number}", "ü" * 90, context)
    token = attach(context)
    try:
        text = baggage_text(None)
    finally:
        detach(token)
    assert text.count("=") > 2
    carrier = with_previous(write(span, text, "default/" + "x" * 256), span)
    assert size_of(carrier) <= MAX_SIZE
    assert read(carrier).creation.trace_id == 7
    assert baggage.get_all(read(carrier).context)["key0"] == "ü" * 90


@pytest.mark.parametrize("left", [0, 54, 55])
def test_there_is_room_for_the_attempt_before(left: int) -> None:
    """A trace state of just this size would fit, but for what a retry adds."""
    room = MAX_SIZE - 55 - left
    state = TraceState([(f"k{n}", "v" * 250) for n in range(room // 254)])
    state = state.add("rest", "v" * (room - len(state.to_header()) - len("rest=,")))
    span = SpanContext(7, 9, is_remote=False, trace_state=state)
    assert size_of(write(span)) in (55, MAX_SIZE - left)
    assert ("tracestate" in write(span)) == (left == 55)
    assert size_of(with_previous(write(span), span)) <= MAX_SIZE


@pytest.mark.parametrize(
    "carrier",
    [
        None,
        {},
        "x",
        [],
        {"traceparent": 3},
        {"traceparent": "00-zz-zz-01"},
        {"traceparent": "x" * 10_000},
        {"baggage": 3, "previous": {}},
    ],
)
def test_what_is_no_carrier_is_none(carrier: Any) -> None:
    carried = read(carrier)
    assert carried.creation == NOTHING.creation
    assert carried.previous == NOTHING.previous
    assert not baggage.get_all(carried.context)


values = st.one_of(st.text(), st.integers(), st.none(), st.lists(st.text()))
keys = st.sampled_from(["traceparent", "tracestate", "baggage", "previous", "conversation"])


@given(st.dictionaries(keys, values))
def test_nothing_stored_makes_reading_fail(carrier: dict[str, Any]) -> None:
    read(carrier)
    with_previous(carrier, SPAN)


spans = st.builds(
    SpanContext,
    st.integers(0, 2**128 - 1),
    st.integers(0, 2**64 - 1),
    st.just(True),
    st.integers(0, 255).map(TraceFlags),
    st.sampled_from([TraceState(), TraceState([("vendor", "a"), ("other", "b")])]),
)


@given(spans)
def test_it_is_written_and_read_as_by_opentelemetry(span: SpanContext) -> None:
    texts: dict[str, str] = {}
    propagator = TraceContextTextMapPropagator()
    propagator.inject(texts, set_span_in_context(NonRecordingSpan(span), Context()))
    assert write(span) == (texts if span.is_valid else {})
    theirs = get_current_span(propagator.extract(texts, Context())).get_span_context()
    ours = read(texts).creation
    assert (ours.is_valid, ours.trace_state) == (theirs.is_valid, theirs.trace_state)
    if theirs.is_valid:
        assert ours == theirs


def test_a_span_that_is_none_leaves_what_is_carried() -> None:
    carrier = {"traceparent": "x"}
    assert with_previous(carrier, NOTHING.creation) is carrier
