"""The wall clock that asyncjobs reads during a test."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from asyncjobs.model import clock as wall

__all__ = ["WallClock"]

MODULE: Final = "time"
"""The name of the module that `model/clock.py` asks for the time."""


class WallClock:
    """A wall clock that can be put forward, and stopped. Stands in for the module `time` where
    asyncjobs reads the wall clock."""

    def __init__(self) -> None:
        self._ahead_ns = 0
        self._still_ns: int | None = None

    def time_ns(self) -> int:
        """Nanoseconds since the epoch."""
        if self._still_ns is not None:
            return self._still_ns
        # Asked through the module each time: libraries that set the time of a whole test, such as
        # time-machine and freezegun, are then followed.
        return time.time_ns() + self._ahead_ns

    def now_ms(self) -> int:
        """The same in milliseconds, for a store."""
        return self.time_ns() // 1_000_000

    def stop(self) -> None:
        """From now on it moves by `put_forward` alone."""
        self._still_ns = self.time_ns()

    def put_forward(self, ms: int) -> None:
        """Let this time pass at once."""
        if self._still_ns is not None:
            self._still_ns += ms * 1_000_000
        self._ahead_ns += ms * 1_000_000

    @contextmanager
    def read_by_all(self) -> Iterator[None]:
        """In this block asyncjobs reads this clock, in the whole process."""
        before = getattr(wall, MODULE)
        try:
            # Set from outside, so that nothing is asked for at each enqueue of a real program.
            setattr(wall, MODULE, self)
            yield
        finally:
            # rule:29 the time of a test ends with it
            setattr(wall, MODULE, before)
