"""Rules of limits as texts: `5`, `100/minute`, `10 per hour`, `100/minute:20`. Pure."""

from __future__ import annotations

import re
from typing import Any, Final

from asyncjobs.errors import ConfigError
from asyncjobs.guard.texts import shown
from asyncjobs.model.terms import LimitKind, LimitRule

__all__ = ["MOST_NUMBER", "check_burst", "parse_rate", "parse_rule", "rule_text", "whole"]

MOST_NUMBER: Final = 1_000_000
"""The most permits, and the most starts in the time of a rate."""
LONGEST_MS: Final = 366 * 86_400_000
"""The longest time of a rate."""
AT_ONCE_MS: Final = 20
"""By default as many starts follow each other at once as a rate has in this time: workers ask for
jobs every few milliseconds, and a fast rate would lose what comes in between."""

_UNITS: Final = {
    "s": 1_000,
    "sec": 1_000,
    "second": 1_000,
    "seconds": 1_000,
    "m": 60_000,
    "min": 60_000,
    "minute": 60_000,
    "minutes": 60_000,
    "h": 3_600_000,
    "hour": 3_600_000,
    "hours": 3_600_000,
    "d": 86_400_000,
    "day": 86_400_000,
    "days": 86_400_000,
}
_NAMES: Final = {1_000: "s", 60_000: "minute", 3_600_000: "hour", 86_400_000: "day"}
_RATE: Final = re.compile(r"(\d{1,9}) ?(?:/|per) ?(\d{1,9})? ?([a-z]+)", re.ASCII)
_AS: Final = "write it as in '100/minute', '5/s', '10 per hour' or '100 per 5 minutes'"


def parse_rate(text: Any, *, field: str = "RateLimit") -> tuple[int, int]:
    """The starts and the time in milliseconds of a rate such as `100/minute`.

    Raises ConfigError naming `field`.
    """
    found = None
    if isinstance(text, str):
        found = _RATE.fullmatch(text.strip().lower())
    if found is None:
        raise ConfigError(f"{field}: {shown(text)} is not a rate; {_AS}")
    number = whole(int(found[1]), f"{field}: the number in {shown(text)}")
    unit_ms = _UNITS.get(found[3])
    if unit_ms is None:
        raise ConfigError(
            f"{field}: {shown(text)} has the unit {found[3]!r}; use s, minute, hour or day"
        )
    period_ms = int(found[2] or 1) * unit_ms
    if not 0 < period_ms <= LONGEST_MS:
        raise ConfigError(f"{field}: the time in {shown(text)} must be from 1 s to 366 days")
    return number, period_ms


def check_burst(burst: int | None, number: int, period_ms: int, *, field: str) -> int:
    """How many starts may follow each other at once. None: as many as come in 20 ms, and a tenth of
    all at the most. Raises ConfigError naming `field`."""
    if burst is None:
        # A rate of some a minute gets 1, and is spread evenly.
        return max(1, min(number // 10, number * AT_ONCE_MS // period_ms))
    if not isinstance(burst, int) or isinstance(burst, bool) or not 1 <= burst <= number:
        raise ConfigError(
            f"{field}: burst={shown(burst)} must be a whole number from 1 to the {number:,} of its "
            "rate"
        )
    return burst


def whole(number: Any, field: str, most: int = MOST_NUMBER) -> int:
    """A whole number from 1 on. Raises ConfigError naming `field`."""
    if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= most:
        raise ConfigError(f"{field} must be a whole number from 1 to {most:,}, not {shown(number)}")
    return number


def parse_rule(text: str, *, field: str = "RULE") -> LimitRule:
    """The rule of `5` (so many at once), `100/minute`, or `100/minute:20` with a burst of 20.

    Raises ConfigError naming `field`.
    """
    if re.fullmatch(r"\d{1,9}", text, re.ASCII):
        return LimitRule(LimitKind.CONCURRENCY, whole(int(text), field))
    rate, colon, burst = text.rpartition(":")
    if not colon:
        rate = text
    number, period_ms = parse_rate(rate, field=field)
    asked = None
    if colon:
        if not re.fullmatch(r"\d{1,9}", burst, re.ASCII):
            raise ConfigError(
                f"{field}: {shown(text)} has no number behind the colon; write 100/minute:20 for a "
                "burst of 20"
            )
        asked = int(burst)
    return LimitRule(
        LimitKind.RATE, number, period_ms, check_burst(asked, number, period_ms, field=field)
    )


def rule_text(rule: LimitRule) -> str:
    """A rule as `parse_rule` reads it."""
    if rule.kind is LimitKind.CONCURRENCY:
        return str(rule.number)
    text = f"{rule.number}/{_period_text(rule.period_ms)}"
    if rule.burst == check_burst(None, rule.number, max(rule.period_ms, 1), field="burst"):
        return text
    return f"{text}:{rule.burst}"


def _period_text(period_ms: int) -> str:
    for unit_ms, name in sorted(_NAMES.items(), reverse=True):
        times, rest = divmod(period_ms, unit_ms)
        # The largest unit that fits: 60 s are a minute.
        if rest == 0 and times == 1:
            return name
        if rest == 0 and times:
            return f"{times}{name[0]}"
    # Only a foreign writer has stored it.
    return f"{period_ms / 1000:g}s"
