"""What people ask about unique keys in memory."""

from __future__ import annotations

from collections.abc import Sequence

from asyncjobs.store.locks import LockPage, LockRef
from asyncjobs.store.memory.queues import Queues

__all__ = ["MemoryUniqueKeys"]


class MemoryUniqueKeys:
    """See `UniqueKeys`."""

    def __init__(self, queues: Queues) -> None:
        self._queues = queues

    async def page(self, queue: str, after: bytes | None = None, limit: int = 500) -> LockPage:
        """See `UniqueKeys.page`. In the order of the keys."""
        self._queues.raise_broken([queue])
        found = self._queues.by_name.get(queue)
        locks = []
        if found is not None:
            locks = [lock for lock in found.locks.listed() if after is None or lock.ref.key > after]
        # The last key is the place: keys that come or go meanwhile move no other one.
        page = locks[:limit]
        next_page = None
        if len(locks) > limit:
            next_page = page[-1].ref.key
        return LockPage(page, next_page, self._queues.now_ms())

    async def free(self, locks: Sequence[LockRef]) -> list[bool]:
        self._queues.raise_broken(lock.queue for lock in locks)
        now = self._queues.now_ms()
        by_name = self._queues.by_name
        return [
            lock.queue in by_name
            and by_name[lock.queue].amending.free(lock.key, lock.holder.id, now)
            for lock in locks
        ]
