"""The clock of a test: the wall clock that asyncjobs reads, moved by hand.

Only asyncjobs reads it: the store, `delay=` and `at=`, retries, schedules, unique keys, expiry,
results, and the times of a JobContext. `datetime.now()` in the user's own code is not touched.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from asyncjobs.errors import UsageError
from asyncjobs.jobs.times import from_ms
from asyncjobs.model.clock import Seconds, at_ms, seconds
from asyncjobs.testing.outcomes import Drained
from asyncjobs.testing.wall_clock import WallClock
from asyncjobs.testing.worker import StageWorker

__all__ = ["VirtualClock"]


class VirtualClock:
    """The time of a test. It stands still, and moves by `advance` and `leap`.

    `await clock.advance(days=7)` lives through a week as a worker does: schedules fire at each of
    their ticks, and jobs run when they are due. `clock.leap(days=7)` lets a week pass in which no
    worker runs: everything due waits, and schedules catch up by their own rules.
    """

    def __init__(self, clock: WallClock, worker: StageWorker) -> None:
        self._clock = clock
        self._worker = worker

    def now(self) -> datetime:
        """The present time of asyncjobs, in UTC."""
        return from_ms(self._clock.now_ms())

    def leap(
        self,
        by: Seconds = 0,
        /,
        *,
        weeks: float = 0,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
    ) -> datetime:
        """Let time pass in which no worker runs. Returns the new time.

        by: seconds, or a timedelta; the other arguments are those of timedelta, and are added.
        Raises UsageError for a time in the past, ConfigError for what is no time.
        """
        self._worker.leap(_ms(by, weeks, days, hours, minutes, seconds))
        return self.now()

    def leap_to(self, at: datetime) -> datetime:
        """The same until this aware datetime."""
        self._worker.leap(self._until_ms(at))
        return self.now()

    async def advance(
        self,
        by: Seconds = 0,
        /,
        *,
        weeks: float = 0,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
        raise_dead: bool = True,
        limit: int | None = None,
    ) -> Drained:
        """Let time pass while a worker runs: all that is due is run at its time, and schedules of
        the app fire at each tick. Returns what has run.

        by: seconds, or a timedelta; the next five arguments are those of timedelta, and are added.
        raise_dead: as in `drain`.
        limit: the most attempts; by default 100,000.
        Raises like `leap` and `drain`.
        """
        ms = _ms(by, weeks, days, hours, minutes, seconds)
        return await self._worker.live(ms, raise_dead=raise_dead, limit=limit)

    async def advance_to(
        self, at: datetime, *, raise_dead: bool = True, limit: int | None = None
    ) -> Drained:
        """The same until this aware datetime."""
        ms = self._until_ms(at)
        return await self._worker.live(ms, raise_dead=raise_dead, limit=limit)

    def advance_sync(
        self,
        by: Seconds = 0,
        /,
        *,
        weeks: float = 0,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
        raise_dead: bool = True,
        limit: int | None = None,
    ) -> Drained:
        """`advance` for tests that are not async."""
        ms = _ms(by, weeks, days, hours, minutes, seconds)
        living = self._worker.live(ms, raise_dead=raise_dead, limit=limit)
        return self._worker.run_sync(living, "clock.advance_sync()", "await clock.advance(...)")

    def _until_ms(self, at: datetime) -> int:
        ms = at_ms(at) - self._clock.now_ms()
        if ms < 0:
            raise UsageError(f"the clock of a test does not go back, from {self.now()} to {at}")
        return ms

    def __repr__(self) -> str:
        return f"<VirtualClock {self.now().isoformat()}>"


def _ms(by: Seconds, weeks: float, days: float, hours: float, minutes: float, more_s: float) -> int:
    sum_s = timedelta(
        weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=more_s
    ).total_seconds()
    if isinstance(by, timedelta):
        by = by.total_seconds()
    if by + sum_s < 0:
        raise UsageError(f"the clock of a test does not go back, by {by + sum_s:g} s")
    return round(1000 * seconds(by + sum_s, field="the time that passes"))
