"""Drops dead letters and remembered ids that are too old or too many."""

from __future__ import annotations

import random
from typing import Final, Self

from asyncjobs.store.seam import Backend
from asyncjobs.worker.duties.duty import Duty, Site
from asyncjobs.worker.lease.session import Session

__all__ = ["Prune"]

STEP: Final = 1000
"""The most dead letters that one request drops, so that the store can answer others."""


class Prune(Duty):
    """Keeps dead letters and remembered ids within their limits of age and number."""

    def __init__(self, backend: Backend, session: Session) -> None:
        self._backend = backend
        self._session = session

    @classmethod
    def of(cls, site: Site) -> Self:
        return cls(site.backend, site.session)

    async def run(self) -> float:
        dropped = await self._backend.prune(self._session.spec.queues, STEP)
        # After a full step there may be more. The random pause spreads the requests of a fleet.
        if dropped >= STEP:
            return 0.1
        return random.uniform(45, 75)
