"""Brings what is left in outboxes to other queues, and drops what has come there for good."""

from __future__ import annotations

import random
from typing import Final, Self

from asyncjobs.store.seam import Backend
from asyncjobs.worker.duties.duty import Duty, Site
from asyncjobs.worker.engine.doubt import AwayLog
from asyncjobs.worker.lease.session import Session

__all__ = ["Relay"]

SHORTEST_S: Final = 8.0
LONGEST_S: Final = 12.0
"""The pause between two looks is random, so that a fleet does not look at one moment."""
MORE_S: Final = 0.05
"""The pause while there is more that moves."""
MOST_AT_THE_END: Final = 100
"""How often a worker that leaves asks at the most. Others do the rest."""


class Relay(Duty):
    """Relays the outboxes of the queues of this worker. Who settles, or cancels by hand, relays at
    once, so there is something here only after a crash, an outage, or much at a time."""

    def __init__(self, backend: Backend, session: Session) -> None:
        self._backend = backend
        self._session = session
        self._log = AwayLog("a relay")

    @classmethod
    def of(cls, site: Site) -> Self | None:
        if not site.backend.capabilities.across_queues:
            return None
        return cls(site.backend, site.session)

    async def run(self) -> float:
        if await self._once():
            return MORE_S
        return random.uniform(SHORTEST_S, LONGEST_S)

    async def finish(self) -> None:
        # The last settlements may have noted something a moment ago, and this worker may be the
        # only one for long.
        for _ in range(MOST_AT_THE_END):
            if not await self._once():
                return

    async def _once(self) -> bool:
        """Relay a part. Whether there is more that moves."""
        answer = await self._backend.relay(self._session.spec.queues)
        self._log.note(answer.away)
        return bool(answer.moved and answer.left)
