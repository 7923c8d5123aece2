"""The places of an executor that runs a limited number of attempts at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

__all__ = ["Places"]


class Places:
    """Owns the places, and knows which queues' jobs may need one."""

    def __init__(self, most: int, queues: Mapping[str, bool]) -> None:
        """`queues`: those with job functions that need a place, and whether they have no others."""
        self.queues = queues
        self._most = most
        self._free = asyncio.Semaphore(most)
        self._attempts = 0
        """Attempts that have a place or wait for one."""

    def most(self, arrived: int) -> dict[str, int]:
        """The most jobs that these queues may hand out. `arrived`: how many jobs have come and
        were not started.

        A job that would wait here for a place is better left to a worker that has one.
        """
        if not self.queues:
            return {}
        free = self._most - self._attempts - arrived
        most = {}
        for queue, has_no_others in self.queues.items():
            if has_no_others:
                most[queue] = max(free, 0)
            elif free < 0:
                # Its next job may be one that needs no place. So such a queue is closed only
                # while jobs wait for a place already.
                most[queue] = 0
        return most

    async def acquire(self) -> None:
        """Wait until there is a place for one more attempt."""
        self._attempts += 1
        try:
            await self._free.acquire()
        except BaseException:
            self._attempts -= 1
            raise

    def release(self) -> None:
        """Give a place back."""
        self._attempts -= 1
        self._free.release()
