"""Why a value does not fit an annotation, and how an error says so without a secret."""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any, Final
from uuid import UUID

from asyncjobs.guard.texts import shown
from asyncjobs.policy.redaction import Redaction

__all__ = ["NOTHING", "Misfit", "misfit_of"]

NOTHING: Final[Any] = object()
"""There is no value to show."""
_NUMBERS: Final = (int, float, bool, Decimal)
_TIMES: Final = (datetime, date, time, timedelta)
_SCALARS: Final = (str, type(None), bytes, UUID, Enum, PurePath, *_NUMBERS, *_TIMES)
"""Types whose values are shown in errors. Others may have parts that nobody may see."""
_STEP: Final = re.compile(r"\.(\w+)|\[(\d+|\.\.\.)\]")
_INVALID: Final = re.compile(r"Invalid ((?:RFC3339 |ISO8601 |UUID|base64|decimal)[\w ]*)")
_EXPECTED: Final = re.compile(r"Expected `(.+)`, got `.+`")


class Misfit(Exception):
    """A value that does not fit its type.

    `path`: where in the argument, such as `.lines[0].price`. `value`: what stands there. `why`:
    more, and it may quote the value.
    """

    def __init__(
        self, expected: str, value: Any = NOTHING, *, path: str = "", why: str = ""
    ) -> None:
        super().__init__(expected)
        self.expected = expected
        self.value = value
        self.path = path
        self.why = why

    @property
    def place(self) -> str:
        """Where it does not fit, and what is expected there."""
        return f"{self.path}: expected {self.expected}"

    def told(self, redaction: Redaction | None) -> str:
        """What is wrong. `redaction`: what is sensitive; None: all of it."""
        said = self.place
        # rule:30 no error shows what is sensitive in an argument
        if self._is_hidden(redaction):
            return f"{said}; what was given is not shown, because it is sensitive"
        if self.value is not NOTHING:
            said += f", got {_described(self.value)}"
        if self.why:
            said += f" ({self.why:.300})"
        return said

    def _is_hidden(self, redaction: Redaction | None) -> bool:
        if redaction is None:
            return True
        names = [name or index for name, index in _STEP.findall(self.path)]
        # The name of a key that is left out may be any name, so it may be a sensitive one.
        if "..." in names and redaction.names:
            return True
        return any(redaction.hides(name) for name in names)


def misfit_of(error: Exception, expected: str, value: Any) -> Misfit:
    """What msgspec says of a value in its box; see `Codec`. Its errors name the place, and not what
    stands there."""
    head, _, place = str(error).partition(" - at `")
    path = place.rstrip("`").rpartition("$")[2].removeprefix(".value")
    found = _at(value, path)
    if "`key`" in place:
        # `key` in `$.x`: it is a key that does not fit.
        found = NOTHING
    if (match := _EXPECTED.fullmatch(head)) is not None:
        if path:
            expected = match[1]
        return Misfit(expected, found, path=path)
    if (match := _INVALID.fullmatch(head)) is not None:
        return Misfit(f"a valid {match[1]}", found, path=path)
    return Misfit(expected, found, path=path, why=head)


def _at(value: Any, path: str) -> Any:
    for name, index in _STEP.findall(path):
        try:
            value = value[name or int(index)]
        except (LookupError, TypeError, ValueError):
            return NOTHING
    return value


def _described(value: Any) -> str:
    # Objects and containers may hold what is sensitive under a name that nobody sees here.
    kind = type(value)
    name = kind.__qualname__
    if kind.__module__ not in ("builtins", "datetime", "uuid", "decimal", "pathlib"):
        name = f"{kind.__module__}.{name}"
    if isinstance(value, _SCALARS):
        return f"{name:.100} {shown(value)}"
    return f"{name:.100}"
