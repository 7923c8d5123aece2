"""One timer for the deadlines of all callers, however many wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context

__all__ = ["Alarm", "is_over"]

_RESOLUTION_S = 0.001


def is_over(deadline_s: float, now_s: float) -> bool:
    """Whether this deadline has passed. A timer may fire early by the clock's resolution."""
    return deadline_s <= now_s + _RESOLUTION_S


class Alarm:
    """Fails the callers whose deadline has passed.

    The timer is set again when it goes off, not for each caller: nearly all callers have their
    answer long before their deadline. Each of `checks` gets the time, fails the callers that are
    late, and returns when it has to be called again, or None.
    """

    __slots__ = ("_context", "_loop", "checks", "timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, context: Context) -> None:
        self.checks: tuple[Callable[[float], float | None], ...] = ()
        self.timer: asyncio.TimerHandle | None = None
        self._loop = loop
        self._context = context

    def arm(self, deadline_s: float) -> None:
        """Go off at that time of the loop, unless a time is set already."""
        if self.timer is None:
            self.timer = self._loop.call_at(deadline_s, self.go_off, context=self._context)

    def go_off(self) -> None:
        """Check all callers, and set the timer for the next deadline."""
        self.timer = None
        now_s = self._loop.time()
        found = [check(now_s) for check in self.checks]
        next_times = [next_s for next_s in found if next_s is not None]
        if next_times:
            self.arm(min(next_times))

    def stop(self) -> None:
        """Cancel the timer."""
        if self.timer is not None:
            self.timer.cancel()
