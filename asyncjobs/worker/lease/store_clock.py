"""Notices that the store's clock was set back, and logs it."""

from __future__ import annotations

from typing import Final

from asyncjobs.guard.guarded import GuardedLog

__all__ = ["StoreClock"]

logger = GuardedLog("asyncjobs.worker")

TOLD_MS: Final = 1000
"""A step back by less is not logged."""


class StoreClock:
    """Compares the time that has passed by the store's clock with the time that has really passed.

    A step forward looks like a pause of this machine, so only steps back count.
    """

    def __init__(self) -> None:
        self._store_ms: int | None = None
        self._heard_s = 0.0

    def watch(self, store_ms: int, sent_s: float, heard_s: float) -> None:
        """The store has answered with its time. The request was sent, and its answer heard, at
        these monotonic times."""
        if self._store_ms is not None:
            # At least the time from the last answer to this request has passed.
            passed_ms = (sent_s - self._heard_s) * 1000
            back_ms = self._store_ms + passed_ms - store_ms
            if back_ms > TOLD_MS:
                logger.warning(
                    "the store's clock was set back by %.0f s; jobs that were stored with a delay "
                    "while it was ahead come later by that time, and leases go on; keep it in time "
                    "with NTP, without steps",
                    back_ms / 1000,
                )
        self._store_ms = store_ms
        self._heard_s = heard_s
