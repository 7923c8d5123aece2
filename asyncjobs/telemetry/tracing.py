"""Traces: a span for each enqueue, and one for each attempt, linked to where it came from."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Sequence
from contextvars import ContextVar
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

from asyncjobs import events
from asyncjobs.config import AppSettings
from asyncjobs.events import Events, StartedAttempt
from asyncjobs.job import JobRef, Priority, TakenJob
from asyncjobs.jobs.template import JobTemplate
from asyncjobs.model.ends import OUTCOMES
from asyncjobs.policy.retry import class_name, is_on_purpose
from asyncjobs.telemetry import carrier, spans
from asyncjobs.telemetry.carrier import Carried
from asyncjobs.telemetry.instruments import ERROR, OTHER, OUTCOME
from asyncjobs.telemetry.sending import Sending, conversation
from asyncjobs.telemetry.spans import Attributes, Fixed, Server, common, failed

__all__ = ["Tracing"]

AUTO_MS: Final = 30_000
"""In mode `auto`, an attempt belongs to the trace of its enqueue if it began sooner."""

_STOPS: Final = {
    "timeout": "timeout", "shutdown": "shutdown_requested", "lease lost": "lease_lost",
}  # fmt: skip
"""The event of a span for what its attempt was told to stop for."""
_CONSUMER: Final = SpanKind.CONSUMER  # looked up in an enum it costs more, each time
_LISTENED: Final = OUTCOMES.keys() - {events.JobSucceeded, events.JobExpired}
"""Of a success it is told without an event; who listens to discarded jobs hears of expired ones."""
_PRIORITIES: Final = {priority.value: priority.name.lower() for priority in Priority}
_CREATION: Final = {spans.LINK: spans.CREATION}
_PREVIOUS: Final = {spans.LINK: spans.PREVIOUS}
_SILENT_ENDS: Final = {
    "shutdown": OUTCOMES[events.JobReleased],
    "lease lost": OUTCOMES[events.JobLost],
    "cancel": OUTCOMES[events.JobCancelled],
}
"""How an attempt that nobody told of has ended, by what it was told to stop for."""


class _Attempt:
    """One running attempt and its span."""

    __slots__ = ("is_over", "is_told", "ref", "span", "started")

    def __init__(self, started: StartedAttempt, ref: tuple[str, str], span: Span) -> None:
        self.started = started
        self.ref = ref
        self.span = span
        self.is_told = self.is_over = False
        """Whether its outcome has been written down, and whether its span has ended."""

    def tell(self, event: events.AttemptEnded) -> None:
        """Write down how it ended."""
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
        elif isinstance(event, events.JobDead):
            self._fail(event.error, event.reason)
        elif isinstance(event, events.JobLost):
            self._fail(None, outcome)

    def tell_success(self) -> None:
        """Write down that the job function returned."""
        self.is_told = True
        span = self.span
        if span.is_recording():
            self._tell_stop()
            span.set_attribute(OUTCOME, OUTCOMES[events.JobSucceeded])

    def _fail(self, error: BaseException | None, reason: str) -> None:
        # No text: what an exception says may hold arguments of the job.
        self.span.set_attribute(ERROR, reason if error is None else class_name(type(error)))
        self.span.set_status(Status(StatusCode.ERROR))

    def _tell_stop(self) -> None:
        stop = self.started.stop_asked()
        if stop is not None and (name := _STOPS.get(stop[0])) is not None:
            self.span.add_event(name, timestamp=time.time_ns() - round(stop[1] * 1e9))

    def end(self) -> None:
        """The task is over, or nobody waits for it any more."""
        if self.is_over:
            return
        self.is_over = True
        if not self.is_told:
            # Let go of by a worker that ends: nobody has said how it ended.
            self._tell_stop()
            stop = self.started.stop_asked()
            if stop is not None and (outcome := _SILENT_ENDS.get(stop[0])) is not None:
                self.span.set_attribute(OUTCOME, outcome)
                if outcome == OUTCOMES[events.JobLost]:
                    self._fail(None, outcome)
        self.span.end()


_running: ContextVar[_Attempt | None] = ContextVar("asyncjobs_attempt", default=None)
_late: ContextVar[list[_Attempt]] = ContextVar("asyncjobs_late_attempt")
"""Where an attempt that waited puts itself when it begins."""


class Tracing:
    """Owns the spans of running attempts; makes those of enqueues. Never asks the store.

    Whatever OpenTelemetry, a sampler, a span processor or an exporter raises is logged once,
    and the job goes on: a SystemExit of theirs would end it.
    """

    def __init__(
        self, provider: TracerProvider, settings: AppSettings, address: Callable[[], str]
    ) -> None:
        """`address`: of the open store, as a URL; empty while there is none."""
        self._tracer = spans.new_tracer(provider)
        self._server = Server(address)
        self._enqueues = Fixed(self._server, operation="enqueue", type="send")
        self._processes = Fixed(self._server, operation="process", type="process")
        self._settings = settings
        self._attempts: dict[tuple[str, str], _Attempt] = {}

    def attach(self, hub: Events) -> None:
        """Trace what this hub is told of."""
        hub.tracer = self
        # Not of all ends: of a success it is told by itself, with no event made for it.
        for kind in _LISTENED:
            hub.on(kind, self._on_end)
        if self._settings.trace_upkeep:
            hub.on(events.JobsReclaimed, self._on_reclaimed)
            hub.on(events.JobsPromoted, self._on_promoted)

    def enqueue(self, templates: Sequence[JobTemplate]) -> Sending:
        """The spans of jobs that one call enqueues, of these templates in this order."""
        return Sending(self._tracer, self._enqueues, self._settings, templates)

    # -- attempts (events.Tracer) ---------------------------------------------------------

    def attempt(
        self, started: StartedAttempt, body: Coroutine[Any, Any, None]
    ) -> Coroutine[Any, Any, None]:
        """`body` within the span of its attempt."""
        return _outside(started, body) if started.mode == "none" else self._surround(started, body)

    async def waiting(self, body: Coroutine[Any, Any, None]) -> None:
        """`body`, within which the span of its attempt may begin."""
        # Not looked up at the end: a coroutine may be closed in the context of another one.
        late: list[_Attempt] = []
        _late.set(late)
        try:
            await body
        finally:
            for attempt in late:
                self._close(attempt)

    def begin(self, started: StartedAttempt) -> None:
        """The span of an attempt that waited begins."""
        if started.mode == "none":
            _leave_traces(started)
            return
        attempt = self._begun(started)
        late = _late.get(None)
        if attempt is not None and late is not None:
            late.append(attempt)

    def succeeded(self, job: TakenJob) -> None:
        """The job function of this attempt, in whose task this is called, has returned."""
        attempt = _running.get()
        if attempt is None or attempt.started.job is not job:
            return  # of an attempt without a span, in a worker that a job has started
        try:
            attempt.tell_success()
        except BaseException:
            failed("the outcome of an attempt")

    def carry(self, ref: JobRef, trace: Any) -> Any:
        """The same with the span of the job's attempt as that of the previous one."""
        attempt = self._attempts.get(ref)
        if attempt is None:
            return trace
        try:
            return carrier.with_previous(trace, attempt.span.get_span_context())
        except BaseException:
            failed("the link to an attempt")
            return trace

    async def _surround(self, started: StartedAttempt, body: Coroutine[Any, Any, None]) -> None:
        attempt = self._begun(started)
        try:
            await body
        finally:
            if attempt is not None:
                self._close(attempt)

    def _begun(self, started: StartedAttempt) -> _Attempt | None:
        try:
            return self._begin(started)
        except BaseException:
            failed("the span of an attempt")
            return None

    def _close(self, attempt: _Attempt) -> None:
        _end(attempt)
        if self._attempts.get(attempt.ref) is attempt:
            del self._attempts[attempt.ref]

    def _begin(self, started: StartedAttempt) -> _Attempt:
        carried = carrier.read(started.trace)
        creation, previous, context, first = carried
        links: list[Link] = []
        if creation.is_valid:
            if _is_child(started, carried):
                context = set_span_in_context(NonRecordingSpan(creation), context)
            else:
                links.append(Link(creation, _CREATION))
        if previous is not INVALID_SPAN_CONTEXT and previous.is_valid:
            links.append(Link(previous, _PREVIOUS))
        queue, id = ref = started.job[:2]  # equal to its JobRef, for a third of the time
        message_id = f"{queue}/{id}"
        first = first or message_id
        name, fixed = self._processes.of(queue, started.name)
        span = self._tracer.start_span(
            name,
            context=context,
            kind=_CONSUMER,
            attributes=self._attributes(started, fixed, message_id, first),
            links=links,
        )
        attempt = _Attempt(started, ref, span)
        # For good: the task and its context are this attempt's own. To detach would be a
        # fault wherever a coroutine is closed in another context.
        attach(set_span_in_context(span, context))
        conversation.set(first)
        _running.set(attempt)
        self._attempts[ref] = attempt
        return attempt

    def _attributes(
        self, started: StartedAttempt, fixed: Attributes, id: str, first: str
    ) -> Attributes:
        # All at once, and before the sampler looks: to set one later costs more than a µs.
        return {
            **fixed,
            spans.MESSAGE_ID: id,
            spans.CONVERSATION: first,
            spans.CLIENT: started.worker,
            spans.GROUP: self._settings.prefix,
            spans.ATTEMPT: started.attempt,
            spans.MAX_ATTEMPTS: started.max_attempts,
            spans.PRIORITY: _PRIORITIES[started.job.priority],
            spans.QUEUE_TIME: started.queue_time_ms,
        }

    # -- events -----------------------------------------------------------------------------

    def _on_end(self, event: events.AttemptEnded) -> None:
        attempt = _running.get()
        if attempt is not None and attempt.ref == event.ref:
            self._tell(attempt, event)
            return
        # Told from elsewhere: of a job that never started, or of an attempt that ignores
        # that it was told to stop, whose span would never end.
        attempt = self._attempts.get(event.ref)
        if attempt is None or attempt.is_over:
            return
        if attempt.started.stop_asked() is not None:
            self._tell(attempt, event)
            _end(attempt)

    def _tell(self, attempt: _Attempt, event: events.AttemptEnded) -> None:
        try:
            attempt.tell(event)
        except BaseException:
            failed("the outcome of an attempt")

    def _on_reclaimed(self, event: events.JobsReclaimed) -> None:
        if event.jobs:
            queue = event.queues[0] if len(event.queues) == 1 else ""
            self._tell_upkeep(
                "reclaim", queue, {spans.JOBS: event.jobs, spans.LEASES: event.leases}
            )

    def _on_promoted(self, event: events.JobsPromoted) -> None:
        self._tell_upkeep("promote", event.queue, {spans.JOBS: event.jobs})

    def _tell_upkeep(self, name: str, queue: str, found: Attributes) -> None:
        try:
            about = common(self._server, queue, "", operation=name, type="settle") | found
            self._tracer.start_span(
                name, context=Context(), kind=SpanKind.INTERNAL, attributes=about
            ).end()
        except BaseException:
            failed("a span of upkeep")


def _end(attempt: _Attempt) -> None:
    try:
        attempt.end()
    except BaseException:
        failed("the end of a span of an attempt")


def _is_child(started: StartedAttempt, carried: Carried) -> bool:
    """Whether the attempt belongs to the trace of its enqueue; else it only links to it."""
    if started.mode != "auto":
        return started.mode == "child"
    is_first = started.attempt == 1 and not carried.previous.is_valid
    return is_first and not started.is_scheduled and started.queue_time_ms < AUTO_MS


async def _outside(started: StartedAttempt, body: Coroutine[Any, Any, None]) -> None:
    _leave_traces(started)
    await body


def _leave_traces(started: StartedAttempt) -> None:
    """This attempt has no span. What it enqueues belongs to its conversation all the same."""
    try:
        # The worker may have been started within a span, to which its jobs do not belong.
        attach(Context())
        conversation.set(carrier.read(started.trace).conversation or str(started.job.ref))
    except BaseException:
        failed("the context of an attempt without a span")
