"""The history of a store in memory."""

from __future__ import annotations

from asyncjobs.model.figures import Figures
from asyncjobs.model.history import FinishedJob
from asyncjobs.store.history import MAX_LOOK, FiguresQuery, FinishedPage, FinishedQuery, in_steps
from asyncjobs.store.memory.queues import Queues

__all__ = ["MemoryHistory"]


class MemoryHistory:
    """See `History`."""

    def __init__(self, queues: Queues) -> None:
        self._queues = queues

    async def finished(self, query: FinishedQuery, after: int | None = None) -> FinishedPage:
        now = self._queues.now_ms()
        self._queues.raise_broken([query.queue])
        if query.queue not in self._queues.by_name:
            return FinishedPage([], None, 0, now)
        found: list[FinishedJob] = []
        looked = 0
        for job in reversed(self._queues.by_name[query.queue].finished.jobs):
            if after is not None and job.number >= after:
                continue
            if len(found) == query.limit or looked == MAX_LOOK:
                return FinishedPage(found, after, looked, now)
            looked += 1
            after = job.number
            if query.wants(job):
                found.append(job)
            if query.since_ms is not None and job.ended_ms < query.since_ms:
                break
        return FinishedPage(found, None, looked, now)

    async def figures(self, query: FiguresQuery) -> list[Figures]:
        self._queues.raise_broken([query.queue])
        queue = self._queues.by_name.get(query.queue)
        if queue is None:
            return []
        return in_steps(query, queue.finished.figures.of(query.unit_ms, query.units))
