"""Traces: a span for each enqueue, and a span for each attempt that links to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from opentelemetry.context import Context, attach
from opentelemetry.trace import (
    INVALID_SPAN_CONTEXT,
    Link,
    NonRecordingSpan,
    Span,
    SpanKind,
    Status,
    StatusCode,
    TracerProvider,
    set_span_in_context,
)

from asyncjobs.jobs.middleware import CallNext, Middlewares
from asyncjobs.jobs.template import JobTemplate
from asyncjobs.model import events, step_events
from asyncjobs.model.attempt import AttemptInfo, BatchInfo
from asyncjobs.model.ends import OUTCOMES
from asyncjobs.model.events import Events
from asyncjobs.model.flow_mark import parents_of
from asyncjobs.model.job import Priority, State
from asyncjobs.model.settlement import Settlement
from asyncjobs.options.app import AppSettings
from asyncjobs.policy.retry import class_name, is_on_purpose
from asyncjobs.telemetry import carrier, spans
from asyncjobs.telemetry.carrier import Carried
from asyncjobs.telemetry.instruments import ERROR, OTHER, OUTCOME
from asyncjobs.telemetry.parents import LookUp, links_to
from asyncjobs.telemetry.sending import Sending, conversation
from asyncjobs.telemetry.spans import Attributes, Fixed, Server, common, failed

__all__ = ["Tracing"]

AUTO_MS: Final = 30_000
"""In mode `auto`, an attempt belongs to the trace of its enqueue if it begins sooner than this."""

_STOPS: Final = {
    "timeout": "timeout",
    "shutdown": "shutdown_requested",
    "lease lost": "lease_lost",
}
"""The span event for each reason to stop an attempt."""
_CONSUMER: Final = SpanKind.CONSUMER  # looking it up in the enum for each span costs more
_LISTENED: Final = OUTCOMES.keys() - {
    events.JobSucceeded,
    events.JobExpired,
    step_events.JobResumed,
}
"""The ends to listen to. A success is seen in the settlement, which saves making an event.
JobExpired arrives as its base class, JobDiscarded, and JobResumed as JobRetryScheduled."""
_PRIORITIES: Final = {priority.value: priority.name.lower() for priority in Priority}
_CREATION: Final = {spans.LINK: spans.CREATION}
_PREVIOUS: Final = {spans.LINK: spans.PREVIOUS}
_ITEM: Final = {spans.LINK: spans.ITEM}
_SILENT_ENDS: Final = {
    "shutdown": OUTCOMES[events.JobReleased],
    "lease lost": OUTCOMES[events.JobLost],
    "cancel": OUTCOMES[events.JobCancelled],
}
"""The outcome of an attempt that ends without an event, by the reason why it was asked to stop."""


class _Traced:
    """The span of one running attempt."""

    __slots__ = ("info", "is_over", "is_stuck", "is_told", "span")

    def __init__(self, info: AttemptInfo, span: Span) -> None:
        self.info = info
        self.span = span
        self.is_stuck = False
        """Whether the task goes on after the attempt has ended. Then the span ends without it."""
        self.is_told = False
        """Whether the span has its outcome."""
        self.is_over = False
        """Whether the span has ended."""

    def tell(self, event: events.AttemptEnded) -> None:
        """Write into the span how the attempt ended."""
        self.is_told = True
        span = self.span
        if not span.is_recording():
            return  # not sampled
        self._tell_stop()
        outcome = OUTCOMES[type(event)]
        span.set_attribute(OUTCOME, outcome)
        if isinstance(event, events.JobRetryScheduled):
            span.add_event("retry_scheduled", {"delay_s": event.delay_s})
            if not is_on_purpose(event.error):
                self._fail(event.error, OTHER)
        elif isinstance(event, events.JobSnoozed):
            span.add_event("snoozed", {"delay_s": event.delay_s})
        elif isinstance(event, step_events.JobSuspended):
            span.add_event("suspended", {"delay_s": event.delay_s, "reason": event.reason})
        elif isinstance(event, events.JobDead):
            self._fail(event.error, event.reason)
        elif isinstance(event, events.JobLost):
            self._fail(None, outcome)

    def tell_success(self) -> None:
        """Write into the span that the job function returned."""
        self.is_told = True
        span = self.span
        if span.is_recording():
            self._tell_stop()
            span.set_attribute(OUTCOME, OUTCOMES[events.JobSucceeded])

    def _fail(self, error: BaseException | None, reason: str) -> None:
        # Without the text of the exception, which may contain arguments of the job.
        fault = reason
        if error is not None:
            fault = class_name(type(error))
        self.span.set_attribute(ERROR, fault)
        self.span.set_status(Status(StatusCode.ERROR))

    def _tell_stop(self) -> None:
        stop = self.info.stop_asked
        if stop is not None and (name := _STOPS.get(stop.reason)) is not None:
            ago_s = time.monotonic() - stop.mono_s
            self.span.add_event(name, timestamp=time.time_ns() - round(ago_s * 1e9))

    def end(self) -> None:
        """End the span: the task is over, or nobody waits for it any more."""
        if self.is_over:
            return
        self.is_over = True
        if not self.is_told:
            self._tell_silent_end()
        self.span.end()

    def _tell_silent_end(self) -> None:
        """Write the outcome of an attempt that a worker abandoned at its own end, without an
        event. The reason why it was asked to stop says how it ended."""
        self._tell_stop()
        stop = self.info.stop_asked
        if stop is None or stop.reason not in _SILENT_ENDS:
            return
        outcome = _SILENT_ENDS[stop.reason]
        self.span.set_attribute(OUTCOME, outcome)
        if outcome == OUTCOMES[events.JobLost]:
            self._fail(None, outcome)


class Tracing:
    """The middleware that makes the span of each attempt. It asks the store for those in front of
    a job in a flow, and for nothing else.

    If OpenTelemetry, a sampler, a span processor or an exporter raises, the error is logged once
    and the job goes on. Even a SystemExit is caught, which would end the job.
    """

    def __init__(
        self,
        provider: TracerProvider,
        settings: AppSettings,
        address: Callable[[], str],
        look_up: LookUp,
    ) -> None:
        """`address` returns the address of the open store as a URL; empty if none is open.
        `look_up` asks that store about jobs."""
        self._look_up = look_up
        self._tracer = spans.new_tracer(provider)
        self._server = Server(address)
        self._enqueues = Fixed(self._server, operation="enqueue", type="send")
        self._processes = Fixed(self._server, operation="process", type="process")
        self._batches = Fixed(self._server, operation="batch", type="process")
        self._settings = settings
        self._running: dict[AttemptInfo, _Traced] = {}

    def attach(self, hub: Events, middlewares: Middlewares) -> None:
        """Trace the attempts that begin from now on."""
        middlewares.add_around(self)
        middlewares.add_batch(self._around_batch)
        middlewares.add_carry(self.carry)
        for kind in _LISTENED:
            hub.on(kind, self._on_end)
        hub.on(events.JobStuck, self._on_stuck)
        if self._settings.trace_upkeep:
            hub.on(events.JobsReclaimed, self._on_reclaimed)
            hub.on(events.JobsPromoted, self._on_promoted)
            hub.on(events.CronEnqueued, self._on_cron)

    def enqueue(self, templates: Sequence[JobTemplate], together: str = "") -> Sending:
        """The spans of one call that enqueues jobs of these templates, in this order."""
        return Sending(self._tracer, self._enqueues, self._settings, templates, together)

    # -- attempts -------------------------------------------------------------------------

    async def __call__(self, attempt: AttemptInfo, call_next: CallNext) -> Settlement | None:
        """Call `call_next` within the span of its attempt, if there is one."""
        more: Sequence[Link] = ()
        # Most jobs are in no flow.
        if attempt.tracing != "none" and (parents := parents_of(attempt.trace)):
            more = await links_to(parents, self._look_up)
        traced = self._begun(attempt, more)
        settlement: Settlement | None = None
        try:
            settlement = await call_next()
        finally:
            if traced is not None:
                self._close(traced, settlement)
        return settlement

    async def _around_batch(self, batch: BatchInfo, call_next: CallNext) -> Any:
        """Call `call_next` within the span of a batch, which links to those of its attempts."""
        span = self._begin_batch(batch)
        if span is None:
            return await call_next()
        try:
            return await call_next()
        except BaseException as error:
            if not is_on_purpose(error):
                # Without the text of the exception, which may contain arguments of a job.
                span.set_attribute(ERROR, class_name(type(error)))
                span.set_status(Status(StatusCode.ERROR))
            raise
        finally:
            span.end()

    def _begin_batch(self, batch: BatchInfo) -> Span | None:
        try:
            # A batch belongs to the traces of all its jobs, so it is a child of none of them.
            found = [self._running[each].span for each in batch.attempts if each in self._running]
            if not found:
                return None
            about = self._batches.of(batch.queue, batch.name)
            span = self._tracer.start_span(
                about[0],
                context=Context(),
                kind=_CONSUMER,
                attributes={**about[1], spans.BATCH: len(batch.attempts)},
                links=[Link(each.get_span_context(), _ITEM) for each in found],
            )
            attach(set_span_in_context(span, Context()))
        except BaseException:
            failed("the span of a batch")
            return None
        return span

    def carry(self, attempt: AttemptInfo, trace: Any) -> Any:
        """The trace for the job's next attempt: it names the span of this one as the previous."""
        traced = self._running.get(attempt)
        if traced is None:
            return trace
        try:
            return carrier.with_previous(trace, traced.span.get_span_context())
        except BaseException:
            failed("the link to an attempt")
            return trace

    def _begun(self, attempt: AttemptInfo, more: Sequence[Link]) -> _Traced | None:
        if attempt.tracing == "none":
            _leave_traces(attempt)
            return None
        try:
            return self._begin(attempt, more)
        except BaseException:
            failed("the span of an attempt")
            return None

    def _close(self, traced: _Traced, settlement: Settlement | None) -> None:
        try:
            if settlement is not None and settlement.state is State.SUCCEEDED:
                traced.tell_success()
        except BaseException:
            failed("the outcome of an attempt")
        _end(traced)
        self._running.pop(traced.info, None)

    def _begin(self, attempt: AttemptInfo, more: Sequence[Link]) -> _Traced:
        carried = carrier.read(attempt.trace)
        creation, previous, context, first = carried
        links: list[Link] = [*more]
        if creation.is_valid:
            # An attempt may run days after its enqueue. As a child it would keep that trace open,
            # so by default it only links to it.
            if _is_child(attempt, carried):
                context = set_span_in_context(NonRecordingSpan(creation), context)
            else:
                links.append(Link(creation, _CREATION))
        if previous is not INVALID_SPAN_CONTEXT and previous.is_valid:
            links.append(Link(previous, _PREVIOUS))
        queue, id = attempt.ref
        message_id = f"{queue}/{id}"
        first = first or message_id
        name, fixed = self._processes.of(queue, attempt.name)
        span = self._tracer.start_span(
            name,
            context=context,
            kind=_CONSUMER,
            attributes=self._attributes(attempt, fixed, message_id, first),
            links=links,
        )
        traced = _Traced(attempt, span)
        # Never detached: the task and its context belong to this attempt alone. Detaching would
        # fail if the coroutine is closed in another context.
        attach(set_span_in_context(span, context))
        conversation.set(first)
        self._running[attempt] = traced
        return traced

    def _attributes(
        self, attempt: AttemptInfo, fixed: Attributes, id: str, first: str
    ) -> Attributes:
        # All at the creation of the span, so that the sampler sees them. Setting an attribute
        # later would cost more than a microsecond for each.
        tags: Attributes = {}
        if attempt.tags:
            tags = {spans.TAGS: attempt.tags}
        return {
            **fixed,
            **tags,
            spans.MESSAGE_ID: id,
            spans.CONVERSATION: first,
            spans.CLIENT: attempt.worker,
            spans.GROUP: self._settings.prefix,
            spans.ATTEMPT: attempt.number,
            spans.MAX_ATTEMPTS: attempt.max_attempts,
            spans.PRIORITY: _PRIORITIES[attempt.priority],
            spans.QUEUE_TIME: attempt.queue_time_ms,
        }

    # -- events -----------------------------------------------------------------------------

    def _on_stuck(self, event: events.JobStuck) -> None:
        # The task may never end. The event that ends the attempt follows, and then ends the span.
        if event.info is not None and (traced := self._running.get(event.info)) is not None:
            traced.is_stuck = True

    def _on_end(self, event: events.AttemptEnded) -> None:
        if event.info is None:
            return
        traced = self._running.get(event.info)
        if traced is None or traced.is_over:
            return
        try:
            traced.tell(event)
        except BaseException:
            failed("the outcome of an attempt")
        if traced.is_stuck:
            _end(traced)

    def _on_reclaimed(self, event: events.JobsReclaimed) -> None:
        if event.jobs:
            queue = ""
            if len(event.queues) == 1:
                queue = event.queues[0]
            self._tell_upkeep(
                "reclaim", queue, {spans.JOBS: event.jobs, spans.LEASES: event.leases}
            )

    def _on_promoted(self, event: events.JobsPromoted) -> None:
        self._tell_upkeep("promote", event.queue, {spans.JOBS: event.jobs})

    def _on_cron(self, event: events.CronEnqueued) -> None:
        found: Attributes = {
            spans.SCHEDULE: event.schedule,
            spans.MESSAGE_ID: str(event.ref),
            spans.TICK_LAG: round(event.lag_s * 1000),
        }
        self._tell_upkeep("cron", event.queue, found, event.name, type="create")

    def _tell_upkeep(
        self, name: str, queue: str, found: Attributes, job: str = "", *, type: str = "settle"
    ) -> None:
        try:
            about = common(self._server, queue, job, operation=name, type=type) | found
            self._tracer.start_span(
                name, context=Context(), kind=SpanKind.INTERNAL, attributes=about
            ).end()
        except BaseException:
            failed("a span of upkeep")


def _end(traced: _Traced) -> None:
    try:
        traced.end()
    except BaseException:
        failed("the end of a span of an attempt")


def _is_child(attempt: AttemptInfo, carried: Carried) -> bool:
    """Whether the attempt belongs to the trace of its enqueue. Otherwise it only links to it."""
    if attempt.tracing != "auto":
        return attempt.tracing == "child"
    # A job that was taken before carries the span of that attempt, even if no attempt is spent.
    is_first = attempt.number == 1 and not carried.previous.is_valid
    is_soon = attempt.scheduled_ms is None and attempt.queue_time_ms < AUTO_MS
    return is_first and is_soon


def _leave_traces(attempt: AttemptInfo) -> None:
    """Set the context of an attempt without a span. The jobs that it enqueues still belong to its
    conversation."""
    try:
        # The worker may have been started within a span. Its jobs do not belong to that one.
        attach(Context())
        conversation.set(carrier.read(attempt.trace).conversation or str(attempt.ref))
    except BaseException:
        failed("the context of an attempt without a span")
