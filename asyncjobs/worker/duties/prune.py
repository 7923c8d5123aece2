"""Dropping dead letters and remembered ids that are over their bounds."""

from __future__ import annotations

import random
from typing import Final, Self

from asyncjobs.store.seam import Backend
from asyncjobs.worker.duties.duty import Duty, Site
from asyncjobs.worker.lease.session import Session

__all__ = ["Prune"]

STEP: Final = 1000
"""Dead letters that one call drops, so that the store stays free for others."""


class Prune(Duty):
    """Keeps dead letters and remembered ids within their age and number."""

    def __init__(self, backend: Backend, session: Session) -> None:
        self._backend = backend
        self._session = session

    @classmethod
    def of(cls, site: Site) -> Self:
        return cls(site.backend, site.session)

    async def run(self) -> float:
        dropped = await self._backend.prune(self._session.spec.queues, STEP)
        # A full step hints at more; with many workers a minute's jitter spreads the calls.
        if dropped >= STEP:
            return 0.1
        return random.uniform(45, 75)
