"""Values taken out of texts and out of what JSON can hold. Pure."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote, quote_plus

__all__ = ["MASK", "Places", "mask_call", "mask_text", "mask_value"]

MASK: Final = "***"
MOST_VALUES: Final = 1_000
"""Sensitive values that are looked for; in a job that has more, no text is shown at all."""
SHORT: Final = 4
"""Values of fewer characters hide whole words only: `123` is not taken out of `41235`.
Those of a single character are not looked for."""
_TOO_MANY: Final = f"{MASK} (a text of a job with more than {MOST_VALUES:,} sensitive values)"
_MOST_DEPTH: Final = 100

Hides = Callable[[str], bool]
HidesAt = Callable[[int], bool]


class Places:
    """The sensitive values of one call, and the pattern that finds them in a text."""

    __slots__ = ("_args", "_kwargs", "_pattern", "_values", "hides", "hides_at")

    def __init__(
        self, hides: Hides, hides_at: HidesAt, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> None:
        self.hides, self.hides_at = hides, hides_at
        self._args, self._kwargs = args, kwargs
        self._values: frozenset[Any] | None = None
        self._pattern: re.Pattern[str] | None = None

    @property
    def values(self) -> frozenset[Any]:
        """Texts and numbers. Collected when first asked for: most jobs do not fail."""
        if self._values is None:
            found: set[Any] = set()
            for each in self._leaves():
                found.add(each)
                if len(found) > MOST_VALUES:
                    break
            self._values = frozenset(found)
        return self._values

    @property
    def pattern(self) -> re.Pattern[str] | None:
        """None when there is nothing to look for."""
        if self._pattern is None and self.values:
            forms = {form for value in self.values for form in _forms(value)}
            # The longest first: a value may be a part of another.
            ordered = sorted(forms, key=lambda form: (-len(form), form))
            parts = [
                re.escape(form) if len(form) >= SHORT else rf"(?<!\w){re.escape(form)}(?!\w)"
                for form in ordered
                if len(form) > 1
            ]
            self._pattern = re.compile("|".join(parts)) if parts else None
        return self._pattern

    def _leaves(self) -> Iterator[Any]:
        for position, value in enumerate(self._args):
            yield from _sensitive(self.hides, value, 0, hidden=self.hides_at(position))
        for name, value in self._kwargs.items():
            yield from _sensitive(self.hides, value, 0, hidden=self.hides(name))


def _sensitive(hides: Hides, value: Any, depth: int, *, hidden: bool) -> Iterator[Any]:
    if depth > _MOST_DEPTH:
        return
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _sensitive(hides, item, depth + 1, hidden=hidden or hides(key))
    elif isinstance(value, list):
        for item in value:
            yield from _sensitive(hides, item, depth + 1, hidden=hidden)
    elif hidden and (
        isinstance(value, str) or (isinstance(value, int | float) and type(value) is not bool)
    ):
        yield value


def _forms(value: Any) -> Iterator[str]:
    """How a value may stand in a text: as it is, as Python, JSON and URLs write it, and line
    by line, since a traceback may indent each of them."""
    if not isinstance(value, str):
        yield repr(value)
        return
    if not value.strip():
        return
    yield value
    yield value.strip()
    # A lone surrogate, which a URL cannot have, is no reason to show the rest.
    encodable = value.encode("utf-8", "replace").decode()
    yield repr(value)[1:-1]
    yield ascii(value)[1:-1]
    yield json.dumps(value)[1:-1]
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    yield repr(encodable.encode())[2:-1]
    yield html.escape(value)
    yield from (quote(encodable), quote(encodable, safe=""), quote_plus(encodable))
    lines = value.splitlines()
    if len(lines) > 1:
        yield from (line.strip() for line in lines if len(line.strip()) >= SHORT)


def mask_text(places: Places, text: str) -> str:
    """`text` with a mask for each sensitive value."""
    if len(places.values) > MOST_VALUES:
        return _TOO_MANY
    pattern = places.pattern
    return text if pattern is None else pattern.sub(MASK, text)


def mask_value(places: Places, value: Any, depth: int = 0) -> Any:
    """A copy of `value` with masks for sensitive values and under sensitive keys; what JSON
    does not have is shown by its text."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return mask_text(places, value)
    if isinstance(value, int | float):
        return MASK if mask_text(places, repr(value)) != repr(value) else value
    if depth > _MOST_DEPTH:
        return MASK
    if isinstance(value, Mapping):
        return {
            mask_value(places, key, depth + 1): (
                MASK if isinstance(key, str) and places.hides(key)
                else mask_value(places, item, depth + 1)
            )
            for key, item in value.items()
        }  # fmt: skip
    if isinstance(value, list | tuple | set | frozenset):
        return [mask_value(places, item, depth + 1) for item in value]
    return mask_text(places, _shown(value))


def _shown(value: Any) -> str:
    try:
        return repr(value)
    except Exception as error:  # a __repr__ of the user's own may raise
        return f"({type(value).__name__} without a text: {type(error).__name__})"


def mask_call(
    places: Places, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """Copies of a job's arguments with masks in the place of the sensitive ones, and of their
    values where others hold them."""
    shown = [MASK if places.hides_at(n) else mask_value(places, v) for n, v in enumerate(args)]
    return shown, mask_value(places, kwargs)
