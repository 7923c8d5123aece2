"""Which name was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

__all__ = ["nearest", "nearest_function"]

MOST_CHARACTERS: Final = 256
"""Of a name; comparing takes the time of its square, and a stored one may be of any length."""


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The one of `names` that was probably meant, or None."""
    found = difflib.get_close_matches(name, list(names), n=1)
    if not found:
        return None
    return found[0]


def nearest_function(name: str, names: Iterable[str]) -> str | None:
    """The same for job functions: one whose module has another name counts as near.

    A module that is imported from another folder is `tasks` here and `shop.tasks` there;
    often only the function's own name is given, without that of its module.
    """
    known = list(names)
    if len(name) > MOST_CHARACTERS:
        return None
    own = name.rpartition(".")[2]
    same = [each for each in known if each.rpartition(".")[2] == own]
    longer = [each for each in same if f".{each}".endswith(f".{name}")]
    shorter = [each for each in same if f".{name}".endswith(f".{each}")]
    for group in (longer, shorter, same):
        # Of several equally near names none is a good guess.
        if len(group) == 1:
            return group[0]
    return nearest(name, known)
