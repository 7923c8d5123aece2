"""The deadlines of callers: one timer for all of them, however many wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context

__all__ = ["Alarm", "is_over"]

_RESOLUTION_S = 0.001


def is_over(deadline_s: float, now_s: float) -> bool:
    """Whether this deadline has come: a timer may fire early by the clock's resolution."""
    return deadline_s <= now_s + _RESOLUTION_S


class Alarm:
    """Fails the callers whose time is over, and comes back for the next one.

    Set anew when it has gone off, not for each caller: most have their answer long before.
    Each of `checks` is told the time, fails whom it has to, and answers when to come back, or
    None.
    """

    __slots__ = ("_context", "_loop", "checks", "timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, context: Context) -> None:
        self.checks: tuple[Callable[[float], float | None], ...] = ()
        self.timer: asyncio.TimerHandle | None = None
        self._loop = loop
        self._context = context

    def arm(self, deadline_s: float) -> None:
        """Go off at that time of the loop, unless it goes off before."""
        if self.timer is None:
            self.timer = self._loop.call_at(deadline_s, self.go_off, context=self._context)

    def go_off(self) -> None:
        """Look at all callers."""
        self.timer = None
        now_s = self._loop.time()
        found = [check(now_s) for check in self.checks]
        next_times = [next_s for next_s in found if next_s is not None]
        if next_times:
            self.arm(min(next_times))

    def stop(self) -> None:
        """Go off no more."""
        if self.timer is not None:
            self.timer.cancel()
