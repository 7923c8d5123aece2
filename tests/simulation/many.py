"""Many seeds in one process; a module of its own, so that a spawned process finds it."""

from __future__ import annotations

import gc
from collections import Counter
from contextlib import ExitStack

from tests.simulation.planted import planted
from tests.simulation.world import run_seed

__all__ = ["STEP", "run_some"]

STEP = 50
"""Seeds that a process runs in one go."""


def run_some(task: tuple[int, int, str | None]) -> tuple[list[int], Counter[str]]:
    """The seeds that fail, of `count` from `first`, and what was in all of them."""
    first, count, bug = task
    failed, total = [], Counter[str]()
    with ExitStack() as stack:
        if bug is not None:
            stack.enter_context(planted(bug))
        for seed in range(first, first + count):
            report = run_seed(seed)
            total.update(report.numbers)
            total["seeds"] += 1
            if report.wrong:
                failed.append(seed)
    gc.collect()
    return failed, total
