"""How long to wait after a failed attempt. Pure: random numbers are passed in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from asyncjobs.errors import ConfigError
from asyncjobs.guard.texts import shown
from asyncjobs.model.backoff import doubled
from asyncjobs.model.clock import Seconds, seconds

__all__ = [
    "Backoff",
    "Constant",
    "Exponential",
    "OwnBackoff",
    "Polynomial",
    "Uniform",
    "constant",
    "exponential",
    "polynomial",
]

MOST_EXPONENT = 1_000
"""With this exponent the second pause of a `polynomial` already reaches any cap."""

Uniform = Callable[[float, float], float]
"""Draws a random number between two bounds. Passed in, so that a test can choose it."""


class Backoff(Protocol):
    """The pauses between attempts: `delay_s` is that after failure number `attempt`, from 1.

    Only failures that the retry policy counts have numbers.
    """

    def delay_s(self, attempt: int, uniform: Uniform) -> float: ...


def _drawn_s(most_s: float, uniform: Uniform, *, jitter: bool) -> float:
    if not jitter:
        return most_s
    return uniform(0.0, most_s)


@dataclass(frozen=True, slots=True)
class Exponential:
    """min(cap, base * 2 ** (attempt - 1)) seconds; with jitter a random time from 0 to that.

    The whole range is random, so that jobs which failed together do not come back together.
    """

    base: float
    cap: float
    jitter: bool = True

    def delay_s(self, attempt: int, uniform: Uniform) -> float:
        most_s = doubled(self.base, self.cap, attempt - 1)
        return _drawn_s(most_s, uniform, jitter=self.jitter)


@dataclass(frozen=True, slots=True)
class Polynomial:
    """min(cap, base * attempt ** exponent) seconds; with jitter a random time from 0 to that."""

    base: float
    exponent: float
    cap: float
    jitter: bool = True

    def delay_s(self, attempt: int, uniform: Uniform) -> float:
        # A large power is an OverflowError, not infinity.
        try:
            most_s = min(self.cap, self.base * float(max(attempt, 1)) ** self.exponent)
        except OverflowError:
            most_s = self.cap
            if not self.base:
                most_s = 0.0  # as zero times any other number
        return _drawn_s(most_s, uniform, jitter=self.jitter)


@dataclass(frozen=True, slots=True)
class Constant:
    """The same delay after each failure; with jitter a random time from 0 to it."""

    delay: float
    jitter: bool = False

    def delay_s(self, attempt: int, uniform: Uniform) -> float:
        return _drawn_s(self.delay, uniform, jitter=self.jitter)


@dataclass(frozen=True, slots=True)
class OwnBackoff:
    """A user's function that returns the pause, in seconds or as timedelta, after a failure."""

    function: Callable[[int], Seconds]

    def delay_s(self, attempt: int, uniform: Uniform) -> float:
        # Checked each time: the function is the user's, and may return anything.
        return seconds(
            self.function(attempt), field=f"the delay that {shown(self.function)} returned"
        )


def exponential(*, base: Seconds = 2, cap: Seconds = 600, jitter: bool = True) -> Exponential:
    """A backoff that doubles: after failure n, a random time from 0 to `base` * 2 ** (n - 1).

    base: the longest pause after the first failure (seconds or timedelta).
    cap: the longest pause of all (seconds or timedelta).
    jitter: False always takes the longest time instead of a random one.

    Raises ConfigError for a negative time, and for a cap below the base.
    """
    # A cap below the base would make the first pause shorter than asked for.
    base_s = seconds(base, field="exponential(base)")
    cap_s = seconds(cap, field="exponential(cap)", minimum=base_s)
    return Exponential(base_s, cap_s, _flag(jitter, "exponential(jitter)"))


def polynomial(
    *, base: Seconds = 2, exponent: float = 2, cap: Seconds = 600, jitter: bool = True
) -> Polynomial:
    """A backoff that grows by a power: after failure n, a random time from 0 to `base` * n **
    `exponent`. It grows more slowly than `exponential`.

    base: the longest pause after the first failure (seconds or timedelta).
    exponent: a number from 0 to 1,000.
    cap: the longest pause of all (seconds or timedelta).
    jitter: False always takes the longest time instead of a random one.

    Raises ConfigError for a negative time, for an exponent out of range, and for a cap below the
    base.
    """
    base_s = seconds(base, field="polynomial(base)")
    cap_s = seconds(cap, field="polynomial(cap)", minimum=base_s)
    if (
        not isinstance(exponent, int | float)
        or isinstance(exponent, bool)
        or not 0 <= exponent <= MOST_EXPONENT
    ):
        raise ConfigError(
            f"polynomial(exponent) must be a number from 0 to {MOST_EXPONENT:,}, not "
            f"{shown(exponent)}"
        )
    return Polynomial(base_s, float(exponent), cap_s, _flag(jitter, "polynomial(jitter)"))


def constant(delay: Seconds, *, jitter: bool = False) -> Constant:
    """A backoff that does not grow: the same pause after each failure.

    delay: the pause (seconds or timedelta).
    jitter: True takes a random time from 0 to `delay`.

    Raises ConfigError for a negative time.
    """
    return Constant(seconds(delay, field="constant(delay)"), _flag(jitter, "constant(jitter)"))


def _flag(value: Any, field: str) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{field} must be True or False, not {shown(value)}")
    return value
