"""The annotations of a job function as types, also those that are written as text."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator
from inspect import Parameter
from types import SimpleNamespace
from typing import Any, NamedTuple

__all__ = ["Unresolved", "evaluated", "return_annotation"]


class Unresolved(NamedTuple):
    """An annotation whose names are not all known, at least not yet. `why`: what Python says.

    A class may stand below the function in its module. A name that only type checkers import is
    never known.
    """

    text: str
    why: str


def evaluated(function: Callable[..., Any], annotation: Any) -> Any:
    """The type that this annotation of the function names; Any if it names none.

    A text is evaluated in the module of the user's own function, as `typing.get_type_hints` does.
    """
    if annotation is Parameter.empty:
        return Any
    unknown: NameError | None = None
    # A wrapper copies the annotations of the function inside, which names the types of its module.
    for names in _modules(function):
        holder = SimpleNamespace(__annotations__={"it": annotation})
        try:
            return typing.get_type_hints(holder, names, names, include_extras=True)["it"]
        except NameError as error:
            unknown = unknown or error
        except Exception:
            # It is no type at all, such as a text that describes the parameter.
            return Any
    return Unresolved(str(annotation), str(unknown))


def return_annotation(function: Callable[..., Any]) -> Any:
    """What the function says it returns; Any if it says nothing, or if a name in it is unknown."""
    own = inspect.signature(function, follow_wrapped=False).return_annotation
    found = evaluated(function, own)
    if isinstance(found, Unresolved):
        return Any
    return found


def _modules(function: Callable[..., Any]) -> Iterator[dict[str, Any]]:
    """The names of the module of the innermost function, then of those around it."""
    chain: list[Any] = [function]
    while (inner := getattr(chain[-1], "__wrapped__", None)) is not None and len(chain) < 100:
        chain.append(inner)
    for each in reversed(chain):
        names = getattr(each, "__globals__", None)
        if isinstance(names, dict):
            yield names
