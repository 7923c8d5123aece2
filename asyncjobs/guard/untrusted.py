"""Limits for what is read back from a store: whoever can write there may have written it.

Nothing here raises anything but ValueError, and nothing recurses: a value may be nested as
deep as its writer liked.
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
"""Nesting that arguments and results may have. A writer of JSON stops at 254, and Python code
that follows a value down at about a thousand: what is deeper could be read, and then neither
stored again nor shown."""
MOST_COUNT: Final = 2**53
"""Attempts, failures or crashes: no real count comes near, and each can be counted on."""
LAST_MS: Final = 253_402_300_799_999
"""The end of the year 9999, in milliseconds since the epoch: no date has a later one."""

_AROUND: Final = 2
"""Levels that a record itself has around an argument: its fields, and the list of arguments."""


def is_deep(value: Any) -> bool:
    """Whether a record is nested deeper than MAX_DEPTH and its own levels.

    Goes level by level, in the time that the value took to be parsed.
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
    return value if type(value) is int and 0 <= value <= most else 0


def read_whole(fields: Mapping[str, Any], name: str, most: int = MOST_COUNT) -> int:
    """The whole number from 0 to `most` in this field, 0 without one. Raises ValueError."""
    value = fields.get(name, 0)
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(f"{name!r} is not a whole number from 0 to {most}")
    return value


def read_text(fields: Mapping[str, Any], name: str) -> str:
    """The text in this field, '' without one. Raises ValueError."""
    value = fields.get(name, "")
    if type(value) is not str:
        raise ValueError(f"{name!r} is not text")
    return value
