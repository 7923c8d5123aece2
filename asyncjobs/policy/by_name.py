"""Arguments of a call by their names, whichever way the call gives them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from inspect import Parameter
from typing import Any

import orjson

from asyncjobs.errors import ArgumentsError, RegistrationError
from asyncjobs.policy.parameters import Parameters

__all__ = ["ByName"]


class ByName:
    """Reads the arguments of one job function by name, so that `f(1)` and `f(account=1)` are equal.

    `function`: its name, for errors.
    """

    __slots__ = ("_defaults", "_function", "_known", "_rest", "_unsure", "_unsure_from", "names")

    def __init__(self, function: str, parameters: Parameters) -> None:
        self._function = function
        self.names = tuple(p.name for p in parameters.positional)
        """The parameters that may be given by position."""
        known = {p.name for p in parameters.all}
        self._defaults = {
            p.name: _json_default(p.default)
            for p in parameters.all
            if p.default is not p.empty and p.name not in parameters.passed
        }
        # A decorator that passes arguments on may fill in some of them. Then all behind the first
        # stand at earlier positions than it seems.
        passed = [n for n, name in enumerate(self.names) if name in parameters.passed]
        self._unsure_from = passed[0] if passed else len(self.names)
        self._unsure = {self.names[n] for n in passed[1:]}
        # `*args` and `**kwargs` have no names that a call could give.
        for p in parameters.all:
            if p.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD):
                known.discard(p.name)
        self._known = known
        self._rest = [p.name for p in parameters.all if p.kind is Parameter.VAR_KEYWORD]

    def check(self, names: Iterable[str], what: str) -> None:
        """Raises RegistrationError for a name that no call could give. `what`: what asks for it.

        At the registration and not at the first enqueue: a typo would else show only in production.
        """
        for name in names:
            # By the name of all others, each call would have the same key.
            if name not in self._known and (name in self._rest or not self._rest):
                raise RegistrationError(
                    f"{self._function}: {what} {name!r}, and it has no such argument; it has "
                    f"{', '.join(sorted(self._known)) or 'none'}"
                )

    def values(
        self, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The arguments that the call gives by position, and all of them, with the defaults."""
        by_position = dict(zip(self.names, args, strict=False))
        return by_position, {**self._defaults, **kwargs, **by_position}

    def check_positions(
        self, names: Iterable[str], count: int, kwargs: Mapping[str, Any], what: str
    ) -> None:
        """Raise ArgumentsError where one of these arguments may be another one than it seems, in a
        call with `count` positional ones. Calls that differ would have one key."""
        if count <= self._unsure_from or not self._unsure:
            return
        for name in names:
            if name in self._unsure and name not in kwargs:
                raise ArgumentsError(
                    f"{self._function}: {what} {name!r}, and its decorator may fill in "
                    f"arguments before that one: give it by name, {name}=..."
                )


def _json_default(value: Any) -> Any:
    """A default, as far as JSON has it; else the name of its class, the same in each process."""
    try:
        orjson.dumps(value)
    except (TypeError, ValueError):
        return f"<{type(value).__qualname__}>"
    return value
