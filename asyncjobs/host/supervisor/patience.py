"""When a worker process that has failed is started again."""

from __future__ import annotations

from dataclasses import dataclass

from asyncjobs.model.backoff import pause_s

__all__ = ["Patience"]


@dataclass(frozen=True, slots=True)
class Patience:
    """Backoff for a process that fails again and again; times in seconds.

    base_s, cap_s: the delay doubles from the one to the other; its upper half is random,
    so that processes that failed together do not come back together, and none spins.
    steady_s: one that was ready for so long has not failed in a row.
    limit: so many failures in a row, and the supervisor gives up.
    """

    base_s: float = 0.5
    cap_s: float = 15.0
    steady_s: float = 30.0
    limit: int = 8

    def delay_s(self, failures: int) -> float:
        """How long to wait after so many failures in a row, from 1."""
        return pause_s(self.base_s, self.cap_s, failures - 1)

    def failures(self, before: int, ready_s: float) -> int:
        """Failures in a row, now that a process has failed that was ready for `ready_s`."""
        if ready_s >= self.steady_s:
            return 1
        return before + 1
