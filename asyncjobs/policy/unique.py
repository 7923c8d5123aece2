"""Unique jobs: what users ask for, and the keys that they give to calls. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final, Literal, TypeAlias, get_args

import orjson

from asyncjobs.errors import ArgumentsError, ConfigError
from asyncjobs.guard.texts import shown
from asyncjobs.model.clock import LONGEST_S, Seconds, seconds
from asyncjobs.model.terms import Unique as Lock
from asyncjobs.model.terms import Until
from asyncjobs.policy.by_name import ByName
from asyncjobs.policy.parameters import Parameters

__all__ = ["By", "Debounce", "OnConflict", "Throttle", "Unique", "UniqueRule", "UniqueValue"]

OnConflict: TypeAlias = Literal["existing", "replace", "raise", "keep_latest"]
By: TypeAlias = str | Iterable[str] | Callable[..., Any]

MAX_KEY: Final = 256
SHORTEST_S: Final = 0.001


@dataclass(frozen=True, slots=True)
class Unique:
    """At most one job at a time holds a key in its queue: `unique=Unique(by="account")`.

    by: the arguments that make the key, by name: one, or several. Or a function that gets the call
    and returns what makes the key. By default all arguments count.
    until: how long a job holds its key: until it has `finished` (its last attempt has ended), until
    it has `started`, or for a `window`, however long the job takes.
    for_: the length of the window (seconds or timedelta). In the other cases a net: the key is free
    so long after the job was due in any case. By default there is none.
    on_conflict: what happens to a call whose key is held. `existing`: its handle is that of the
    holder. `replace`: a holder that has not started gets its arguments and its time. `raise`: it
    raises UniqueConflict. `keep_latest`: like `replace`; behind a holder that has started one job
    waits, with the arguments of the newest call.
    scope: `parent` inside a job: the key counts for jobs of this very job only, in each attempt.
    key: a name in place of the job function's, which several functions may share. Without `by` it
    is the whole key.

    Raises ConfigError for what does not fit together.
    """

    by: By | None = None
    until: Until = "finished"
    for_: Seconds | None = None
    on_conflict: OnConflict = "existing"
    scope: Literal["parent"] | None = None
    key: str | None = None

    def __post_init__(self) -> None:
        _check_choice("until", self.until, get_args(Until))
        _check_choice("on_conflict", self.on_conflict, get_args(OnConflict))
        _check_common(self, self.by, self.key, self.scope)
        if self.for_ is not None:
            seconds(self.for_, field="Unique(for_)", minimum=SHORTEST_S)
        elif self.until == "window":
            raise ConfigError("Unique(until='window') needs for_=, the length of the window")
        if self.on_conflict == "keep_latest" and self.until != "finished":
            raise ConfigError(
                f"Unique(on_conflict='keep_latest', until={self.until!r}): one job waits for the "
                "end of another, so use until='finished', or on_conflict='replace'"
            )


@dataclass(frozen=True, slots=True)
class Debounce:
    """Run once when calls have stopped for a while: `unique=Debounce(30, max_wait=300)`.

    A job waits for `period`. Each call with the same key replaces its arguments, and its time
    begins again, but ends `max_wait` after the first call at the latest; None is no such limit.
    `by`, `scope` and `key` are as in `Unique`. Raises ConfigError.
    """

    period: Seconds
    max_wait: Seconds | None = None
    by: By | None = None
    scope: Literal["parent"] | None = None
    key: str | None = None

    def __post_init__(self) -> None:
        period_s = seconds(self.period, field="Debounce(period)", minimum=SHORTEST_S)
        if self.max_wait is not None:
            seconds(self.max_wait, field="Debounce(max_wait)", minimum=period_s)
        _check_common(self, self.by, self.key, self.scope)


@dataclass(frozen=True, slots=True)
class Throttle:
    """Run the first call in each window and no other one: `unique=Throttle(60)`.

    `period`: the length of the window, which begins with the first call. `by`, `scope` and `key`
    are as in `Unique`. Raises ConfigError.
    """

    period: Seconds
    by: By | None = None
    scope: Literal["parent"] | None = None
    key: str | None = None

    def __post_init__(self) -> None:
        seconds(self.period, field="Throttle(period)", minimum=SHORTEST_S)
        _check_common(self, self.by, self.key, self.scope)


UniqueValue: TypeAlias = Unique | Debounce | Throttle


def _check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ConfigError(f"Unique({name}) must be one of {', '.join(choices)}, not {shown(value)}")


def _check_common(value: Any, by: Any, key: Any, scope: Any) -> None:
    kind = type(value).__name__
    if scope not in (None, "parent"):
        raise ConfigError(f"{kind}(scope) must be 'parent' or None, not {shown(scope)}")
    if by is not None and not callable(by):
        # Read once: a generator would be empty for the next reader.
        names = (by,) if isinstance(by, str) else _listed(kind, by)
        object.__setattr__(value, "by", names)
    if key is not None and not (isinstance(key, str) and 0 < len(key) <= MAX_KEY):
        raise ConfigError(f"{kind}(key) must be a text of 1 to {MAX_KEY} characters")


def _listed(kind: str, by: Any) -> tuple[str, ...]:
    names = tuple(by) if isinstance(by, Iterable) else ()
    if not names or not all(isinstance(name, str) for name in names):
        raise ConfigError(
            f"{kind}(by) must be names of arguments or a function of the call, not {shown(by)}"
        )
    return names


class UniqueRule:
    """How the calls of one job function get their keys, and what the store is asked for.

    `delay_ms`: how long each of its jobs waits first. `raises`: whether a call whose key is held
    is an error.
    """

    __slots__ = ("_arguments", "_by", "_lock", "_prefix", "delay_ms", "is_scoped", "raises")

    def __init__(self, value: UniqueValue, function: str, parameters: Parameters) -> None:
        """Raises RegistrationError if `by` names an argument that the function does not have."""
        self._by = value.by
        self.is_scoped = value.scope is not None
        self.raises = isinstance(value, Unique) and value.on_conflict == "raise"
        self.delay_ms = 0
        self._prefix = f"f:{function}"
        if value.key is not None:
            self._prefix = f"k:{value.key}"
            if value.by is None:
                self._by = ()
        self._arguments = ByName(function, parameters)
        if isinstance(self._by, tuple):
            self._arguments.check(self._by, "unique by")
        self._lock = self._lock_of(value)

    def _lock_of(self, value: UniqueValue) -> Lock:
        longest_ms = _ms(LONGEST_S)
        if isinstance(value, Throttle):
            return Lock(b"", "window", _ms(value.period))
        # Until it has started, for the first call after that is the first of a new quiet time.
        if isinstance(value, Debounce):
            self.delay_ms = _ms(value.period)
            latest_ms = None if value.max_wait is None else _ms(value.max_wait)
            return Lock(b"", "started", longest_ms, replace=True, latest_ms=latest_ms)
        # Without a net: a lock whose job is gone is free, however the job went.
        ttl_ms = longest_ms if value.for_ is None else _ms(value.for_)
        return Lock(
            b"",
            value.until,
            ttl_ms,
            replace=value.on_conflict in ("replace", "keep_latest"),
            hold=value.on_conflict == "keep_latest",
        )

    @property
    def is_by_function(self) -> bool:
        """Whether a function of the user's own gets the call, with the values of its arguments."""
        return callable(self._by)

    def lock(self, args: Sequence[Any], kwargs: Mapping[str, Any], parent: str | None) -> Lock:
        """The key of this call, and how long it is held. `parent`: the job that makes the call.

        The arguments must fit the function, and JSON. Raises ArgumentsError when the function
        `by` returns what JSON would lose.
        """
        key = self._prefix
        if self._by != ():
            key = f"{key}:{self._digest(args, kwargs)}"
        if self.is_scoped and parent is not None:
            key = f"{key}@{parent}"
        return self._lock._replace(key=key.encode("utf-8", "surrogateescape"))

    def _digest(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
        """What stands for the chosen arguments: the same for `f(1)` and `f(account=1)`."""
        chosen: Any
        if callable(self._by):
            chosen = self._by(*args, **kwargs)
        else:
            # By name, so that f(1) and f(account=1) have one key.
            by_position, values = self._arguments.values(args, kwargs)
            # With `**kwargs` a name may be given twice: by position, and as one of these.
            twice = {name: kwargs[name] for name in by_position.keys() & kwargs.keys()}
            chosen = values, list(args[len(self._arguments.names) :]), twice
            if self._by is not None:
                assert isinstance(self._by, tuple)
                self._arguments.check_positions(self._by, len(args), kwargs, "it is unique by")
                chosen = [values.get(name) for name in self._by]
        try:
            text = orjson.dumps(chosen, option=orjson.OPT_SORT_KEYS)
        except (TypeError, ValueError) as error:
            raise ArgumentsError(
                f"{self._prefix[2:]}: its unique key cannot be written as JSON: {error}"
            ) from error
        return blake2b(text, digest_size=16).hexdigest()


def _ms(value: Seconds) -> int:
    return round(seconds(value, field="unique") * 1000)
