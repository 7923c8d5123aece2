"""The row of a table of options, and how options are read by such a table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import KW_ONLY, dataclass
from enum import StrEnum
from typing import Any, Final, Literal, NamedTuple

from asyncjobs.errors import ConfigError
from asyncjobs.guard.nearness import nearest

__all__ = ["UNSET", "Flag", "Option", "Scope", "Travel", "Unset", "Use", "of_scope", "read"]


class Unset:
    """The type of `UNSET`, which stands for an option that is not given where None is a value."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = Unset()


class Scope(StrEnum):
    """Where an option may be given. The value is the name of what users call there."""

    APP = "AsyncJobs"
    FUNCTION = "job"
    ENQUEUE = "options"


class Use(NamedTuple):
    """An option in one scope: its `help` for docs/reference/settings.md, and its default.

    If the default is None, giving None is the same as not giving the option. An option for which
    None is a value, such as "no time-out", has the default UNSET.
    """

    help: str
    default: Any = None


class Travel(NamedTuple):
    """How an option travels in the envelope.

    The value of its field is written under `key`. `read(value, field=...)` checks the value that
    comes back, because a store may hold anything, and raises ConfigError.
    """

    key: str
    read: Callable[..., Any]


class Flag(NamedTuple):
    """An option as a flag of `asyncjobs enqueue`. `kind` says how its value is written there."""

    help: str
    kind: Literal["duration", "time", "priority", "text"]
    metavar: str | None = None


@dataclass(frozen=True, slots=True)
class Option:
    """All that is known of one option.

    name: as users write it.
    field: the field of JobOptions or AppSettings that it sets. Two options of one field exclude
    each other.
    check: `check(value, field=name)` makes the field's value from the user's, or raises
    ConfigError.
    scopes: where it may be given.
    travels: set if the value has to travel in the envelope, because workers need it.
    from_app: the field of AppSettings that holds if the option is not given.
    flag: set if it is also a flag of the command line.
    needs: the capability without which a store cannot keep the option.
    merge: joins the value of a job function with that of an enqueue, which otherwise replaces it.
    """

    name: str
    field: str
    check: Callable[..., Any]
    scopes: Mapping[Scope, Use]
    _: KW_ONLY
    travels: Travel | None = None
    from_app: str = ""
    flag: Flag | None = None
    needs: str = ""
    merge: Callable[[Any, Any], Any] | None = None

    def is_given(self, value: Any, scope: Scope) -> bool:
        """False if giving this value is the same as not giving the option."""
        return value is not None or self.scopes[scope].default is not None


def of_scope(options: Iterable[Option], scope: Scope) -> dict[str, Option]:
    """The options of this scope by name, in the order of the table."""
    return {option.name: option for option in options if scope in option.scopes}


def read(
    given: Mapping[str, Any], known: Mapping[str, Option], scope: Scope, owner: str = ""
) -> dict[str, Any]:
    """Check these options, and return the fields that they set.

    Raises TypeError for an unknown name, as Python does for an unknown keyword, and ConfigError
    for a value that cannot work. `owner` is the name of the job function, for errors.
    """
    # All names first, so that a misspelled one is reported whatever the other values are.
    for name in given:
        if name not in known:
            raise _unexpected(name, known, scope)
    fields: dict[str, Any] = {}
    rivals: dict[str, str] = {}
    for name, value in given.items():
        option = known[name]
        # `timeout=None` may mean "not given" or "no time-out": the table says which.
        if not option.is_given(value, scope):
            continue
        # Two names for one field, such as `delay` and `at`.
        rival = rivals.setdefault(option.field, name)
        if rival != name:
            raise ConfigError(f"{owner or scope}: give {rival} or {name}, not both")
        fields[option.field] = option.check(value, field=name)
    return fields


def _unexpected(name: str, known: Iterable[str], scope: Scope) -> TypeError:
    near = nearest(name, known)
    advice = ""
    if near is not None:
        advice = f"; did you mean {near!r}?"
    return TypeError(f"{scope}() got an unexpected keyword argument {name!r}{advice}")
