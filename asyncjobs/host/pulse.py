"""The sign of life of an event loop, for threads that watch it."""

from __future__ import annotations

import asyncio
import time

__all__ = ["Pulse", "Standstill"]


class Pulse:
    """A time mark that a timer on the loop renews. Read it from any thread.

    It is a mark of the loop and not of the worker's processor. A processor may wait long for a
    store, or for the end of its jobs. It is alive all the same, and must not lose its lease.
    """

    def __init__(self, interval_s: float) -> None:
        self.interval_s = interval_s
        self.mark_s = time.monotonic()
        """When the loop was last known to turn, in monotonic seconds."""
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self.mark_s = time.monotonic()
        self._timer = self._loop.call_later(self.interval_s, self.start)

    def stop(self) -> None:
        """The mark is not renewed any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Standstill:
    """How long the pulse has been unchanged, for an observer that looks every `nap_s`.

    When looks come too late, the observer itself was paused: the process was stopped (SIGSTOP), or
    the machine was (a VM freeze). No job is to blame for that, so such time does not count.
    """

    __slots__ = ("_excused_s", "_last_s", "_nap_s", "mark_s")

    def __init__(self, nap_s: float, now_s: float, mark_s: float) -> None:
        self._nap_s = nap_s
        self._last_s = now_s
        self._excused_s = 0.0
        self.mark_s = mark_s

    def look(self, now_s: float, mark_s: float) -> float:
        """Look once more. Returns the seconds that count."""
        if mark_s != self.mark_s:
            self.mark_s = mark_s
            self._excused_s = 0.0
        # A pause before the mark does not matter: the loop has turned since.
        since_s = max(self._last_s, mark_s)
        self._excused_s += max(now_s - since_s - 2 * self._nap_s, 0.0)
        self._last_s = now_s
        return max(now_s - mark_s - self._excused_s, 0.0)

    def excuse(self, now_s: float, mark_s: float) -> None:
        """The time so far does not count, because the loop was not running at all."""
        self.look(now_s, mark_s)
        self._excused_s = max(now_s - mark_s, 0.0)
