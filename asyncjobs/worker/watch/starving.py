"""Tells whether a job blocks the event loop, or other threads leave the loop no turn.

Only one thread at a time runs Python: the one that holds the interpreter's lock (GIL). With forty
threads that compute, the loop waits a fifth of a second for each of its steps. Then the job that
is on the loop at the moment is not to blame.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from types import FrameType
from typing import Final

__all__ = ["Evidence", "Used", "cpu_of_thread", "used_now"]

LINUX: Final = sys.platform == "linux"
SOME: Final = 1 / 8
"""The share of a time that counts as computing, even if the machine is busy."""
LATE_TURNS: Final = 4
"""For how many turns of the interpreter's lock code has to stay at one place to count as stuck. How
long a turn takes is seen from how late the watchdog itself comes."""


@dataclass(frozen=True, slots=True)
class Used:
    """Processor time at one look, in seconds: of the loop's thread (None where the system does not
    tell it), and of all threads of the process together."""

    loop_s: float | None
    all_s: float


class Evidence:
    """What the looks at the loop's thread have shown since the loop last turned."""

    def __init__(self, nap_s: float, now_s: float, used: Used) -> None:
        """nap_s: how long the watchdog sleeps between its looks."""
        self._nap_s = nap_s
        self._first_s = now_s
        self._first = used
        self._last_s = now_s
        self._last = used
        self._place: tuple[int, int] | None = None
        self._placed_s = now_s
        self._late_s = 0.0
        """The longest delay of one look."""
        self._all_late_s = 0.0
        """The delays of all looks together."""
        self.held_s = 0.0
        """How long the last look was delayed while the process was computing."""
        self.is_held_by_loop = False

    def look(self, now_s: float, used: Used, frame: FrameType | None, *, has_turned: bool) -> None:
        """Note one look. `frame`: where the loop's thread is. `has_turned`: whether the loop has
        turned since the last look."""
        late_s = max(now_s - self._last_s - self._nap_s, 0.0)
        self.held_s = 0.0
        self.is_held_by_loop = False
        all_s = used.all_s - self._last.all_s
        if all_s >= late_s * SOME:
            # Otherwise the process was stopped, or the machine had no time for it.
            self.held_s = late_s
            self.is_held_by_loop = _between(self._last.loop_s, used.loop_s) >= all_s / 2
        place = None
        if frame is not None:
            place = (id(frame), frame.f_lasti)
        if has_turned:
            self._first_s = now_s
            self._first = used
            self._late_s = self._all_late_s = 0.0
            self._place = None
        else:
            self._late_s = max(self._late_s, late_s)
            self._all_late_s += late_s
        if place != self._place:
            self._place = place
            self._placed_s = now_s
        self._last_s = now_s
        self._last = used

    def is_starved(self, limit_s: float) -> bool:
        """True when other threads compute, and the loop's thread would most likely go on if they
        let it. `limit_s`: the limit for a blocked loop."""
        wall_s = self._last_s - self._first_s
        own_s = _between(self._first.loop_s, self._last.loop_s)
        others_s = self._last.all_s - self._first.all_s - own_s
        if own_s >= min(limit_s, wall_s) / 2:
            return False
        # On a busy machine other threads do not compute all the time, but then looks come late.
        is_crowded = others_s >= wall_s / 2 or self._all_late_s >= wall_s / 4
        if others_s < wall_s * SOME or not is_crowded:
            return False
        stood_s = self._last_s - self._placed_s
        # Code at one place for long is stuck there, as in a sleep or a long call in C: then it is
        # the job that blocks the loop.
        is_stuck = stood_s >= max(wall_s / 2, LATE_TURNS * self._late_s + self._nap_s)
        return not is_stuck


def _between(before_s: float | None, after_s: float | None) -> float:
    if before_s is None or after_s is None:
        return 0.0
    return after_s - before_s


def used_now(loop_thread: int) -> Used:
    """The processor time so far. `loop_thread`: as of `threading.get_native_id`."""
    return Used(cpu_of_thread(loop_thread), time.process_time())


def cpu_of_thread(native_id: int) -> float | None:
    """Processor time of a thread of this process; None where the system does not tell it."""
    if LINUX:
        # Not by `pthread_getcpuclockid`, which may crash for a thread that has ended.
        with suppress(OSError, ValueError, IndexError):
            return _on_linux(native_id)
    return None


def _on_linux(native_id: int) -> float:
    stat = os.open(f"/proc/self/task/{native_id}/stat", os.O_RDONLY | os.O_CLOEXEC)
    try:
        # The name comes second, in brackets, and may hold anything.
        fields = os.pread(stat, 1024, 0).rpartition(b")")[2].split()
    finally:
        os.close(stat)
    user = int(fields[11])
    system = int(fields[12])
    return (user + system) / os.sysconf("SC_CLK_TCK")
