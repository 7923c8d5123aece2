"""The store's clock is set forward and back, in some runs, as the seed decides."""

from __future__ import annotations

from random import Random
from typing import Final

from tests.simulation.ledger import Ledger
from tests.simulation.loop import SimLoop

__all__ = ["ClockSteps"]

HOW_MANY: Final = 0.4
"""The part of all runs that have steps."""
SIZES_MS: Final = (3_600_000, 1_800_000, 90_000, 5_000, 1_500, 300)


class ClockSteps:
    """Owns how the store's clock is set in one run.

    It draws from a row of its own, so that all else in a run stays what its seed made it.
    """

    def __init__(self, seed: int, loop: SimLoop, ledger: Ledger) -> None:
        self._chance = Random(f"clock steps {seed}").random
        self._loop = loop
        self._ledger = ledger
        self.count = 0
        self.is_over = False

    def plan(self) -> None:
        """Up to three steps, soon after each other, or right at the beginning."""
        if self._chance() >= HOW_MANY:
            return
        at_s = 0.0 if self._chance() < 0.2 else 4 * self._chance()
        for _ in range(1 + int(3 * self._chance())):
            size_ms = SIZES_MS[int(self._chance() * len(SIZES_MS))]
            self._loop.after(at_s, self._set, size_ms if self._chance() < 0.6 else -size_ms)
            at_s += (0.5 if self._chance() < 0.5 else 3) * self._chance()

    def _set(self, by_ms: int) -> None:
        if not self.is_over:
            self.count += 1
            self.set_by(by_ms)

    def set_by(self, by_ms: int) -> None:
        """Set the store's clock forward, or back by less than nothing."""
        self._loop.stepped_ms += by_ms
        self._ledger.trouble(self._loop.outside, "", f"sets the store's clock by {by_ms} ms")
