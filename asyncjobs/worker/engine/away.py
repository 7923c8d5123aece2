"""Attempts that wait for other jobs, and have given their slots away meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from asyncjobs.worker.engine.attempt import Attempt

__all__ = ["Away"]

AWAY_AT_LEAST: Final = 1_000
"""So many attempts may be away, even of a worker with few slots: each waits for jobs that may wait
for others. Each keeps its memory."""
AWAY_BY_SLOT: Final = 10


class Away:
    """Counts the slots that were given away, and lets attempts come back when there is one.

    An attempt that comes back goes before new jobs: its slot counts as used from then on, so that
    no more are taken. `is_running`, `count`: the attempts of the worker, those that are away among
    them.
    """

    def __init__(
        self, slots: int, is_running: Callable[[Attempt], bool], count: Callable[[], int]
    ) -> None:
        self._slots = slots
        self._is_running = is_running
        self._count = count
        self._most = max(AWAY_AT_LEAST, AWAY_BY_SLOT * slots)
        self._away: dict[Attempt, None] = {}
        self._back: dict[Attempt, asyncio.Future[None]] = {}
        """Attempts that wait for a slot, in order."""

    def count(self) -> int:
        """How many running attempts use no slot. Those that wait for one again are not counted:
        theirs is spoken for."""
        return len(self._away)

    def go(self, attempt: Attempt) -> bool:
        """Give the slot of this attempt away. False if it keeps it: too many are away, or it is
        away already and has a second wait."""
        # rule:38 the number of attempts that are away has a bound
        if len(self._away) >= self._most or attempt in self._away or attempt in self._back:
            return False
        self._away[attempt] = None
        return True

    async def come_back(self, attempt: Attempt) -> None:
        """Wait for a slot."""
        self._away.pop(attempt, None)
        # rule:38 who comes back waits for a slot
        if self._active() <= self._slots and not self._back:
            return
        self._back[attempt] = asyncio.get_running_loop().create_future()
        try:
            await self._back[attempt]
        finally:
            self._back.pop(attempt, None)

    def forget(self, attempt: Attempt) -> None:
        """The attempt was told to stop, and waits for nothing more."""
        self._away.pop(attempt, None)

    def admit(self) -> None:
        """Let in those that wait for a slot, as far as there are some. Called at each step of the
        worker: most have nobody away."""
        if not (self._away or self._back):
            return
        for attempt in [each for each in self._away if not self._is_running(each)]:
            # It was let go while it waited.
            del self._away[attempt]
        free = self._slots - self._active() + len(self._back)
        for attempt, future in list(self._back.items())[: max(free, 0)]:
            del self._back[attempt]
            if not future.done():
                future.set_result(None)

    def _active(self) -> int:
        """How many attempts use a slot or wait for one."""
        return self._count() - len(self._away)
