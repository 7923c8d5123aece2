"""The event loop's sign of life, for the threads that watch it."""

from __future__ import annotations

import asyncio
import time

__all__ = ["Pulse", "Standstill"]


class Pulse:
    """A mark that a timer on the loop sets again and again; read from any thread.

    The loop's and not the processor's: one that waits long for a store, or for the end of
    its jobs, is as alive as any, and must not lose its lease.
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
        """The mark stays as it is."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Standstill:
    """For how long the mark has stayed what it is, as one sees it who looks every `nap_s`.

    When looks come too late the whole process stood still, or nearly: it was stopped, or
    the machine was. Nobody is to blame for that, so it does not count.
    """

    __slots__ = ("_excused_s", "_last_s", "_nap_s", "mark_s")

    def __init__(self, nap_s: float, now_s: float, mark_s: float) -> None:
        self._nap_s = nap_s
        self._last_s = now_s
        self._excused_s = 0.0
        self.mark_s = mark_s

    def look(self, now_s: float, mark_s: float) -> float:
        """The seconds, by this look and those before."""
        if mark_s != self.mark_s:
            self.mark_s, self._excused_s = mark_s, 0.0
        # Not what was before the mark: the loop has turned since.
        since_s = max(self._last_s, mark_s)
        self._excused_s += max(now_s - since_s - 2 * self._nap_s, 0.0)
        self._last_s = now_s
        return max(now_s - mark_s - self._excused_s, 0.0)

    def excuse(self, now_s: float, mark_s: float) -> None:
        """What has passed so far does not count: the loop was not running at all."""
        self.look(now_s, mark_s)
        self._excused_s = max(now_s - mark_s, 0.0)
