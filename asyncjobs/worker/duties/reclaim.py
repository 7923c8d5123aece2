"""Gives back the jobs of workers that died."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Final, Self

from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.model import events
from asyncjobs.model.events import Events
from asyncjobs.store.answers import Heartbeat
from asyncjobs.store.seam import Backend
from asyncjobs.worker.duties.duty import Duty, Site
from asyncjobs.worker.engine.doubt import AwayLog
from asyncjobs.worker.lease.session import Session

__all__ = ["Reclaim"]

logger = GuardedLog("asyncjobs.worker")

STEP: Final = 1000
"""The most jobs of one queue that one request gives back, so that the store can answer others."""
HEARS_S: Final = 0.5
"""The longest sleep before a reclaim. A heartbeat may report an earlier end meanwhile."""


class Reclaim(Duty):
    """Removes leases that have ended, and gives their jobs back.

    Each heartbeat reports when the next lease of another worker ends. While all workers renew
    theirs, that time never comes, and the store is not asked.
    """

    def __init__(
        self,
        backend: Backend,
        session: Session,
        hub: Events,
        on_returned: Callable[[Collection[str]], None],
    ) -> None:
        """`on_returned`: called with the queues when jobs were given back. The store signals these
        jobs, too, but perhaps to a worker that has died in its wait."""
        self._backend = backend
        self._session = session
        self._events = hub
        self._on_returned = on_returned
        self._due_s = float("-inf")
        self._log = AwayLog("reclaiming")

    @classmethod
    def of(cls, site: Site) -> Self:
        return cls(site.backend, site.session, site.hub, site.processor.hear_signal)

    def hear_beat(self, beat: Heartbeat) -> None:
        """The store has renewed the lease and said when the next one of others ends."""
        end_ms = beat.next_lease_end_ms
        in_ms = None
        if end_ms is not None:
            # One more: a lease is over after its end, not at it.
            in_ms = end_ms - beat.now_ms + 1
        # rule:2 a heartbeat says when the next lease of others ends
        self._set_due(in_ms)

    def hear_reclaim_due(self) -> None:
        """A signal says that a lease has ended."""
        self._set_due(0)

    def _set_due(self, in_ms: int | None) -> None:
        left_s = float("inf")
        if in_ms is not None:
            left_s = in_ms / 1000
        self._due_s = time.monotonic() + left_s

    async def run(self) -> float:
        if (left_s := self._due_s - time.monotonic()) > 0:
            return min(left_s, HEARS_S)
        lease = self._session.spec
        known_s = self._due_s
        answer = await self._backend.reclaim(lease.queues, lease.grace_ms, STEP)
        self._log.note(answer.away)
        # A heartbeat that came meanwhile may know of an end that this answer does not know of.
        heard_s = float("inf")
        if self._due_s != known_s:
            heard_s = self._due_s
        # rule:2 reclaim comes when the next lease ends
        self._set_due(answer.again_ms)
        self._due_s = min(self._due_s, heard_s)
        if answer.returned:
            # rule:1 who gives jobs back looks for them at once
            self._on_returned(lease.queues)
        if answer.returned or answer.leases:
            logger.warning(
                "leases ended without a farewell: %d; jobs that are ready again: %d",
                answer.leases,
                answer.returned,
            )
            if self._events.active:
                told = events.JobsReclaimed(answer.returned, answer.leases, tuple(lease.queues))
                self._events.emit(told)
        return 0.0
