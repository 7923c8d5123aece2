"""How many suspects may run at a time: jobs that were running when a worker died. Pure.

Nobody knows which of them killed the worker, if any did: most deaths are a node that was drained
or ran out of memory. So after the first death many suspects run at a time. Each further death
narrows the number, until one suspect runs alone. Only that one is ever dead: if its worker dies,
no other job can be the cause.
"""

from __future__ import annotations

from collections.abc import Collection
from math import ceil
from typing import Final

__all__ = ["NARROWED_BY", "WIDEST_AT_LEAST", "SuspectBounds"]

NARROWED_BY: Final = 4
"""The first death leaves a quarter of a worker's slots to the suspects; each further death leaves
a quarter of that."""
WIDEST_AT_LEAST: Final = 32
"""Suspects that run at a time after one death, even on a worker with few slots."""


class SuspectBounds:
    """How many suspects one worker runs at a time, by their number of crashes.

    slots: jobs that the worker runs at a time. max_crashes: with so many a job is dead. The last
    crash before that is always risked alone. If `max_crashes` is too small to narrow the slots to
    one by quarters, each death narrows by a larger factor, the same each time: that costs innocent
    jobs the least.
    """

    def __init__(self, slots: int, max_crashes: int) -> None:
        self.by_crashes = _bounds(slots, max_crashes)
        """For one crash, two crashes and so on. The last entry is 1 and holds for all above."""

    def room(self, crashes: Collection[int]) -> tuple[int, ...]:
        """How many more suspects may be taken, by crashes as in `by_crashes`.

        `crashes`: those of each running suspect. The largest of them decides, because a death
        blames all that run.
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
