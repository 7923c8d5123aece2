"""Limits: what users ask for. Pure. gating.py makes the gate of a job of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import KW_ONLY, dataclass
from inspect import iscoroutinefunction
from typing import Any, Final, Literal, TypeAlias, get_args

from asyncjobs.errors import ConfigError
from asyncjobs.guard.texts import shown
from asyncjobs.model.terms import LimitKind, WhenFull
from asyncjobs.policy.rates import check_burst, parse_rate, whole
from asyncjobs.policy.unique import By

__all__ = [
    "MAX_NAME",
    "MOST_SHARE",
    "Concurrency",
    "Fair",
    "Limit",
    "LimitValue",
    "LimitsValue",
    "RateLimit",
    "check_limit_name",
    "check_limits",
    "kind_of",
]

Strategy: TypeAlias = Literal["queue", "cancel_running", "cancel_new"]
WHEN_FULL: Final[dict[str, WhenFull]] = {
    "queue": "wait",
    "cancel_running": "cancel_running",
    "cancel_new": "cancel_new",
}
MAX_NAME: Final = 400
MOST_SHARE: Final = 1_000
MOST_LIMITS: Final = 8
"""The most limits of one job function. Each of them costs the store work for each job."""


@dataclass(frozen=True, slots=True)
class Concurrency:
    """At most so many jobs at a time, in all workers together: `Concurrency(5, by="tenant")`.

    A job that finds no room waits in the store, outside of the ready jobs. It takes no slot of a
    worker.

    number: how many may run at a time. Or a plain function that gets the call and returns it: then
    each key has a number of its own.
    by: the arguments that make the key, by name: one, or several. Or a plain function that gets
    the call and returns what makes the key. Each key counts by itself. None: all jobs count
    together.
    strategy: what happens to a job without room. `queue`: it waits. `cancel_running`: the newest
    jobs stay. The one that runs longest under its key is asked to stop, and this one waits for that
    end; one that only waits is cancelled. `cancel_new`: the oldest jobs stay, and this one is
    cancelled. Jobs that wait count as those that run: there are never more than `number`.
    name: under which the limit counts, in place of one made from the job function's. Functions that
    name the same limit share it.

    Raises ConfigError for what cannot work.
    """

    number: int | Callable[..., int]
    by: By | None = None
    _: KW_ONLY
    strategy: Strategy = "queue"
    name: str | None = None

    def __post_init__(self) -> None:
        if callable(self.number):
            _check_plain("Concurrency", "number", self.number)
        else:
            whole(self.number, "Concurrency: number")
        if self.strategy not in get_args(Strategy):
            raise ConfigError(
                f"Concurrency(strategy={shown(self.strategy)}) must be one of "
                f"{', '.join(get_args(Strategy))}"
            )
        _check_common(self)


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most so many starts in any time of this length, in all workers together:
    `RateLimit("100/minute", burst=20, by="tenant")`.

    An attempt counts when a worker takes its job, a retry too. A job that comes too early waits in
    the store.

    rate: as in `100/minute`, `5/s`, `10 per hour` or `100 per 5 minutes`. Or a plain function that
    gets the call and returns such a text: then each key has a rate of its own.
    burst: how many starts may follow each other at once. The others are spread, so that no time of
    this length ever sees more than the rate: with a burst of 20, 81 follow in each minute. By
    default as many as come in 20 ms.
    by: see `Concurrency`.
    weight: how many starts a job counts for, or a plain function that gets the call and returns it.
    One that counts for more than `burst` starts when nobody has started for long enough.
    name: see `Concurrency`.

    Raises ConfigError for what cannot work.
    """

    rate: str | Callable[..., str]
    by: By | None = None
    _: KW_ONLY
    burst: int | None = None
    weight: int | Callable[..., int] = 1
    name: str | None = None

    def __post_init__(self) -> None:
        most = None
        if callable(self.rate):
            _check_plain("RateLimit", "rate", self.rate)
            if self.burst is not None:
                whole(self.burst, "RateLimit: burst")
        else:
            most, period_ms = parse_rate(self.rate)
            check_burst(self.burst, most, period_ms, field="RateLimit")
        if callable(self.weight):
            _check_plain("RateLimit", "weight", self.weight)
        else:
            weight = whole(self.weight, "RateLimit: weight")
            if most is not None and weight > most:
                raise ConfigError(
                    f"RateLimit(weight={weight}): no job could ever start, for the rate is {most}"
                )
        _check_common(self)


@dataclass(frozen=True, slots=True)
class Fair:
    """Jobs of each key in turn, without a limit: `Fair(by="tenant")`.

    A tenant with 100,000 jobs that wait delays one with three by a few jobs only. Beside a limit
    it says whose turn is next: `limits=[Concurrency(50), Fair(by="tenant")]`.

    by: see `Concurrency`.
    weight: how many jobs of the key are taken where one of another key is, or a plain function that
    gets the call and returns it.

    Raises ConfigError for what cannot work.
    """

    by: By
    _: KW_ONLY
    weight: int | Callable[..., int] = 1

    def __post_init__(self) -> None:
        if callable(self.weight):
            _check_plain("Fair", "weight", self.weight)
        else:
            whole(self.weight, "Fair: weight", MOST_SHARE)
        if self.by is None:
            raise ConfigError("Fair(by=None): it needs what makes the turns, such as by='tenant'")
        object.__setattr__(self, "by", _by(self))


Limit: TypeAlias = Concurrency | RateLimit
LimitValue: TypeAlias = Concurrency | RateLimit | Fair
LimitsValue: TypeAlias = LimitValue | Iterable[LimitValue]


def kind_of(limit: Limit) -> LimitKind:
    """What a limit bounds."""
    if isinstance(limit, Concurrency):
        return LimitKind.CONCURRENCY
    return LimitKind.RATE


def check_limits(value: LimitsValue, *, field: str = "limits") -> tuple[LimitValue, ...]:
    """The limits of a job function. Raises ConfigError naming `field`."""
    if isinstance(value, Concurrency | RateLimit | Fair):
        return (value,)
    limits = tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else None
    # A text is iterable, too, and so would be a rate that was meant for RateLimit.
    kinds = Concurrency | RateLimit | Fair
    if limits is None or not all(isinstance(each, kinds) for each in limits):
        raise ConfigError(
            f"{field} must be a Concurrency, RateLimit or Fair, or a list of them, not "
            f"{shown(value)}"
        )
    # All of them are looked at in one step of the store, while others wait.
    if len(limits) > MOST_LIMITS:
        raise ConfigError(f"{field} has {len(limits)} limits; use at most {MOST_LIMITS}")
    # One lane has one turn.
    if sum(isinstance(each, Fair) for each in limits) > 1:
        raise ConfigError(
            f"{field} has two Fair(...), and a job has one turn; write one with both: "
            "Fair(by=('tenant', 'region'))"
        )
    strategies = {each.strategy for each in limits if isinstance(each, Concurrency)}
    if len(strategies) > 1:
        raise ConfigError(
            f"{field} has the strategies {' and '.join(sorted(strategies))}, and a job without "
            "room can do one thing only; give all of its Concurrency(...) the same strategy"
        )
    return limits


def check_limit_name(name: Any, *, field: str = "name") -> str:
    """`name`, if it can be the name of a limit. Raises ConfigError naming `field`."""
    # Without spaces, for command lines and for `held_by`, where a key follows it.
    if (
        isinstance(name, str)
        and 1 <= len(name) <= MAX_NAME
        and name.isprintable()
        and " " not in name
    ):
        return name
    raise ConfigError(
        f"{field}={shown(name)} is not the name of a limit; use 1 to {MAX_NAME} printable "
        "characters without white space"
    )


def _check_common(limit: Limit) -> None:
    if limit.name is not None:
        check_limit_name(limit.name, field=f"{type(limit).__name__}(name)")
    object.__setattr__(limit, "by", _by(limit))


def _by(limit: LimitValue) -> Any:
    """What makes its keys, with names as a tuple: a generator is empty for the next reader."""
    kind = type(limit).__name__
    by = limit.by
    if callable(by):
        _check_plain(kind, "by", by)
        return by
    if by is None:
        return None
    # One name is a text, and a text is a list of letters.
    if isinstance(by, str):
        return (by,)
    names = tuple(by) if isinstance(by, Iterable) else ()
    if not names or not all(isinstance(name, str) for name in names):
        raise ConfigError(
            f"{kind}(by) must be names of arguments or a function of the call, not {shown(by)}"
        )
    return names


def _check_plain(kind: str, field: str, function: Any) -> None:
    # What it returns is needed at once, without a wait.
    if iscoroutinefunction(function):
        raise ConfigError(f"{kind}({field}) takes a plain function, not an async one")
