"""How much may wait to be sent, and who waits until there is room."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from asyncjobs.errors import StoreUnavailable

__all__ = ["Space"]

MAX_WAITING_JOBS: Final = 10_000
MAX_WAITING_BYTES: Final = 64 << 20


class Space:
    """Counts the jobs and bytes that wait for a batch; over the limits, callers queue here."""

    __slots__ = ("_loop", "_unavailable", "bytes", "jobs", "turns")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, unavailable: Callable[[], StoreUnavailable]
    ) -> None:
        """`unavailable` makes the error for those whose time is over before there is room."""
        self.jobs = 0
        self.bytes = 0
        self.turns: deque[asyncio.Future[None]] = deque()
        self._loop = loop
        self._unavailable = unavailable

    def is_full(self) -> bool:
        """Whether the next caller has to wait, and those who wait already go first."""
        return bool(self.turns) or self.jobs >= MAX_WAITING_JOBS or self.bytes >= MAX_WAITING_BYTES

    async def wait(self, deadline_s: float) -> None:
        """Wait for room. Raises StoreUnavailable at the deadline."""
        turn: asyncio.Future[None] = self._loop.create_future()
        self.turns.append(turn)
        try:
            async with asyncio.timeout_at(deadline_s):
                await turn
        except TimeoutError:
            raise self._unavailable() from None
        except asyncio.CancelledError:
            # Called and cancelled in one turn of the loop: the place is the next one's.
            if turn.done() and not turn.cancelled():
                self._call(1)
            raise

    def give_back(self, jobs: int, size: int) -> None:
        """So much has left: as many callers may come as jobs have gone."""
        self.jobs -= jobs
        self.bytes -= size
        if self.turns:
            self._call(jobs)

    def clear(self) -> None:
        """Nothing waits any more; callers go on, and find out themselves why."""
        self.jobs = self.bytes = 0
        self._call(len(self.turns))
        self.turns.clear()

    def _call(self, places: int) -> None:
        while self.turns and places > 0:
            turn = self.turns.popleft()
            if not turn.done():
                turn.set_result(None)
                places -= 1
