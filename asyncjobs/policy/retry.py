"""When a failed attempt is followed by another one, and after how long."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias, cast

from asyncjobs.clock import Seconds, seconds
from asyncjobs.errors import ConfigError

__all__ = [
    "Backoff",
    "Constant",
    "Exponential",
    "RetryPolicy",
    "RetryValue",
    "Uniform",
    "constant",
    "exponential",
]

Uniform = Callable[[float, float], float]
"""A random number between two bounds; given in, so that a test can pin it."""


class Backoff(Protocol):
    """How long to wait after the attempt with this number (from 1) has failed."""

    def delay_s(self, attempt: int, uniform: Uniform) -> float: ...


@dataclass(frozen=True, slots=True)
class Exponential:
    """uniform(0, min(cap, base * 2 ** (attempt - 1))) seconds.

    All of the range is random: jobs that failed together do not come back together.
    """

    base: float
    cap: float

    def delay_s(self, attempt: int, uniform: Uniform) -> float:
        # A float holds 2 ** 1023 and no more; long before that the cap rules.
        doublings = min(max(attempt - 1, 0), 512)
        return uniform(0.0, min(self.cap, self.base * 2.0**doublings))


@dataclass(frozen=True, slots=True)
class Constant:
    """The same delay after each attempt."""

    delay: float

    def delay_s(self, attempt: int, uniform: Uniform) -> float:
        return self.delay


@dataclass(frozen=True, slots=True)
class _Custom:
    """A user's function from the attempt's number to seconds or a timedelta."""

    function: Callable[[int], Seconds]

    def delay_s(self, attempt: int, uniform: Uniform) -> float:
        return seconds(self.function(attempt), field=f"the delay that {self.function!r} returned")


def exponential(*, base: Seconds = 2, cap: Seconds = 600) -> Exponential:
    """A backoff that doubles from `base` up to `cap` (seconds or timedelta), with jitter.

    Raises ConfigError for a negative time or a cap below the base.
    """
    base_s = seconds(base, field="exponential(base)")
    return Exponential(base_s, seconds(cap, field="exponential(cap)", minimum=base_s))


def constant(delay: Seconds) -> Constant:
    """A backoff that is always `delay` (seconds or timedelta). Raises ConfigError."""
    return Constant(seconds(delay, field="constant(delay)"))


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How many attempts a job has, and the pause between them.

    `max_attempts` counts the first one. `backoff` is made by `exponential` or
    `constant`, or is a function from the number of the failed attempt to seconds.
    Raises ConfigError naming the field.
    """

    max_attempts: int = 10
    backoff: Backoff | Callable[[int], Seconds] = Exponential(2.0, 600.0)

    def __post_init__(self) -> None:
        count = self.max_attempts
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise ConfigError(
                f"max_attempts must be a whole number of at least 1, not {count!r}; "
                "1 runs the job once and never retries"
            )
        if not callable(getattr(self.backoff, "delay_s", None)):
            if not callable(self.backoff):
                raise ConfigError(
                    f"backoff must be exponential(...), constant(...) or a function from the "
                    f"attempt to seconds, not {self.backoff!r}"
                )
            object.__setattr__(self, "backoff", _Custom(self.backoff))

    def delay_s(self, attempt: int, uniform: Uniform = random.uniform) -> float:
        """Seconds to wait after attempt `attempt` has failed.

        Raises ConfigError when a user's own backoff returns no usable time.
        """
        # A plain function was wrapped by __post_init__; the field keeps both types, since
        # it is also what users pass in.
        delay_s = cast(Backoff, self.backoff).delay_s(attempt, uniform)
        if not math.isfinite(delay_s) or delay_s < 0:
            raise ConfigError(f"the backoff {self.backoff!r} returned {delay_s!r} seconds")
        return delay_s

    @classmethod
    def of(cls, value: RetryValue) -> RetryPolicy:
        """A policy from its short forms: 5 (attempts), False (one attempt), True or None
        (the default). Raises ConfigError for anything else."""
        if isinstance(value, RetryPolicy):
            return value
        if value is None or value is True:
            return cls()
        if value is False:
            return cls(max_attempts=1)
        if isinstance(value, int):
            return cls(max_attempts=value)
        raise ConfigError(
            f"retry must be a RetryPolicy, a number of attempts, True or False, not {value!r}"
        )


RetryValue: TypeAlias = RetryPolicy | int | bool | None
