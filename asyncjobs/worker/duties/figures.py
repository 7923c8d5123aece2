"""Tells the store what the attempts of this worker took."""

from __future__ import annotations

import random
from typing import Final, Self

from asyncjobs.store.seam import Backend
from asyncjobs.worker.duties.duty import Duty, Site
from asyncjobs.worker.engine.counting import RunCounts

__all__ = ["TellFigures"]

SHORTEST_S: Final = 8.0
LONGEST_S: Final = 12.0
"""The pause between two calls is random, so that a fleet does not call at one moment."""


class TellFigures(Duty):
    """Sends what was counted. What a worker that is killed has not sent yet is missing in the
    figures: at most that of the last 12 seconds."""

    def __init__(self, backend: Backend, counts: RunCounts) -> None:
        self._backend = backend
        self._counts = counts

    @classmethod
    def of(cls, site: Site) -> Self | None:
        counts = site.processor.counts
        if not counts.is_on:
            return None
        return cls(site.backend, counts)

    async def run(self) -> float:
        await self.finish()
        return random.uniform(SHORTEST_S, LONGEST_S)

    async def finish(self) -> None:
        # Taken before they are sent: what has no answer is not sent again, see `add_figures`.
        figures = self._counts.take()
        if figures:
            await self._backend.add_figures(figures)
