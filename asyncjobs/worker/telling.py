"""What a worker says of verdicts and of its lease, to the log and to listeners."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable

from asyncjobs import events
from asyncjobs.events import Events
from asyncjobs.job import Settlement

__all__ = ["tell_lease_lost", "tell_not_yours"]

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
