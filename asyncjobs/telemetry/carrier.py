"""What travels with a job so that its attempts find the trace that they belong to.

One small object, the `trace` of the job's headers. It is read back from a store, so
it is untrusted: what is no trace context is as good as none.
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

__all__ = ["MAX_SIZE", "Carried", "baggage_text", "read", "with_previous", "write"]

MAX_SIZE: Final = 4096
"""Characters of a carrier, all values together: it is stored with every job."""
_TRACE_SIZE: Final = 1024
"""Of these, what is kept free for all but baggage."""
PLAIN_SIZE: Final = 55
"""Of a `traceparent`. And what is kept free for that of the attempt before, which a retry adds."""

_PLAIN: Final = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_FLAGS: Final = {"00": TraceFlags(0), "01": TraceFlags(1)}
_TRACE: Final = TraceContextTextMapPropagator()
_BAGGAGE: Final = W3CBaggagePropagator()


class Carried(NamedTuple):
    """What was carried: the span that enqueued the job, the span of its last attempt, the
    baggage as a context, and the first job of the conversation."""

    creation: SpanContext
    previous: SpanContext
    context: Context
    conversation: str


EMPTY: Final = Context()
"""No baggage. One for all jobs: nothing can be changed in a context."""
NOTHING: Final = Carried(INVALID_SPAN_CONTEXT, INVALID_SPAN_CONTEXT, EMPTY, "")


def baggage_text(keys: frozenset[str] | None) -> str:
    """The present baggage under these keys, None: all of it. Entries beyond the limit stay."""
    room = MAX_SIZE - _TRACE_SIZE
    entries: list[str] = []
    for key, value in get_all().items():
        if keys is not None and key not in keys:
            continue
        entry = f"{quote_plus(key)}={quote_plus(str(value))}"
        if len(entry) < room:
            room -= len(entry) + 1
            entries.append(entry)
    return ",".join(entries)


def write(creation: SpanContext, baggage: str = "", conversation: str = "") -> dict[str, Any]:
    """What a new job carries."""
    carrier = _traced(creation)
    if baggage:
        carrier["baggage"] = baggage
    if conversation:
        carrier["conversation"] = conversation
    if sum(map(len, carrier.values())) > MAX_SIZE - PLAIN_SIZE:
        carrier.pop("tracestate", None)
    return carrier


def with_previous(carrier: Any, previous: SpanContext) -> Any:
    """What a job that carries this takes along to the attempt after this one."""
    if not previous.is_valid:
        return carrier
    known = carrier if isinstance(carrier, dict) else {}
    return {**known, "previous": _traced(previous)["traceparent"]}


def read(carrier: Any) -> Carried:
    """What a job carries; None for one that carries nothing."""
    if not isinstance(carrier, dict):
        return NOTHING
    traceparent = carrier.get("traceparent")
    if len(carrier) == 1 and isinstance(traceparent, str) and len(traceparent) == PLAIN_SIZE:
        # What nearly all carry. Jobs of one bulk call carry the same.
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


def _text(carrier: dict[str, Any], key: str) -> str:
    value = carrier.get(key)
    return value if isinstance(value, str) and len(value) <= MAX_SIZE else ""


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


@lru_cache(maxsize=16)
def _of_creation(traceparent: str) -> Carried | None:
    creation = _plain(traceparent)
    return None if creation is None else Carried(creation, INVALID_SPAN_CONTEXT, EMPTY, "")


def _plain(traceparent: str) -> SpanContext | None:
    """The propagator's answer to what nearly all carry, for a tenth of its time."""
    found = _PLAIN.fullmatch(traceparent)
    if found is None:
        return None
    trace_id, span_id, flags = found.groups()
    known = _FLAGS.get(flags)
    if known is None:
        known = TraceFlags(int(flags, 16))
    return SpanContext(int(trace_id, 16), int(span_id, 16), True, known)
