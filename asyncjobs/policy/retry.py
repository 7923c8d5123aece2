"""Decides whether a failed attempt is followed by another one, and after how long."""

from __future__ import annotations

import math
import random
from asyncio import CancelledError
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple, TypeAlias, cast

from asyncjobs.errors import ConfigError, JobSignal
from asyncjobs.guard.texts import shown
from asyncjobs.model.clock import Seconds
from asyncjobs.policy.backoff import Backoff, OwnBackoff, Uniform, exponential

__all__ = [
    "Charge",
    "ExceptionClasses",
    "Retries",
    "RetryPolicy",
    "RetryValue",
    "class_name",
    "exception_classes",
    "is_cancellation",
    "is_on_purpose",
]

_USUAL: Final = exponential()
MOST_ATTEMPTS: Final = 1_000_000_000
"""The most of one policy. The sum over all policies still fits into a JSON number."""

ExceptionClasses: TypeAlias = type[BaseException] | Iterable[type[BaseException]]


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How many attempts a job has, and the pause between them.

    max_attempts: how often the job runs at most, the first attempt included.
    backoff: `exponential(...)`, `polynomial(...)`, `constant(...)`, or a function that returns the
    pause (seconds or timedelta) after failure n, counted from 1; by default `exponential()`.
    on: one exception class or several; without it the policy is for all errors.

    Raises ConfigError naming the field.
    """

    max_attempts: int = 10
    backoff: Backoff | Callable[[int], Seconds] = _USUAL
    on: ExceptionClasses | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        count = self.max_attempts
        if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= MOST_ATTEMPTS:
            raise ConfigError(
                f"max_attempts must be a whole number from 1 to {MOST_ATTEMPTS:,}, not "
                f"{shown(count)}; 1 runs the job once and never retries"
            )
        if not _is_backoff(self.backoff):
            if not callable(self.backoff):
                raise ConfigError(
                    "backoff must be exponential(...), polynomial(...), constant(...) or a "
                    f"function from the attempt to seconds, not {shown(self.backoff)}"
                )
            object.__setattr__(self, "backoff", OwnBackoff(self.backoff))
        if self.on is not None:
            object.__setattr__(self, "on", _policy_classes(self.on))

    @property
    def classes(self) -> tuple[type[BaseException], ...]:
        """The exception classes that `on` names; empty for a policy for all errors."""
        # __post_init__ made it a tuple. The field's type is what users may pass.
        return cast("tuple[type[BaseException], ...]", self.on or ())

    @property
    def key(self) -> str:
        """The name under which a stored job counts its failures; empty without `on`.

        It is made of the names of the classes, not of the policy's place in a list: a deploy may
        change the order of the policies while jobs wait for their retry.
        """
        return "|".join(sorted({class_name(kind) for kind in self.classes}))

    def delay_s(self, attempt: int, uniform: Uniform = random.uniform) -> float:
        """Seconds to wait after failure `attempt` (from 1) of those it counts.

        Raises ConfigError when a user's own backoff returns no usable time.
        """
        # __post_init__ has wrapped a plain function. The field's type has both kinds, because
        # users pass both.
        delay_s = cast(Backoff, self.backoff).delay_s(attempt, uniform)
        if not math.isfinite(delay_s) or delay_s < 0:
            raise ConfigError(
                f"the backoff {shown(self.backoff)} returned {shown(delay_s)} seconds"
            )
        return delay_s


def _is_backoff(value: Any) -> bool:
    try:
        return callable(getattr(value, "delay_s", None))
    except Exception:  # a class of the user's own may raise whatever it is asked
        return False


RetryValue: TypeAlias = RetryPolicy | Sequence[RetryPolicy] | int | bool | None


class Charge(NamedTuple):
    """The policy that counts an attempt's failure.

    `failures`: those that this policy has counted, including this one. `used` of `budget` are
    spent: the budget of the policy, or that of the job if its enqueue has one of its own.
    """

    policy: RetryPolicy
    failures: int
    used: int
    budget: int


@dataclass(frozen=True, slots=True)
class Retries:
    """The retry policies of one job function: which policy rules an error, and what is left.

    The first of `named` whose classes include the error rules it, else `default`, else (None)
    those of the app. `total`: the attempts that one enqueue asked for. With it, policies give
    their backoff, but their own budgets do not count.
    """

    named: tuple[RetryPolicy, ...] = ()
    default: RetryPolicy | None = None
    total: int | None = None
    max_attempts: int = field(init=False, compare=False)
    """The most attempts that a job can have. Each policy can be charged with one failure less than
    it allows, and then one more attempt is the last."""

    def __post_init__(self) -> None:
        # Computed once for each job function, not for each job.
        spared = sum(policy.max_attempts - 1 for policy in (*self.named, self._last()))
        most = self.total
        if most is None:
            most = 1 + spared
        object.__setattr__(self, "max_attempts", most)

    @classmethod
    def of(cls, value: RetryValue) -> Retries:
        """From a user's value: one policy or several, 5 (attempts), False (one attempt), True
        (`RetryPolicy()`), None (the app's). Raises ConfigError for anything else."""
        if value is None:
            return cls()
        if value is True:
            return cls(default=RetryPolicy())
        if value is False:
            return cls(default=RetryPolicy(max_attempts=1))
        if isinstance(value, int):
            return cls(default=RetryPolicy(max_attempts=value))
        named: list[RetryPolicy] = []
        default: RetryPolicy | None = None
        for policy in _policies(value):
            if policy.on is not None:
                if _is_covered(policy, named):
                    raise ConfigError(
                        f"retry: the policy on {_spoken(policy)} is never asked, since one before "
                        "it has all of its errors; put the narrower classes first"
                    )
                named.append(policy)
            elif default is not None:
                raise ConfigError("retry has two policies without on=; one of them must name on=")
            else:
                default = policy
        return cls(tuple(named), default)

    def within(self, app: Retries) -> Retries:
        """These policies, with the app's for errors that they do not name. Has a default."""
        if self.default is not None:
            return self
        named = list(self.named)
        for policy in app.named:
            # A policy whose errors all belong to earlier ones would never be asked.
            if not _is_covered(policy, named):
                named.append(policy)
        return Retries(tuple(named), app.default or RetryPolicy(), self.total)

    def limited(self, total: int) -> Retries:
        """The same backoffs with `total` attempts for any error. Raises ConfigError."""
        return replace(self, total=RetryPolicy(max_attempts=total).max_attempts)

    def plain(self) -> Retries:
        """The same budgets, with the usual backoff instead of the user's own."""
        named = tuple(replace(policy, backoff=_USUAL) for policy in self.named)
        return Retries(named, replace(self._last(), backoff=_USUAL), self.total)

    def policy_for(self, error: BaseException) -> RetryPolicy:
        """The policy that rules this error."""
        for policy in self.named:
            if isinstance(error, policy.classes):
                return policy
        return self._last()

    def charge(
        self, errors: Iterable[BaseException], attempt: int, spent: Mapping[str, int]
    ) -> Charge:
        """Which policy counts the failure of `attempt` with these errors (one or more).

        `spent`: earlier failures by policy key. Failures under no key belong to the default. Of
        several errors, the one whose policy has the least left is counted; of equals, the first.
        """
        # An exception group may have errors of several policies. One failure is charged once.
        charges = [self._charge(self.policy_for(error), attempt, spent) for error in errors]
        return min(charges, key=lambda charge: charge.budget - charge.used)

    def _charge(self, policy: RetryPolicy, attempt: int, spent: Mapping[str, int]) -> Charge:
        failures = spent.get(policy.key, 0) + 1
        if policy.on is None:
            # All failures that no other policy has counted.
            failures = max(attempt - sum(spent.values()), 1)
        if self.total is not None:
            return Charge(policy, failures, attempt, self.total)
        return Charge(policy, failures, failures, policy.max_attempts)

    def _last(self) -> RetryPolicy:
        return self.default or RetryPolicy()


def class_name(kind: type[Any]) -> str:
    """The class's name with its module; a built-in class without it."""
    try:
        if kind.__module__ == "builtins":
            return f"{kind.__qualname__}"
        return f"{kind.__module__}.{kind.__qualname__}"
    except BaseException:  # a metaclass of the user's own may raise
        name: str = type.__dict__["__qualname__"].__get__(kind)
        return name


def is_cancellation(error: BaseException | None) -> bool:
    """Whether the error is a CancelledError, or a group of nothing else."""
    return _is_all(error, CancelledError)


def is_on_purpose(error: BaseException | None) -> bool:
    """Whether the error is a JobSignal, or a group of nothing else."""
    return _is_all(error, JobSignal)


def _is_all(error: BaseException | None, kind: type[BaseException]) -> bool:
    try:
        if isinstance(error, BaseExceptionGroup):
            return error.split(kind)[1] is None
        return isinstance(error, kind)
    except BaseException:  # a class of the user's own may raise at any question
        return False


def exception_classes(value: ExceptionClasses, *, name: str) -> tuple[type[BaseException], ...]:
    """One class or several as a tuple. Raises ConfigError naming the option `name`."""
    kinds: tuple[Any, ...] = (value,)
    # A metaclass may make a class iterable, as Enum does. A class is one exception all the same.
    if not isinstance(value, type) and isinstance(value, Iterable):
        kinds = tuple(value)
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise ConfigError(f"{name} must hold exception classes, not {shown(kind)}")
    return kinds


def _policy_classes(value: ExceptionClasses) -> tuple[type[BaseException], ...]:
    kinds = exception_classes(value, name="on")
    if not kinds:
        raise ConfigError("on names no exception class; leave it out for a policy for all errors")
    for kind in kinds:
        if issubclass(kind, BaseExceptionGroup):
            raise ConfigError(
                f"on={class_name(kind)} would never match: a group counts as the errors in it; "
                "name their classes"
            )
    return kinds


def _policies(value: Any) -> tuple[RetryPolicy, ...]:
    policies: tuple[Any, ...] = ()
    if isinstance(value, RetryPolicy):
        policies = (value,)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        policies = tuple(value)
    if not policies or not all(isinstance(policy, RetryPolicy) for policy in policies):
        raise ConfigError(
            "retry must be a RetryPolicy or a list of them, a number of attempts, True or False, "
            f"not {shown(value)}"
        )
    return policies


def _is_covered(policy: RetryPolicy, before: Sequence[RetryPolicy]) -> bool:
    earlier = tuple(kind for each in before for kind in each.classes)
    return all(issubclass(kind, earlier) for kind in policy.classes)


def _spoken(policy: RetryPolicy) -> str:
    return ", ".join(class_name(kind) for kind in policy.classes)
