"""The dead letters of a store in memory."""

from __future__ import annotations

from collections.abc import Sequence

from asyncjobs.model.job import Priority
from asyncjobs.model.refs import JobRef
from asyncjobs.store.letters import (
    DeadLetter,
    LetterKey,
    LetterPage,
    LetterQuery,
    Revival,
    Revived,
)
from asyncjobs.store.memory.queues import Queues

__all__ = ["MemoryDeadLetters"]


class MemoryDeadLetters:
    """See `DeadLetters`."""

    def __init__(self, queues: Queues) -> None:
        self._queues = queues

    async def page(self, query: LetterQuery, after: LetterKey | None = None) -> LetterPage:
        now = self._queues.now_ms()
        queue = self._queues.by_name.get(query.queue)
        if queue is None:
            return LetterPage([], None, 0, now)
        return queue.ended.letters(query, after, now)

    async def find(
        self, refs: Sequence[JobRef], *, cut: int | None = None
    ) -> list[DeadLetter | None]:
        by_name = self._queues.by_name
        return [
            by_name[ref.queue].ended.find_letter(ref, cut) if ref.queue in by_name else None
            for ref in refs
        ]

    async def revive(
        self, revivals: Sequence[Revival], *, priority: Priority | None = None
    ) -> list[Revived]:
        self._queues.raise_broken(revival.key.ref.queue for revival in revivals)
        now = self._queues.now_ms()
        by_name = self._queues.by_name
        verdicts = []
        for revival in revivals:
            queue = by_name.get(revival.key.ref.queue)
            verdict = Revived.GONE
            if queue is not None:
                verdict = queue.revive(revival, priority, now)
            verdicts.append(verdict)
        for name in {revival.key.ref.queue for revival in revivals} & by_name.keys():
            by_name[name].signal_news()
        return verdicts

    async def purge(self, letters: Sequence[LetterKey]) -> list[bool]:
        by_name = self._queues.by_name
        return [
            key.ref.queue in by_name and by_name[key.ref.queue].ended.purge(key) for key in letters
        ]
