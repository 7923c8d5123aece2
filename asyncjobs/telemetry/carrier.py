"""What travels with a job so that its attempts find the trace that they belong to.

One small object under one key of the envelope's headers. It is read back from a store, so
it is untrusted: what is no trace context is as good as none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import quote_plus

from opentelemetry.baggage import get_all
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.trace import (
    INVALID_SPAN_CONTEXT,
    NonRecordingSpan,
    SpanContext,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

__all__ = ["HEADER", "MAX_SIZE", "Carried", "baggage_text", "read", "with_previous", "write"]

HEADER: Final = "t"
MAX_SIZE: Final = 4096
"""Characters of a carrier, all values together: it is stored with every job."""
_TRACE_SIZE: Final = 1024
"""Of these, what is kept free for all but baggage."""

_TRACE: Final = TraceContextTextMapPropagator()
_BAGGAGE: Final = W3CBaggagePropagator()


class Carried(NamedTuple):
    """What was carried: the span that enqueued the job, the span of its last attempt, the
    baggage as a context, and the first job of the conversation."""

    creation: SpanContext
    previous: SpanContext
    context: Context
    conversation: str


NOTHING: Final = Carried(INVALID_SPAN_CONTEXT, INVALID_SPAN_CONTEXT, Context(), "")


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
    """The headers of a new job."""
    carrier = _traced(creation)
    if baggage:
        carrier["baggage"] = baggage
    if conversation:
        carrier["conversation"] = conversation
    if sum(map(len, carrier.values())) > MAX_SIZE:
        carrier.pop("tracestate", None)
    return {HEADER: carrier}


def with_previous(headers: Mapping[str, Any] | None, previous: SpanContext) -> dict[str, Any]:
    """The headers of a job for the attempt after this one."""
    kept = dict(headers or {})
    carrier = kept.get(HEADER)
    carrier = dict(carrier) if isinstance(carrier, dict) else {}
    carrier["previous"] = _traced(previous)["traceparent"]
    kept[HEADER] = carrier
    return kept


def read(headers: Mapping[str, Any] | None) -> Carried:
    """What the headers of a job carry."""
    carrier = headers.get(HEADER) if headers else None
    if not isinstance(carrier, dict):
        return NOTHING
    texts = {
        key: value
        for key, value in carrier.items()
        if isinstance(value, str) and len(value) <= MAX_SIZE
    }
    context = Context()
    if "baggage" in texts:
        context = _BAGGAGE.extract(texts, context)
    return Carried(
        _span_context(texts),
        _span_context({"traceparent": texts.get("previous", "")}),
        context,
        texts.get("conversation", ""),
    )


def _traced(span: SpanContext) -> dict[str, str]:
    carrier: dict[str, str] = {}
    _TRACE.inject(carrier, set_span_in_context(NonRecordingSpan(span), Context()))
    return carrier


def _span_context(texts: dict[str, str]) -> SpanContext:
    if not texts.get("traceparent"):
        return INVALID_SPAN_CONTEXT
    return get_current_span(_TRACE.extract(texts, Context())).get_span_context()
