"""Tells the log and listeners what the store has answered, and of a lost lease."""

from __future__ import annotations

from collections.abc import Collection

from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.model import events
from asyncjobs.model.events import Events
from asyncjobs.model.job import TakenJob
from asyncjobs.store.answers import Exchange
from asyncjobs.worker.engine.labels import call_of, label_of

__all__ = ["announce_exchange", "announce_given_back", "announce_lease_lost"]

logger = GuardedLog("asyncjobs.worker")


def announce_exchange(hub: Events, exchange: Exchange) -> None:
    """Jobs that became due, and settlements that had no effect or another one."""
    if exchange.promoted and hub.active:
        for queue, jobs in exchange.promoted:
            hub.emit(events.JobsPromoted(jobs, queue))
    for settlement in exchange.not_yours:
        logger.warning(
            "%s: ended as %s here, but it belongs to another worker now, whose outcome counts",
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


def announce_lease_lost(hub: Events, worker: str, queues: Collection[str], stopped: int) -> None:
    """The lease was lost in these queues. `stopped`: how many running jobs were stopped."""
    names = tuple(sorted(queues))
    logger.error(
        "the lease ended in %s; running jobs stopped here because they run elsewhere: %d",
        ", ".join(names),
        stopped,
    )
    if hub.active:
        hub.emit(events.LeaseLost(worker, names))


def announce_given_back(hub: Events, jobs: Collection[TakenJob]) -> None:
    """Jobs that were taken are given back before they have started."""
    if jobs and hub.active and hub.wants(events.JobReleased):
        for job in jobs:
            hub.emit(events.JobReleased(job.ref, *call_of(job), 0.0))
