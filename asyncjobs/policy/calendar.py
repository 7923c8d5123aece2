"""When a schedule fires: cron expressions, intervals and single times.

Pure: each question is about a time that is passed in. All times are in ms since the epoch. A
next time comes from the calendar alone, never from the time of a run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final, Protocol
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from asyncjobs.errors import ConfigError
from asyncjobs.guard.texts import shown

__all__ = ["MACROS", "MOST_COUNTED", "Calendar", "Cron", "Every", "Once", "first_after", "upcoming"]

MACROS: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
MOST_COUNTED: Final = 1_000
"""Ticks of a cron expression are counted one by one, and no further than this."""
LEAST_EVERY_MS: Final = 1_000
# Times of a wall clock have no zone.
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - a wall clock
_ANY_DAY: Final = datetime(2000, 1, 1)  # noqa: DTZ001 - the same
_WEEK_S: Final = 7 * 86_400
_FIELDS: Final = "minute hour day month weekday"


class Calendar(Protocol):
    """The ticks of a schedule."""

    def after(self, ms: int) -> int | None:
        """The first tick later than `ms`; None when there is none."""
        ...

    def count(self, after_ms: int, until_ms: int) -> int:
        """How many ticks are later than `after_ms` and not later than `until_ms`. It may stop
        counting at MOST_COUNTED."""
        ...

    def explain(self) -> str:
        """The ticks in English."""
        ...


class Cron:
    """A cron expression in a time zone.

    It has five fields: minute, hour, day of month, month, day of week. A sixth one in front is for
    seconds. MACROS stand for expressions.

    When clocks change, it does as Debian's cron does. An expression with fixed minutes and hours
    fires once a day: a time that is skipped in spring fires right after the gap, and one that
    comes twice in autumn fires the first time. Any other one fires at each real time that
    matches: twice in autumn, never in the gap.

    Raises ConfigError for an expression or a zone that is not understood, and for an expression
    that never fires.
    """

    __slots__ = ("_expression", "_is_fixed", "_zone", "expression", "tz")

    def __init__(self, expression: str, tz: str = "UTC") -> None:
        self.expression = expression
        self.tz = tz
        self._expression = _checked(expression)
        self._zone = _zone(tz)
        fields = self._expression.split()
        # As in Debian's cron. cronsim decides in the same way, when it is given a zone.
        self._is_fixed = len(fields) == 5 and not any(f.startswith("*") for f in fields[:2])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Cron):
            return NotImplemented
        return (self._expression, self.tz) == (other._expression, other.tz)

    def __hash__(self) -> int:
        return hash((self._expression, self.tz))

    def __repr__(self) -> str:
        return f"Cron({self.expression!r}, {self.tz!r})"

    def after(self, ms: int) -> int | None:
        return next(self._ticks(ms), None)

    def count(self, after_ms: int, until_ms: int) -> int:
        # Cron expressions have no formula for this. Some hundred steps cost a few ms.
        number = 0
        for tick_ms in self._ticks(after_ms):
            if tick_ms > until_ms or number == MOST_COUNTED:
                break
            number += 1
        return number

    def explain(self) -> str:
        text: str = CronSim(self._expression, _ANY_DAY).explain()
        return f"{text} ({self.tz})"

    def _ticks(self, ms: int) -> Iterator[int]:
        """All ticks later than `ms`, in order."""
        after_s = ms // 1000
        ticks = self._real_times(after_s)
        if self._is_fixed:
            ticks = self._fixed_times(after_s)
        for tick_s in ticks:
            yield tick_s * 1000

    def _fixed_times(self, after_s: int) -> Iterator[int]:
        """Times of the wall clock, each at its first real moment."""
        zone = self._zone
        # cronsim never sees the zone: around a change it may answer with a time in the past.
        wall_clock = datetime.fromtimestamp(after_s, zone).replace(tzinfo=None)
        for wall in CronSim(self._expression, wall_clock):
            tick_s = _first_moment(wall, zone)
            # The second of two equal hours: these times were ticks an hour ago. Or two times of
            # one gap, which fire together.
            if tick_s > after_s:
                yield tick_s
                after_s = tick_s

    def _real_times(self, after_s: int) -> Iterator[int]:
        """Each real moment at which the wall clock matches.

        Between two changes the offset is the same, so the wall clock is simple there. At each
        change the search begins anew: stepping by hours across a change of half an hour would
        miss times.
        """
        offset_s = _offset_s(after_s, self._zone)
        while True:
            change_s = None
            for wall in CronSim(self._expression, _wall(after_s + offset_s)):
                tick_s = _seconds(wall) - offset_s
                change_s = _first_change(after_s, tick_s, offset_s, self._zone)
                if change_s is not None:
                    break
                yield tick_s
                after_s = tick_s
            if change_s is None:
                return
            # The moment of the change may be a tick itself.
            after_s = change_s - 1
            offset_s = _offset_s(change_s, self._zone)


@dataclass(frozen=True, slots=True)
class Every:
    """A tick each `every_ms`, counted from `start_ms`: all workers agree on them.

    Raises ConfigError for less than a second.
    """

    every_ms: int
    start_ms: int = 0

    def __post_init__(self) -> None:
        if self.every_ms < LEAST_EVERY_MS:
            raise ConfigError(
                f"a schedule fires every {self.every_ms} ms: use 1 s or more, and let the job "
                "itself repeat what has to be done more often"
            )

    def after(self, ms: int) -> int | None:
        if ms < self.start_ms:
            return self.start_ms
        return self.start_ms + ((ms - self.start_ms) // self.every_ms + 1) * self.every_ms

    def count(self, after_ms: int, until_ms: int) -> int:
        # The clock may have been set back in between.
        first = self._number(after_ms)
        return max(self._number(until_ms) - first, 0)

    def _number(self, ms: int) -> int:
        """How many ticks are not later than this."""
        if ms < self.start_ms:
            return 0
        return (ms - self.start_ms) // self.every_ms + 1

    def explain(self) -> str:
        seconds = self.every_ms / 1000
        for size, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
            if seconds % size == 0:
                return _each(seconds / size, unit)
        return _each(seconds, "second")


@dataclass(frozen=True, slots=True)
class Once:
    """One tick."""

    at_ms: int

    def after(self, ms: int) -> int | None:
        if ms < self.at_ms:
            return self.at_ms
        return None

    def count(self, after_ms: int, until_ms: int) -> int:
        return int(after_ms < self.at_ms <= until_ms)

    def explain(self) -> str:
        at = datetime.fromtimestamp(self.at_ms / 1000, UTC)
        return f"Once, at {at:%Y-%m-%d %H:%M:%S} UTC"


def first_after(
    calendar: Calendar, after_ms: int, *, start_ms: int | None = None, end_ms: int | None = None
) -> int | None:
    """The first tick later than `after_ms`, from `start_ms` to `end_ms`; None without one."""
    if start_ms is not None:
        # A tick at the very start counts.
        after_ms = max(after_ms, start_ms - 1)
    tick_ms = calendar.after(after_ms)
    if tick_ms is None or (end_ms is not None and tick_ms > end_ms):
        return None
    return tick_ms


def upcoming(
    calendar: Calendar, first_ms: int | None, number: int, *, end_ms: int | None = None
) -> list[int]:
    """`first_ms`, and the ticks behind it: at most `number`."""
    ticks: list[int] = []
    while first_ms is not None and len(ticks) < number:
        ticks.append(first_ms)
        first_ms = first_after(calendar, first_ms, end_ms=end_ms)
    return ticks


def _checked(expression: str) -> str:
    """The expression itself, of a macro that which it stands for."""
    name = expression.strip().lower()
    if name.startswith("@"):
        if name not in MACROS:
            raise ConfigError(
                f"the schedule {shown(expression)} is unknown: use one of {', '.join(MACROS)}, or "
                f"five fields ({_FIELDS})"
            )
        return MACROS[name]
    try:
        # It gives up after fifty years, in milliseconds.
        first = next(CronSim(expression, _ANY_DAY), None)
    except CronSimError as error:
        raise ConfigError(
            f"the cron expression {shown(expression)} is not understood ({error}): it needs five "
            f"fields ({_FIELDS}), as in '30 2 * * *' for 02:30 every day"
        ) from None
    if first is None:
        raise ConfigError(
            f"the cron expression {shown(expression)} never fires: no day has both its date and "
            "its weekday"
        )
    return expression


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        # It needs no database of zones, which small images may lack.
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ConfigError(
            f"the time zone {shown(name)} is unknown: use a name such as 'Europe/Berlin'; if the "
            "name is right, this system has no time zones: install the package tzdata"
        ) from None


def _wall(seconds: int) -> datetime:
    """Seconds since 1970 by the wall clock, as a time without a zone."""
    return _EPOCH + timedelta(seconds=seconds)


def _seconds(wall: datetime) -> int:
    since = wall - _EPOCH
    return since.days * 86_400 + since.seconds


def _offset_s(at_s: int, zone: tzinfo) -> int:
    offset = datetime.fromtimestamp(at_s, zone).utcoffset()
    assert offset is not None
    return int(offset.total_seconds())


def _first_moment(wall: datetime, zone: tzinfo) -> int:
    """When the wall clock first shows this time; for one that it skips, the end of the gap."""
    while True:
        at = wall.replace(tzinfo=zone)
        if at.astimezone(UTC).astimezone(zone).replace(tzinfo=None) == wall:
            return int(at.timestamp())
        wall = wall.replace(second=0) + timedelta(minutes=1)


def _first_change(after_s: int, until_s: int, before: int, zone: tzinfo) -> int | None:
    """The first second in this time with another offset than `before`."""
    if zone is UTC:
        return None
    while after_s < until_s:
        # Two changes may undo each other, so the steps are short.
        step_s = min(after_s + _WEEK_S, until_s)
        if _offset_s(step_s, zone) != before:
            while step_s - after_s > 1:
                middle_s = (after_s + step_s) // 2
                if _offset_s(middle_s, zone) == before:
                    after_s = middle_s
                else:
                    step_s = middle_s
            return step_s
        after_s = step_s
    return None


def _each(number: float, unit: str) -> str:
    if number == 1:
        return f"Every {unit}"
    return f"Every {number:g} {unit}s"
