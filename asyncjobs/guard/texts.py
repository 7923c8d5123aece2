"""Makes foreign values and texts safe to show: short, and without control characters."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable
from typing import Any, Final

__all__ = ["in_queues", "safe_repr", "safe_text", "shown", "type_of", "visible"]

_MOST: Final = 200
"""The most characters of one value."""
_MOST_NAMES: Final = 10
"""The most names in one line."""


class _Short(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = _MOST
        self.maxlong = 60

    def repr_int(self, x: int, level: int) -> str:
        # Python refuses to write integers of thousands of digits, with a ValueError.
        if x.bit_length() > 1_000:
            return f"an integer of {x.bit_length()} bits"
        return super().repr_int(x, level)


_SHORT: Final = _Short()


def shown(value: Any) -> str:
    """`repr(value)`, cut to some hundred characters. Never raises, even if `__repr__` does."""
    try:
        text = _SHORT.repr(value)
    except Exception:
        return f"a value of type {type(value).__name__:.100}"
    if len(text) > 2 * _MOST:
        text = f"{text[: 2 * _MOST]}…"
    # A `__repr__` may return line breaks and escape sequences.
    if text.isprintable():
        return text
    return text.encode("unicode_escape").decode()


def safe_repr(value: Any) -> str:
    """`repr(value)`, not cut. If it raises, a text that says so."""
    try:
        return repr(value)
    except Exception as error:
        return f"(a {type(value).__name__:.100} without a text: {type(error).__name__:.100})"


def safe_text(value: Any) -> str:
    """`str(value)`. If it raises, a text that says so."""
    try:
        return str(value)
    except Exception as error:
        return f"(a {type(value).__name__:.100} without a text: {type(error).__name__:.100})"


def type_of(value: Any) -> str:
    """The type of a value, with its article: `an int`, `a Flask`."""
    name = type(value).__qualname__
    if name[0] in "aeiouAEIOU":
        return f"an {name}"
    return f"a {name}"


def in_queues(names: Iterable[str]) -> str:
    """`in queue mail`, or `in queues mail, default`. Beyond ten queues, the rest is counted."""
    found = list(dict.fromkeys(names))
    word = "queues"
    if len(found) == 1:
        word = "queue"
    rest = len(found) - _MOST_NAMES
    text = f"in {word} {', '.join(found[:_MOST_NAMES])}"
    if rest > 0:
        text += f" and {rest:,} more"
    return text


def visible(text: str) -> str:
    """The text with characters that would steer a terminal written out. Line ends and tabs stay.

    That are escape sequences, and also characters that change the direction of writing.
    """
    if text.isprintable():
        return text
    return "".join(map(_visible, text))


def _visible(character: str) -> str:
    if character.isprintable() or character in "\n\t":
        return character
    return character.encode("unicode_escape").decode()
