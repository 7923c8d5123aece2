"""How many jobs that were running when a worker died may run beside each other. Pure.

Nobody knows which of them has killed it, if any: most deaths are a node that was drained or
had no memory left. So the first time many run beside each other, and each further death
narrows the company of those that were there, until one runs alone. Only that one is ever
dead: a death of its worker blames nobody else.
"""

from __future__ import annotations

from collections.abc import Collection
from math import ceil
from typing import Final

__all__ = ["NARROWED_BY", "WIDEST_AT_LEAST", "SuspectBounds"]

NARROWED_BY: Final = 4
"""A death leaves one in so many of a worker's slots to the suspects, and so does the next."""
WIDEST_AT_LEAST: Final = 32
"""Suspects that run beside each other after one death, on a worker with few slots too."""


class SuspectBounds:
    """How many suspects one worker runs at a time, by the crashes they have been through.

    slots: jobs that the worker runs at a time. max_crashes: what makes a job dead. The last
    crash before that is always risked alone. With fewer crashes than it takes to narrow a
    worker's slots to one by quarters, each death narrows further; all by the same factor, for
    that costs the innocent least.
    """

    def __init__(self, slots: int, max_crashes: int) -> None:
        self.by_crashes = _bounds(slots, max_crashes)
        """For one crash, for two and so on; the last one is 1, for that many and all above."""

    def room(self, crashes: Collection[int]) -> tuple[int, ...]:
        """Suspects that may be taken beside those that run, by crashes as above.

        `crashes`: of each one that runs. Whoever has been through most of them decides: a
        death blames all together.
        """
        bounds = self.by_crashes
        if not crashes:
            return bounds
        most = bounds[min(max(crashes), len(bounds)) - 1]
        # rule:7 a suspect that runs takes up room
        return tuple(max(min(most, bound) - len(crashes), 0) for bound in bounds)


def _bounds(slots: int, max_crashes: int) -> tuple[int, ...]:
    steps = max(max_crashes - 1, 1)
    factor = max(NARROWED_BY, slots ** (1 / steps))
    width = max(slots / factor, WIDEST_AT_LEAST)
    bounds: list[int] = []
    while width > 1 and len(bounds) < steps - 1:
        bounds.append(ceil(width))
        # rule:7 a death narrows the suspects
        width /= factor
    # rule:7 the last crash before death is risked alone
    return (*bounds, 1)
