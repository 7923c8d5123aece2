"""In which order processes that share the tests take their files.

A process takes one file after the other. So the longest ones come first: whoever took one of them
last would go on alone. Behind them, files that wait for processes and for time stand among those
that compute. Else all processes would wait at one time, and all compute at another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import pytest

__all__ = ["in_order"]

LONGEST: Final = (
    "docs/test_pages.py",
    "simulation/test_simulation.py",
    "typing/test_typing.py",
    "cli/test_new.py",
    "chaos/test_chaos.py",
)
WAIT: Final = frozenset(
    {"chaos", "cli", "embedded", "faults", "guarantees", "health", "processes", "redis"}
)
"""Folders whose tests wait most of the time."""


def in_order(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """The tests in this order. Those of one file stay together, as they were."""
    files = list(dict.fromkeys(map(_file, items)))
    sizes = Counter(_waits(file) for file in files)
    seen: Counter[bool] = Counter()
    places: dict[str, tuple[int, float]] = {}
    for file in files:
        kind = _waits(file)
        seen[kind] += 1
        if file in LONGEST:
            places[file] = (0, LONGEST.index(file))
        else:
            # How far through the files of its kind: so both kinds end together.
            places[file] = (1, seen[kind] / sizes[kind])
    return sorted(items, key=lambda item: places[_file(item)])


def _file(item: pytest.Item) -> str:
    return "/".join(item.path.parts[-2:])


def _waits(file: str) -> bool:
    return file.partition("/")[0] in WAIT
