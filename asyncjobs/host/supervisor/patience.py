"""When a worker process that has failed is started again, and when not any more."""

from __future__ import annotations

from dataclasses import dataclass

from asyncjobs.model.backoff import pause_s

__all__ = ["Patience"]


@dataclass(frozen=True, slots=True)
class Patience:
    """The pauses after failures of a process. Times are in seconds.

    base_s, cap_s: the pause doubles from the first to the second. Its upper half is random, so that
    processes that failed together do not start together.
    steady_s: a process that was ready for this long begins a new row of failures.
    limit: after this many failures in a row the supervisor gives up.
    """

    base_s: float = 0.5
    cap_s: float = 15.0
    steady_s: float = 30.0
    limit: int = 8

    def delay_s(self, failures: int) -> float:
        """How long to wait after this many failures in a row, from 1."""
        return pause_s(self.base_s, self.cap_s, failures - 1)

    def failures(self, before: int, ready_s: float) -> int:
        """Failures in a row, now that a process has failed that was ready for `ready_s`."""
        if ready_s >= self.steady_s:
            return 1
        return before + 1
