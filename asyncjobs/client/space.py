"""Limits how much may wait to be sent. Callers over the limit queue for room."""

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
    """Counts the jobs and bytes that wait for a batch. Over the limits, callers queue here."""

    __slots__ = ("_loop", "_unavailable", "bytes", "jobs", "turns")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, unavailable: Callable[[], StoreUnavailable]
    ) -> None:
        """`unavailable` makes the error for callers whose deadline passes before there is room."""
        self.jobs = 0
        self.bytes = 0
        self.turns: deque[asyncio.Future[None]] = deque()
        self._loop = loop
        self._unavailable = unavailable

    def is_full(self) -> bool:
        """Whether the next caller has to wait for room. Callers that wait already go first."""
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
            # The caller got its place and was cancelled in the same turn of the loop. The place
            # goes to the next caller; else it would be lost for good.
            if turn.done() and not turn.cancelled():
                self._let_in(1)
            raise

    def give_back(self, jobs: int, size: int) -> None:
        """So much was sent. Lets in as many callers as jobs have gone."""
        self.jobs -= jobs
        self.bytes -= size
        if self.turns:
            self._let_in(jobs)

    def clear(self) -> None:
        """The client is closed. Lets all callers in: each then gets NotOpen from the batcher."""
        self.jobs = self.bytes = 0
        self._let_in(len(self.turns))
        self.turns.clear()

    def _let_in(self, places: int) -> None:
        while self.turns and places > 0:
            turn = self.turns.popleft()
            if not turn.done():
                turn.set_result(None)
                places -= 1
