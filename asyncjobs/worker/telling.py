"""What a worker says of verdicts and of its lease, to the log and to listeners."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

from asyncjobs import events
from asyncjobs.backends.base import Exchange
from asyncjobs.events import Events, StartedAttempt, Tracer
from asyncjobs.guarded import GuardedLog
from asyncjobs.job import TakenJob
from asyncjobs.worker.run import Attempt, Body, call_of, label_of

__all__ = ["tell_exchanged", "tell_given_back", "tell_lease_lost", "tell_started"]

logger = GuardedLog("asyncjobs.worker")


def tell_exchanged(hub: Events, exchange: Exchange) -> None:
    """Settlements that had no effect or another one, and jobs that became due."""
    if exchange.promoted and hub.active:
        for queue, jobs in exchange.promoted:
            hub.emit(events.JobsPromoted(jobs, queue))
    for settlement in exchange.not_yours:
        logger.warning(
            "%s: ended as %s here, but it belongs to another worker now; its word counts",
            settlement.job.ref,
            settlement.state.value,
            extra=label_of(settlement.job),
        )
    for settlement in exchange.cancelled:
        job = settlement.job
        name, attempt = call_of(job)
        logger.info("%s: cancelled, not run again", job.ref, extra=label_of(job, name, attempt))
        if hub.active:
            hub.emit(events.JobCancelled(job.ref, name, attempt, 0.0, was_queued=True))


def tell_lease_lost(hub: Events, worker: str, queues: Collection[str], stopped: int) -> None:
    """The lease is gone in these queues, and so many running jobs were stopped."""
    names = tuple(sorted(queues))
    logger.error(
        "the lease ended in %s; running jobs stopped here because they run elsewhere: %d",
        ", ".join(names),
        stopped,
    )
    if hub.active:
        hub.emit(events.LeaseLost(worker, names))


def tell_given_back(hub: Events, jobs: Collection[TakenJob]) -> None:
    """Jobs that came to this worker go back before they were started."""
    if jobs and hub.active and hub.wants(events.JobReleased):
        for job in jobs:
            hub.emit(events.JobReleased(job.ref, *call_of(job), 0.0))


def tell_started(hub: Events, attempt: Attempt, worker: str, now_ms: int, body: Body) -> Body:
    """An attempt begins: `body`, or what a tracer puts around it. That of a sync function
    begins when there is a thread for it."""
    tracer = hub.tracer
    if not attempt.function.is_async:
        attempt.on_begin = partial(_begin_late, hub, tracer, worker)
        return body if tracer is None else tracer.waiting(body)
    queue_time_ms = max(now_ms - attempt.job.ready_ms, 0)
    event = _started(attempt, queue_time_ms) if hub.wants(events.JobStarted) else None
    if event is not None:
        body = _telling(hub, event, body)
    if tracer is None:
        return body
    return tracer.attempt(_described(attempt, worker, queue_time_ms), body)


def _begin_late(
    hub: Events, tracer: Tracer | None, worker: str, attempt: Attempt, now_ms: int
) -> None:
    queue_time_ms = max(now_ms - attempt.job.ready_ms, 0)
    if tracer is not None:
        tracer.begin(_described(attempt, worker, queue_time_ms))
    if hub.wants(events.JobStarted):
        hub.emit(_started(attempt, queue_time_ms))


async def _telling(hub: Events, event: events.JobStarted, body: Body) -> None:
    # Within the task and the span: what listeners set belongs to this attempt, and not to all
    # that are started after it; what they write or measure belongs to its trace.
    hub.emit(event)
    await body


def _started(attempt: Attempt, queue_time_ms: int) -> events.JobStarted:
    name = attempt.function.name
    number = attempt.envelope.attempt
    return events.JobStarted(attempt.job.ref, name, number, queue_time_ms, attempt.shown_call)


def _described(attempt: Attempt, worker: str, queue_time_ms: int) -> StartedAttempt:
    envelope = attempt.envelope
    return StartedAttempt(
        attempt.job,
        envelope.headers.trace,
        attempt.function.name,
        envelope.attempt,
        attempt.settings.retry.max_attempts,
        envelope.scheduled_ms is not None,
        queue_time_ms,
        attempt.settings.tracing,
        worker,
        attempt.stop_asked,
    )
