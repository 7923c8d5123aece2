"""What a row of a table of options says, and how options are read by such a table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import KW_ONLY, dataclass
from enum import StrEnum
from typing import Any, Final, Literal, NamedTuple

from asyncjobs.errors import ConfigError
from asyncjobs.guard.nearness import nearest

__all__ = ["UNSET", "Flag", "Option", "Scope", "Travel", "Unset", "Use", "of_scope", "read"]


class Unset:
    """The type of `UNSET`: an option that is not given, where None has a meaning."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = Unset()


class Scope(StrEnum):
    """Where an option may be given; the value is what users call."""

    APP = "AsyncJobs"
    FUNCTION = "job"
    ENQUEUE = "options"


class Use(NamedTuple):
    """An option in one scope: `help` for docs/reference/settings.md, and its default.

    None says nothing where it is the default. Elsewhere it is a value like any other: an
    option that can be switched off by None has the default UNSET.
    """

    help: str
    default: Any = None


class Travel(NamedTuple):
    """How an option travels in the envelope: under which key, and how it is read there.

    What is written is the value of its field. `read(value, field=...)` checks what comes
    back, since a store may hold anything. Raises ConfigError.
    """

    key: str
    read: Callable[..., Any]


class Flag(NamedTuple):
    """The option as a flag of `asyncjobs enqueue`, and what is written behind it."""

    help: str
    kind: Literal["duration", "time", "priority", "text"]
    metavar: str | None = None


@dataclass(frozen=True, slots=True)
class Option:
    """All that is known of one option.

    `name` as users write it; `field` of JobOptions or AppSettings that it sets;
    `check(value, field=name)` makes the field's value from what users write, or raises
    ConfigError. Options of one field exclude each other. `travels`: the workers need it.
    `from_app`: the field of AppSettings that holds where nobody says. `flag`: also on the
    command line. `needs`: the capability of a store without which the option cannot be kept.
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

    def is_given(self, value: Any, scope: Scope) -> bool:
        """False for a value that says as little as leaving the option out."""
        return value is not None or self.scopes[scope].default is not None


def of_scope(options: Iterable[Option], scope: Scope) -> dict[str, Option]:
    """The options that may be given there, by name, in the order of the table."""
    return {option.name: option for option in options if scope in option.scopes}


def read(given: Mapping[str, Any], known: Mapping[str, Option], scope: Scope) -> dict[str, Any]:
    """The fields that these options set, checked.

    Raises TypeError for a name that there is not, as Python itself does, and ConfigError for
    values that cannot work.
    """
    fields: dict[str, Any] = {}
    for name, value in given.items():
        option = known.get(name)
        if option is None:
            raise _unexpected(name, known, scope)
        if not option.is_given(value, scope):
            continue
        if option.field in fields:
            rivals = " or ".join(each for each in given if known[each].field == option.field)
            raise ConfigError(f"give {rivals}, not both")
        fields[option.field] = option.check(value, field=name)
    return fields


def _unexpected(name: str, known: Iterable[str], scope: Scope) -> TypeError:
    near = nearest(name, known)
    advice = "" if near is None else f"; did you mean {near!r}?"
    return TypeError(f"{scope}() got an unexpected keyword argument {name!r}{advice}")
