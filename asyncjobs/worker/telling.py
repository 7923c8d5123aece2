"""What a worker says of verdicts and of its lease, to the log and to listeners."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable

from asyncjobs import events
from asyncjobs.events import Events, StartedAttempt
from asyncjobs.job import Settlement
from asyncjobs.worker.run import Body, Run

__all__ = ["tell_lease_lost", "tell_not_yours", "tell_started"]

logger = logging.getLogger("asyncjobs.worker")


def tell_not_yours(settlements: Iterable[Settlement]) -> None:
    """These had no effect."""
    for settlement in settlements:
        logger.warning(
            "%s: ended as %s here, but it belongs to another worker now; its word counts",
            settlement.job.ref,
            settlement.state.value,
        )


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


def tell_started(hub: Events, run: Run, worker: str, now_ms: int, body: Body) -> Body:
    """An attempt begins: `body`, or what a tracer puts around it."""
    job, envelope, name = run.job, run.envelope, run.function.name
    queue_time_ms = max(now_ms - job.ready_ms, 0)
    hub.emit(events.JobStarted(job.ref, name, envelope.attempt, queue_time_ms, run.shown_call))
    if hub.tracer is None:
        return body
    started = StartedAttempt(
        job,
        envelope.headers,
        name,
        envelope.attempt,
        run.settings.retry.max_attempts,
        envelope.scheduled_ms is not None,
        queue_time_ms,
        run.settings.tracing,
        worker,
        run.stop_asked,
    )
    return hub.tracer.attempt(started, body)
