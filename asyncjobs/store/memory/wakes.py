"""Who is parked on the queues of a store in memory, and whom a signal wakes."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, defaultdict
from collections.abc import Collection

__all__ = ["Wakes"]


class Wakes:
    """Owns the parked futures, and at most one unheard signal for each queue."""

    def __init__(self) -> None:
        self._unheard: set[str] = set()
        self._parked: defaultdict[str, OrderedDict[asyncio.Future[str], None]]
        self._parked = defaultdict(OrderedDict)

    def __len__(self) -> int:
        """How many are parked. One that is parked on several queues counts for each."""
        return sum(map(len, self._parked.values()))

    def signal(self, queue: str) -> None:
        """Wake the one who is parked for longest, or keep the signal for the next to park."""
        for future in self._parked.get(queue, ()):
            if not future.done():
                future.set_result(queue)
                return
        self._unheard.add(queue)

    def drop(self, queue: str) -> None:
        """Forget the signal of a queue that is forgotten."""
        self._unheard.discard(queue)

    async def wait(self, queues: Collection[str], timeout_s: float) -> Collection[str]:
        """The queue that signals work within the time, empty when none does."""
        for queue in queues:
            if queue in self._unheard:
                self._unheard.discard(queue)
                return (queue,)
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        for queue in queues:
            self._parked[queue][future] = None
        try:
            await asyncio.wait((future,), timeout=timeout_s)
        except asyncio.CancelledError:
            # Signalled and cancelled in one turn of the loop: another one must get the signal,
            # or the job waits although workers are idle.
            if future.done() and not future.cancelled():
                self.signal(future.result())
            raise
        finally:
            for queue in queues:
                self._parked[queue].pop(future, None)
        if future.done() and not future.cancelled():
            return (future.result(),)
        return ()

    def close(self) -> None:
        """End all waits."""
        for parked in self._parked.values():
            for future in parked:
                future.cancel()
