"""Durations, sizes and moments, as users write them."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, Final, NamedTuple

from asyncjobs.errors import ConfigError
from asyncjobs.guard.texts import shown
from asyncjobs.model.clock import LONGEST_S, Seconds, at_ms, seconds
from asyncjobs.options.checks import check_whole

__all__ = [
    "When",
    "check_delay",
    "check_expiry",
    "check_memory",
    "check_moment",
    "check_timeout",
    "check_ttl_ms",
    "check_window",
    "parse_duration",
    "parse_size",
    "read_ttl_ms",
]

SHORTEST_S: Final = 0.001
"""The shortest time-out. A shorter one would be 0 milliseconds, which means none."""

LEAST_BYTES: Final = 1 << 20
MOST_BYTES: Final = 1 << 50

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?", re.ASCII)
_UNITS_S: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0, None: 1.0}
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([kmg]i?b|b)?", re.ASCII | re.IGNORECASE)
_UNITS_BYTES: Final = {
    "": 1,
    "b": 1,
    "kib": 1 << 10,
    "mib": 1 << 20,
    "gib": 1 << 30,
    "kb": 1_000,
    "mb": 1_000_000,
    "gb": 1_000_000_000,
}


class When(NamedTuple):
    """A time that an option gives: `after_ms` after the enqueue, or `at_ms` since the epoch."""

    after_ms: int = 0
    at_ms: int | None = None

    def from_ms(self, now_ms: int) -> int:
        """This time in milliseconds since the epoch, for a job that is enqueued now."""
        if self.at_ms is None:
            return now_ms + self.after_ms
        return self.at_ms


# ── text: the command line, the environment, URLs ────────────────────────────────────


def parse_duration(text: str, *, field: str) -> float:
    """Seconds from a text such as `250ms`, `30s`, `5m`, `2h`, `1d` or `30` (seconds).

    Only for the command line, the environment and URLs. Python code gives numbers and timedeltas.
    Raises ConfigError naming `field`.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ConfigError(
            f"{field}={shown(text)} is not a duration; "
            "write a number and ms, s, m, h or d: 30s, 250ms"
        )
    found_s = float(match[1]) * _UNITS_S[match[2]]
    # A number of hundreds of digits is infinite by now, and is refused here, too.
    if found_s > LONGEST_S:
        raise ConfigError(f"{field}={shown(text)} is more than 100 years; write a shorter time")
    return found_s


def parse_size(text: str, *, field: str) -> int:
    """Bytes from a text such as `512MiB`, `1.5GiB`, `800MB` or `536870912`.

    KiB, MiB and GiB count by 1024; KB, MB and GB by 1000. A bare M or G is refused, because
    programs do not agree on what it means. Raises ConfigError naming `field`.
    """
    match = _SIZE.fullmatch(text.strip())
    size = 0
    if match is not None:
        unit = (match[2] or "").lower()
        size = round(float(match[1]) * _UNITS_BYTES[unit])
    if size < 1:
        raise ConfigError(
            f"{field}={shown(text)} is not a size; write a number and KiB, MiB, GiB (by 1024) or "
            "KB, MB, GB (by 1000): 512MiB"
        )
    return size


# ── values: Python code ──────────────────────────────────────────────────────────────


def check_memory(value: int | str, *, field: str) -> int:
    """How much memory an attempt may take, in bytes. Raises ConfigError naming `field`."""
    if isinstance(value, str):
        value = parse_size(value, field=field)
    size = check_whole(value, field=field, minimum=0, maximum=MOST_BYTES)
    if size < LEAST_BYTES:
        raise ConfigError(
            f"{field}={shown(value)} is too little to run anything; give at least 1MiB"
        )
    return size


def check_ttl_ms(value: Seconds, *, field: str) -> int:
    """How long something is kept, in milliseconds. 0 keeps nothing. Raises ConfigError."""
    return round(seconds(value, field=field) * 1000)


def read_ttl_ms(value: Any, *, field: str) -> int:
    """What `check_ttl_ms` has returned, read back from an envelope. Raises ConfigError."""
    # rule:15 a stored time in milliseconds may be as long as an enqueue may ask for
    return check_whole(value, field=field, minimum=0, maximum=round(LONGEST_S * 1000))


def check_timeout(value: Seconds | None, *, field: str = "timeout") -> float | None:
    """A time-out in seconds; None for no time-out. Raises ConfigError naming `field`."""
    if value is None:
        return None
    return seconds(value, field=field, minimum=SHORTEST_S)


def check_delay(value: Seconds, *, field: str) -> When:
    """A time after the enqueue; 0 for at once. Raises ConfigError naming `field`."""
    return When(after_ms=round(seconds(value, field=field) * 1000))


def check_moment(value: datetime, *, field: str) -> When:
    """An aware datetime. Raises ConfigError naming `field`."""
    return When(at_ms=at_ms(value, field=field))


def check_window(value: Seconds, *, field: str) -> When:
    """A time after the enqueue, of 1 ms or more. Raises ConfigError naming `field`."""
    return When(after_ms=round(seconds(value, field=field, minimum=SHORTEST_S) * 1000))


def check_expiry(value: Any, *, field: str) -> When | None:
    """A time after the enqueue, or an aware datetime; None for never. Raises ConfigError."""
    if value is None:
        return None
    # A datetime is no number, so the two kinds cannot be taken for each other.
    if isinstance(value, datetime):
        return check_moment(value, field=field)
    return check_window(value, field=field)
