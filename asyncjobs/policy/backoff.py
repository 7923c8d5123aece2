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
"""Draws a number between two bounds. Passed in, so that a test can pin it."""


class Backoff(Protocol):
    """How long to wait after failure number `attempt` (from 1) of those that the policy counts."""

    def delay_s(self, attempt: int, uniform: Uniform) -> float: ...


@dataclass(frozen=True, slots=True)
class Exponential:
    """min(cap, base * 2 ** (attempt - 1)) seconds; with jitter uniform(0, that).

    The whole range is random, so jobs that failed together do not come back together.
    """

    base: float
    cap: float
    jitter: bool = True

    def delay_s(self, attempt: int, uniform: Uniform) -> float:
        most_s = doubled(self.base, self.cap, attempt - 1)
        return uniform(0.0, most_s) if self.jitter else most_s


@dataclass(frozen=True, slots=True)
class Polynomial:
    """min(cap, base * attempt ** exponent) seconds; with jitter uniform(0, that)."""

    base: float
    exponent: float
    cap: float
    jitter: bool = True

    def delay_s(self, attempt: int, uniform: Uniform) -> float:
        try:
            most_s = min(self.cap, self.base * float(max(attempt, 1)) ** self.exponent)
        except OverflowError:
            most_s = self.cap if self.base else 0.0
        return uniform(0.0, most_s) if self.jitter else most_s


@dataclass(frozen=True, slots=True)
class Constant:
    """The same delay after each failure; with jitter uniform(0, delay)."""

    delay: float
    jitter: bool = False

    def delay_s(self, attempt: int, uniform: Uniform) -> float:
        return uniform(0.0, self.delay) if self.jitter else self.delay


@dataclass(frozen=True, slots=True)
class OwnBackoff:
    """A user's function from the failure's number to seconds or a timedelta."""

    function: Callable[[int], Seconds]

    def delay_s(self, attempt: int, uniform: Uniform) -> float:
        return seconds(
            self.function(attempt), field=f"the delay that {shown(self.function)} returned"
        )


def exponential(*, base: Seconds = 2, cap: Seconds = 600, jitter: bool = True) -> Exponential:
    """After failure n: a random time from 0 to min(`cap`, `base` * 2 ** (n - 1)).

    `base` and `cap` in seconds or as timedelta; without `jitter` always the longest of
    these times. Raises ConfigError for a negative time or a cap below the base.
    """
    base_s = seconds(base, field="exponential(base)")
    cap_s = seconds(cap, field="exponential(cap)", minimum=base_s)
    return Exponential(base_s, cap_s, _flag(jitter, "exponential(jitter)"))


def polynomial(
    *, base: Seconds = 2, exponent: float = 2, cap: Seconds = 600, jitter: bool = True
) -> Polynomial:
    """After failure n: a random time from 0 to min(`cap`, `base` * n ** `exponent`).

    `base` and `cap` in seconds or as timedelta, `exponent` a number of 0 or more; without
    `jitter` always the longest of these times. Grows more slowly than `exponential`.
    Raises ConfigError for a negative time or exponent and for a cap below the base.
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
    """Always `delay` (seconds or timedelta); with `jitter` a random time from 0 to it.

    Raises ConfigError.
    """
    return Constant(seconds(delay, field="constant(delay)"), _flag(jitter, "constant(jitter)"))


def _flag(value: Any, field: str) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{field} must be True or False, not {shown(value)}")
    return value
