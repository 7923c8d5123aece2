"""Reads the spans that have ended, from OpenTelemetry's own in-memory exporter."""

from __future__ import annotations

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler
from opentelemetry.trace import SpanContext, SpanKind

from tests.worker.kit import until

__all__ = ["Recording", "context_of", "events_of_span", "links_of"]


class Recording:
    """A provider for one test, and the spans that have ended."""

    def __init__(self, sampler: Sampler = ALWAYS_ON) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def spans(self, kind: SpanKind | None = None) -> list[ReadableSpan]:
        """In the order of their ends."""
        found = self._exporter.get_finished_spans()
        return [span for span in found if kind is None or span.kind is kind]

    def sent(self) -> list[ReadableSpan]:
        return self.spans(SpanKind.PRODUCER)

    def attempts(self) -> list[ReadableSpan]:
        return self.spans(SpanKind.CONSUMER)

    async def ended(self, attempts: int) -> list[ReadableSpan]:
        """The attempts, once there are so many."""
        await until(lambda: len(self.attempts()) >= attempts)
        found = self.attempts()
        assert len(found) == attempts
        return found


def links_of(span: ReadableSpan) -> dict[str, int]:
    """The ids of linked spans by what the link is for."""
    return {
        str((link.attributes or {})["asyncjobs.link"]): link.context.span_id for link in span.links
    }


def events_of_span(span: ReadableSpan) -> dict[str, dict[str, object]]:
    return {event.name: dict(event.attributes or {}) for event in span.events}


def context_of(span: ReadableSpan) -> SpanContext:
    assert span.context is not None
    return span.context
