"""Clocks and durations. A name says which clock and unit: `now_ms`, `mono_s`.

Times of jobs are the store's wall clock, in milliseconds since the epoch. What a process measures
for itself, such as time-outs, is its monotonic clock, in seconds.
"""

from __future__ import annotations

import math
import os
import struct
import time
from datetime import MINYEAR, datetime, timedelta
from typing import Final, TypeAlias, cast

from asyncjobs.errors import ConfigError
from asyncjobs.guard.texts import shown
from asyncjobs.guard.untrusted import LAST_MS

__all__ = ["LONGEST_S", "Seconds", "at_ms", "new_id", "now_ms", "seconds"]

LONGEST_S: Final = 100 * 366 * 86_400.0
"""Longer times overflow dates and the store's own clocks."""

Seconds: TypeAlias = float | timedelta
"""A duration in Python code: a number of seconds, or a timedelta."""


def now_ms() -> int:
    """This process's wall clock, in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def seconds(value: Seconds, *, field: str, minimum: float = 0.0) -> float:
    """`value` in seconds. Raises ConfigError naming `field` if it is no time of at least
    `minimum` seconds and at most 100 years."""
    if isinstance(value, timedelta):
        number = value.total_seconds()
    elif isinstance(value, int | float) and not isinstance(value, bool):
        number = math.inf
        # `float` raises OverflowError for an integer of hundreds of digits.
        if abs(value) <= LONGEST_S:
            number = float(value)
    else:
        raise ConfigError(f"{field} must be seconds (a number) or a timedelta, not {shown(value)}")
    if math.isnan(number) or not minimum <= number <= LONGEST_S:
        raise ConfigError(
            f"{field} must be a time from {minimum:g} s to 100 years, not {shown(value)}"
        )
    return number


def at_ms(value: datetime, *, field: str = "at") -> int:
    """An aware datetime as milliseconds since the epoch. Raises ConfigError naming `field`.

    A datetime before 1970 counts as 1970: stored jobs have no negative times. A naive datetime is
    refused: it means a different moment on each machine.
    """
    if not isinstance(value, datetime):
        raise ConfigError(f"{field} must be a datetime, not {shown(value)}")
    # `tzinfo` may be set and still have no offset, so the offset is asked for.
    if value.utcoffset() is None:
        raise ConfigError(
            f"{field}={shown(value)} has no time zone; write datetime(..., tzinfo=UTC) "
            "or a zoneinfo.ZoneInfo"
        )
    try:
        ms = round(value.timestamp() * 1000)
    except OverflowError:
        # On the first and the last day of the calendar, UTC may be outside of it.
        ms = LAST_MS
        if value.year == MINYEAR:
            ms = 0
    # rule:15 a moment before 1970 is stored as 0, which every reader takes
    ms = max(ms, 0)
    if ms > now_ms() + LONGEST_S * 1000:
        raise ConfigError(f"{field}={shown(value)} is more than 100 years ahead")
    return ms


_drawn: list[bytes] = []
"""Random bytes from the kernel that no id has used yet. A forked child drops them. Otherwise it and
its parent would make the same ids."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_drawn.clear)


def _random8() -> bytes:
    try:
        return _drawn.pop()
    except IndexError:
        # One call of the kernel for many ids, because it costs as much as the rest of an id.
        one, *others = struct.unpack("8s" * 64, os.urandom(8 * 64))
        _drawn.extend(others)
        return cast(bytes, one)


def new_id(at_ms: int | None = None) -> str:
    """A new id of a job or a worker: 28 hex digits that sort by creation time.

    They are 48 bits of milliseconds (`at_ms`, or now), and 64 random bits from the kernel.
    """
    if at_ms is None:
        at_ms = now_ms()
    return (at_ms.to_bytes(6, "big") + _random8()).hex()
