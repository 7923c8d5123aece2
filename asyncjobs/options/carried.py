"""Context variables that travel with jobs: a locale, a time zone, a tenant.

The value that a registered variable has at the enqueue is stored with the job. Each attempt has it
again, before its middleware.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Final, NamedTuple

from asyncjobs.errors import ConfigError, EncodeError, RegistrationError
from asyncjobs.guard.texts import shown
from asyncjobs.model.codec import check_json, to_json

__all__ = ["MOST_BYTES", "CarriedVariable", "captured", "new_variable", "restore"]

MOST_BYTES: Final = 4_096
"""The most that all variables of one job take. It is stored with every job."""
_MOST_NAME: Final = 64


class CarriedVariable(NamedTuple):
    """A context variable that travels under `name`. `dump` makes JSON of its value, `load` makes
    the value again; None: the value is JSON itself."""

    variable: ContextVar[Any]
    name: str
    dump: Callable[[Any], Any] | None = None
    load: Callable[[Any], Any] | None = None


def new_variable(
    variable: ContextVar[Any],
    name: str | None,
    dump: Callable[[Any], Any] | None,
    load: Callable[[Any], Any] | None,
    known: Sequence[CarriedVariable],
) -> CarriedVariable:
    """Raises RegistrationError for what is no variable and for a name that is taken, and
    ConfigError for a name that cannot be stored."""
    if not isinstance(variable, ContextVar):
        raise RegistrationError(f"carry() takes a ContextVar, not {shown(variable)}")
    if (dump is None) != (load is None):
        raise RegistrationError(f"carry({variable.name!r:.80}): give dump and load, or neither")
    name = variable.name if name is None else name
    if not isinstance(name, str) or not 0 < len(name) <= _MOST_NAME or not name.isprintable():
        raise ConfigError(
            f"carry: the name {shown(name)} must have 1 to {_MOST_NAME} printable characters"
        )
    for other in known:
        if other.name == name:
            raise RegistrationError(
                f"carry: a context variable already travels as {name!r}; give another name="
            )
    return CarriedVariable(variable, name, dump, load)


def captured(variables: Sequence[CarriedVariable], function: str) -> dict[str, Any]:
    """The values of the variables that are set here, as they are stored. Raises EncodeError that
    names `function`, the job function."""
    values: dict[str, Any] = {}
    # A default is not stored: the worker has the same one, or a newer one.
    here = contextvars.copy_context()
    for each in variables:
        if each.variable not in here:
            continue
        value = here[each.variable]
        if each.dump is not None:
            value = each.dump(value)
        check_json(value, f"{function}: the context variable {each.name!r}")
        values[each.name] = value
    if values and (size := len(to_json(values))) > MOST_BYTES:
        raise EncodeError(
            f"{function}: its context variables take {size:,} bytes, over the {MOST_BYTES:,} that "
            "may travel with a job; carry a key, and look the value up in the job"
        )
    return values


def restore(variables: Sequence[CarriedVariable], stored: Mapping[str, Any]) -> None:
    """Set the variables in this context. Raises what a `load` raises."""
    for each in variables:
        # A job that was enqueued before the variable was registered does not have it.
        if each.name not in stored:
            continue
        value = stored[each.name]
        if each.load is not None:
            value = each.load(value)
        each.variable.set(value)
