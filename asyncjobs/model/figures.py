"""Figures of job functions: how many attempts have ended, and how long they took."""

from __future__ import annotations

from typing import Final, NamedTuple

from asyncjobs.model.histogram import Histogram, merged

__all__ = ["HOUR_MS", "MINUTE_MS", "OTHERS", "Figures"]

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 60 * MINUTE_MS
OTHERS: Final = ""
"""The name under which a store adds up the functions for which a queue has no room."""


class Figures(NamedTuple):
    """The attempts of one job function that ended in one span of time, which begins at `at_ms`.

    `failed` of them raised an error, and the job was retried or is dead. `queued`: how long they
    were ready before they began. `ran`: how long they ran.
    """

    queue: str
    function: str
    at_ms: int
    attempts: int
    failed: int
    queued: Histogram
    ran: Histogram

    def plus(self, more: Figures) -> Figures:
        """The two together, with the function and the time of this one."""
        return self._replace(
            attempts=self.attempts + more.attempts,
            failed=self.failed + more.failed,
            queued=merged(self.queued, more.queued),
            ran=merged(self.ran, more.ran),
        )
