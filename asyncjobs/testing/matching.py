"""Patterns for the arguments of a job, in assertions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

__all__ = ["Subset", "differences", "matches"]


class Subset:
    """Matches a mapping that has at least these keys, with these values or patterns.

    `Subset(country="DE")` fits `{"country": "DE", "city": "Berlin"}`.
    """

    __slots__ = ("wanted",)

    def __init__(self, wanted: Mapping[str, Any] | None = None, /, **more: Any) -> None:
        self.wanted = {**(wanted or {}), **more}

    def __repr__(self) -> str:
        return f"Subset({self.wanted!r})"


_ABSENT = object()


def matches(pattern: Any, value: Any) -> bool:
    """Whether a stored value fits a pattern.

    A function is a predicate: it gets the value. `ANY` fits everything. A Subset fits larger
    mappings. In lists, tuples and dicts the parts are patterns themselves. Any other pattern has
    to be equal to the value, as it is or as it is stored in JSON.
    """
    if isinstance(pattern, Subset):
        return isinstance(value, Mapping) and not differences(pattern.wanted, value)
    if isinstance(pattern, Mapping) and isinstance(value, Mapping):
        return pattern.keys() == value.keys() and not differences(pattern, value)
    if isinstance(pattern, list | tuple) and isinstance(value, list | tuple):
        pairs = zip(pattern, value, strict=False)
        return len(pattern) == len(value) and all(matches(*pair) for pair in pairs)
    if pattern == value:
        return True
    if callable(pattern):
        return bool(pattern(value))
    return bool(_stored(pattern) == value)


def differences(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """The keys of `wanted` whose pattern the value in `found` does not fit."""
    return [key for key in wanted if not _fits(wanted[key], found.get(key, _ABSENT))]


def _fits(pattern: Any, value: Any) -> bool:
    # Not even ANY fits what was not given: it stands for a value.
    return value is not _ABSENT and matches(pattern, value)


def _stored(value: Any) -> Any:
    """The value as JSON has it, such as a datetime as text; itself if JSON does not have it."""
    try:
        return orjson.loads(orjson.dumps(value))
    except (TypeError, ValueError):
        return value
