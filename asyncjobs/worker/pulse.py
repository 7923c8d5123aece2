"""The event loop's sign of life, for the threads that watch it."""

from __future__ import annotations

import asyncio
import time

__all__ = ["Pulse"]


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
