"""Which files of tests come first, when several processes share them.

A process takes one file after the other. Whoever took a long one last would go on alone when all
others have ended.
"""

from __future__ import annotations

from typing import Final

import pytest

__all__ = ["longest_first"]

LONG: Final = (
    "docs/test_pages.py",
    "simulation/test_simulation.py",
    "cli/test_new.py",
    "typing/test_typing.py",
    "conformance/test_shipped.py",
    "chaos/test_chaos.py",
    "processes/",
    "faults/",
    "guarantees/",
    "telemetry/",
    "redis/",
    "cli/",
)
"""Files and folders that take more than half a minute, about in the order of their times."""


def longest_first(item: pytest.Item) -> int:
    """The place of a test in this order; tests of one place stay in theirs."""
    file = "/".join(item.path.parts[-2:])
    for place, name in enumerate(LONG):
        if file.startswith(name):
            return place
    return len(LONG)
