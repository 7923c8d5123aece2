"""The carrier: what a job carries so that its attempts find the trace that they belong to.

It is one small object, the `trace` of the job's headers. It is read back from a store, so it is
untrusted: a value that is no trace context is ignored.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final, NamedTuple
from urllib.parse import quote_plus

from opentelemetry.baggage import get_all
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.trace import (
    INVALID_SPAN_CONTEXT,
    SpanContext,
    TraceFlags,
    get_current_span,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

__all__ = ["MAX_SIZE", "Carried", "baggage_text", "read", "span_in", "with_previous", "write"]

MAX_SIZE: Final = 4096
"""The most characters of a carrier, all values together. It is stored with every job."""
_TRACE_SIZE: Final = 1024
"""How many of these are reserved for everything except baggage."""
PLAIN_SIZE: Final = 55
"""The size of a `traceparent`. So many are reserved for that of the previous attempt, which a retry
adds."""

_PLAIN: Final = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_FLAGS: Final = {"00": TraceFlags(0), "01": TraceFlags(1)}
_TRACE: Final = TraceContextTextMapPropagator()
_BAGGAGE: Final = W3CBaggagePropagator()


class Carried(NamedTuple):
    """What a job carries.

    `creation` is the span that enqueued the job, `previous` that of its last attempt. `context`
    has the baggage. `conversation` is the first of the jobs that led to this one.
    """

    creation: SpanContext
    previous: SpanContext
    context: Context
    conversation: str


EMPTY: Final = Context()
"""A context without baggage. All jobs share it, because a context never changes."""
NOTHING: Final = Carried(INVALID_SPAN_CONTEXT, INVALID_SPAN_CONTEXT, EMPTY, "")


def baggage_text(keys: frozenset[str] | None) -> str:
    """The current baggage with these keys; None for all. Entries beyond the limit are left out."""
    room = MAX_SIZE - _TRACE_SIZE
    entries: list[str] = []
    # Whole entries or none: half of a value would be a wrong value.
    for key, value in get_all().items():
        if keys is not None and key not in keys:
            continue
        entry = f"{quote_plus(key)}={quote_plus(str(value))}"
        if len(entry) < room:
            room -= len(entry) + 1
            entries.append(entry)
    return ",".join(entries)


def write(creation: SpanContext, baggage: str = "", conversation: str = "") -> dict[str, Any]:
    """The carrier of a new job."""
    carrier = _traced(creation)
    if baggage:
        carrier["baggage"] = baggage
    if conversation:
        carrier["conversation"] = conversation
    # Vendors may make the trace state long. Without it the trace still holds together.
    if sum(map(len, carrier.values())) > MAX_SIZE - PLAIN_SIZE:
        carrier.pop("tracestate", None)
    return carrier


def with_previous(carrier: Any, previous: SpanContext) -> Any:
    """The carrier for the next attempt of a job, `previous` being the span of this one."""
    if not previous.is_valid:
        return carrier
    traceparent = _traced(previous)["traceparent"]
    if not isinstance(carrier, dict):
        return {"previous": traceparent}
    return {**carrier, "previous": traceparent}


def read(carrier: Any) -> Carried:
    """Read the carrier of a job; None for a job without one."""
    if not isinstance(carrier, dict):
        return NOTHING
    traceparent = carrier.get("traceparent")
    if len(carrier) == 1 and isinstance(traceparent, str) and len(traceparent) == PLAIN_SIZE:
        # Nearly all carriers look like this, and all jobs of one bulk call have the same one.
        known = _of_creation(traceparent)
        if known is not None:
            return known
    creation = previous = INVALID_SPAN_CONTEXT
    context = EMPTY
    if traceparent is not None:
        creation = _span_context(_text(carrier, "traceparent"), _text(carrier, "tracestate"))
    if "previous" in carrier:
        previous = _span_context(_text(carrier, "previous"))
    if baggage := _text(carrier, "baggage"):
        context = _BAGGAGE.extract({"baggage": baggage}, EMPTY)
    return Carried(creation, previous, context, _text(carrier, "conversation"))


def span_in(traceparent: str) -> SpanContext:
    """The span that a `traceparent` names; an invalid one for what is none."""
    return _span_context(traceparent)


def _text(carrier: dict[str, Any], key: str) -> str:
    value = carrier.get(key)
    if isinstance(value, str) and len(value) <= MAX_SIZE:
        return value
    return ""


def _traced(span: SpanContext) -> dict[str, str]:
    if not span.is_valid:
        return {}
    carrier = {"traceparent": f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"}
    if span.trace_state:
        carrier["tracestate"] = span.trace_state.to_header()
    return carrier


def _span_context(traceparent: str, tracestate: str = "") -> SpanContext:
    if not traceparent:
        return INVALID_SPAN_CONTEXT
    if not tracestate and (plain := _plain(traceparent)) is not None:
        return plain
    texts = {"traceparent": traceparent, "tracestate": tracestate}
    return get_current_span(_TRACE.extract(texts, EMPTY)).get_span_context()


# Small: it is for the jobs of one bulk call, which have the same creation.
@lru_cache(maxsize=16)
def _of_creation(traceparent: str) -> Carried | None:
    creation = _plain(traceparent)
    if creation is None:
        return None
    return Carried(creation, INVALID_SPAN_CONTEXT, EMPTY, "")


def _plain(traceparent: str) -> SpanContext | None:
    """What the propagator answers to a usual `traceparent`, in a tenth of its time."""
    found = _PLAIN.fullmatch(traceparent)
    if found is None:
        return None
    trace_id, span_id, flags = found.groups()
    known = _FLAGS.get(flags)
    if known is None:
        known = TraceFlags(int(flags, 16))
    return SpanContext(int(trace_id, 16), int(span_id, 16), True, known)
