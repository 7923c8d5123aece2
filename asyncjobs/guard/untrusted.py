"""Limits for what is read back from a store. Anyone who can write to the store may have written it.

Nothing here recurses, because a value may be nested as deeply as its writer liked. Nothing raises
anything but ValueError.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

__all__ = [
    "LAST_MS",
    "MAX_DEPTH",
    "MOST_COUNT",
    "in_range",
    "is_deep",
    "read_text",
    "read_whole",
]

MAX_DEPTH: Final = 100
"""The deepest nesting of arguments and results. orjson writes 254 levels, and recursive Python code
follows about a thousand. A deeper value could be read, but neither stored again nor shown."""
MOST_COUNT: Final = 2**53
"""The largest count of attempts, failures or crashes. No real count comes near, and one more is
still exact in JSON."""
LAST_MS: Final = 253_402_300_799_999
"""The end of the year 9999, in milliseconds since the epoch. A datetime cannot be later."""

_AROUND: Final = 2
"""The levels of a record around an argument: its fields, and the list of arguments."""


def is_deep(value: Any) -> bool:
    """Whether a record is nested deeper than MAX_DEPTH and its own levels.

    Goes level by level. That takes about as long as parsing the value did.
    """
    level = [value]
    for _ in range(MAX_DEPTH + _AROUND):
        level = [
            item
            for each in level
            for item in (each.values() if type(each) is dict else each)
            if type(item) is dict or type(item) is list
        ]
        if not level:
            return False
    return True


def in_range(value: Any, most: int) -> int:
    """`value` if it is a whole number from 0 to `most`, else 0."""
    # `type`, not `isinstance`: True would pass as the number 1.
    if type(value) is int and 0 <= value <= most:
        return value
    return 0


def read_whole(fields: Mapping[str, Any], name: str, most: int = MOST_COUNT) -> int:
    """The whole number from 0 to `most` in this field; 0 if it is missing. Raises ValueError."""
    value = fields.get(name, 0)
    # `type`, as in `in_range`.
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(f"{name!r} is not a whole number from 0 to {most}")
    return value


def read_text(fields: Mapping[str, Any], name: str) -> str:
    """The text in this field; '' if it is missing. Raises ValueError."""
    value = fields.get(name, "")
    if type(value) is not str:
        raise ValueError(f"{name!r} is not text")
    return value
