"""The trace and the baggage of an attempt, on their way to its child."""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["current_trace", "enter_trace", "flush_spans"]

FLUSH_MS = 2_000


def current_trace() -> dict[str, str]:
    """The current span and baggage, as W3C headers have them."""
    from opentelemetry.baggage.propagation import W3CBaggagePropagator
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    W3CBaggagePropagator().inject(carrier)
    return carrier


def enter_trace(carrier: dict[str, str]) -> None:
    """Let spans that begin from now on be children of that span."""
    if not carrier:
        return
    from opentelemetry.baggage.propagation import W3CBaggagePropagator
    from opentelemetry.context import attach
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    context = TraceContextTextMapPropagator().extract(carrier)
    attach(W3CBaggagePropagator().extract(carrier, context))


def flush_spans() -> None:
    """Send the spans that the user's own code has ended, before the process is gone."""
    if "opentelemetry.sdk.trace" not in sys.modules:
        return
    from opentelemetry.trace import get_tracer_provider

    provider: Any = get_tracer_provider()
    flush = getattr(provider, "force_flush", None)
    if flush is not None:
        flush(FLUSH_MS)
