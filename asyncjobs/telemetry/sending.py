"""The spans of enqueues, and the carriers that link attempts to them."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Final, Protocol

from opentelemetry.trace import (
    INVALID_SPAN_CONTEXT,
    Span,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
)

from asyncjobs.jobs.template import JobTemplate
from asyncjobs.model.job import NewJob
from asyncjobs.options.app import AppSettings
from asyncjobs.policy.retry import class_name
from asyncjobs.telemetry import carrier
from asyncjobs.telemetry.instruments import ERROR, QUEUE
from asyncjobs.telemetry.spans import (
    BATCH,
    CONVERSATION,
    MESSAGE_ID,
    Fixed,
    failed,
)

__all__ = ["Maker", "Sending", "conversation"]

MOST_SPANS: Final = 100
"""Up to so many jobs of one call get a span each. More jobs share one span."""

conversation: ContextVar[str] = ContextVar("asyncjobs_conversation", default="")
"""The first of the jobs that led to the code that runs here."""


class Maker(Protocol):
    """Makes jobs of one job function: its template, or a `_Traced` around it."""

    def new_job(self, args: tuple[Any, ...], kwargs: dict[str, Any], /) -> NewJob: ...


class _Traced:
    """Makes the jobs of one template with their trace, and writes their ids into their span."""

    def __init__(
        self,
        template: JobTemplate,
        span: Span | None,
        trace: dict[str, Any],
        settings: AppSettings,
        first: str = "",
    ) -> None:
        """`span`: the span of this one job; None if it has none, or shares one. `first`: its
        conversation; '' if it begins one."""
        self._first = first
        self._template = template
        self._span = span
        self._trace = trace
        self._settings = settings

    def new_job(self, args: tuple[Any, ...], kwargs: dict[str, Any], /) -> NewJob:
        template = self._template
        job = template.new_job(args, kwargs, self._trace)
        if len(job.envelope) > self._settings.max_payload:
            # A job that fits without a trace must not be refused because of it.
            job = template.without_trace(job)
        if self._span is not None:
            try:
                if self._span.is_recording():
                    ref = str(job.ref)
                    first = self._first or ref
                    self._span.set_attributes({MESSAGE_ID: ref, CONVERSATION: first})
                    if not _queue_of(template):
                        self._span.set_attribute(QUEUE, job.queue)
            except BaseException:
                failed("the span of an enqueue")
        return job


class Sending:
    """The spans of one call that enqueues jobs. Entering returns a maker for each job.

    Owns its spans until it is left, when the jobs are stored or have failed.
    """

    def __init__(
        self,
        tracer: Tracer,
        fixed: Fixed,
        settings: AppSettings,
        templates: Sequence[JobTemplate],
        together: str = "",
    ) -> None:
        # A job that runs here belongs to a conversation, and so do the jobs that it enqueues.
        self._first = conversation.get() or together
        self._tracer = tracer
        self._fixed = fixed
        self._settings = settings
        self._templates = templates
        self._spans: list[Span] = []

    def __enter__(self) -> Sequence[Maker]:
        try:
            return self._begin()
        except BaseException:
            failed("the span of an enqueue")
            return self._templates

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for span in self._spans:
            try:
                # A caller that was cancelled has stopped waiting. That is no error.
                if kind is not None and not issubclass(kind, CancelledError):
                    span.set_attribute(ERROR, class_name(kind))
                    span.set_status(Status(StatusCode.ERROR))
                span.end()
            except BaseException:
                failed("the end of a span of an enqueue")

    def _begin(self) -> Sequence[Maker]:
        first = self._first
        traced = [each for each in self._templates if each.options.tracing != "none"]
        if not traced and not first:
            return self._templates
        baggage = carrier.baggage_text(self._settings.baggage_keys)
        shared: Span | None = None
        if len(traced) > MOST_SPANS:
            shared = self._start_shared(traced)
        makers: list[Maker] = []
        for template in self._templates:
            if template.options.tracing == "none":
                makers.append(self._untraced(template, first))
                continue
            span = shared or self._start(_queue_of(template), template.name, {})
            own: Span | None = span
            if shared is not None:
                own = None
            trace = carrier.write(span.get_span_context(), baggage, first)
            makers.append(_Traced(template, own, trace, self._settings, first))
        return makers

    def _untraced(self, template: JobTemplate, first: str) -> Maker:
        if not first:
            return template
        # The jobs that this one enqueues may be traced. They belong to the same conversation.
        trace = carrier.write(INVALID_SPAN_CONTEXT, conversation=first)
        return _Traced(template, None, trace, self._settings)

    def _start_shared(self, templates: Sequence[JobTemplate]) -> Span:
        queues = {_queue_of(template) for template in templates}
        names = {template.name for template in templates}
        queue = queues.pop() if len(queues) == 1 else ""
        name = names.pop() if len(names) == 1 else ""
        more: dict[str, str | int] = {BATCH: len(templates)}
        if self._first:
            more[CONVERSATION] = self._first
        return self._start(queue, name, more)

    def _start(self, queue: str, name: str, more: Mapping[str, str | int]) -> Span:
        title, attributes = self._fixed.of(queue, name)
        span = self._tracer.start_span(
            title, kind=SpanKind.PRODUCER, attributes={**attributes, **more}
        )
        self._spans.append(span)
        return span


def _queue_of(template: JobTemplate) -> str:
    """The queue of its jobs; empty if only the arguments of each job say it."""
    if template.options.route is not None:
        return ""
    return template.options.queue
