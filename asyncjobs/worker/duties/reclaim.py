"""Giving back the jobs of workers that died."""

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
"""Jobs of one queue that one call gives back, so that the store stays free for others."""
HEARS_S: Final = 0.5
"""How long it may take until a heartbeat that tells of an earlier end is acted on."""


class Reclaim(Duty):
    """Gives back the jobs of workers whose lease has ended, when the first one ends.

    Each heartbeat says anew when that can be. While all others renew theirs it is always
    yet to come, and nothing is asked.
    """

    def __init__(
        self,
        backend: Backend,
        session: Session,
        hub: Events,
        call: Callable[[Collection[str]], None],
    ) -> None:
        """`call` is given the queues when jobs were given back. A worker that died or stands
        still may have been waiting, and gets the store's call for them; nobody else would
        hear of it."""
        self._backend = backend
        self._session = session
        self._events = hub
        self._call = call
        self._due_s = float("-inf")
        self._log = AwayLog("reclaiming")

    @classmethod
    def of(cls, site: Site) -> Self:
        return cls(site.backend, site.session, site.hub, site.processor.hear_signal)

    def hear_beat(self, beat: Heartbeat) -> None:
        """The store has renewed the lease and said when the next one of others ends."""
        end_ms = beat.next_lease_end_ms
        # A lease is over when its end has passed, not at it.
        # rule:2 a heartbeat says when the next lease of others ends
        self._set_due(None if end_ms is None else end_ms - beat.now_ms + 1)

    def hear_reclaim_due(self) -> None:
        """Somebody knows that a lease has ended."""
        self._set_due(0)

    def _set_due(self, in_ms: int | None) -> None:
        left_s = float("inf") if in_ms is None else in_ms / 1000
        self._due_s = time.monotonic() + left_s

    async def run(self) -> float:
        if (left_s := self._due_s - time.monotonic()) > 0:
            return min(left_s, HEARS_S)
        lease, known_s = self._session.spec, self._due_s
        answer = await self._backend.reclaim(lease.queues, lease.grace_ms, STEP)
        self._log.note(answer.away)
        # A heartbeat that came meanwhile may know of an end that this answer does not.
        heard_s = self._due_s if self._due_s != known_s else float("inf")
        # rule:2 reclaim comes when the next lease ends
        self._set_due(answer.again_ms)
        self._due_s = min(self._due_s, heard_s)
        if answer.returned:
            # rule:1 who gives jobs back looks for them at once
            self._call(lease.queues)
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
