"""When a worker that shall end by itself has come to its end: `--burst`, `--max-jobs`."""

from __future__ import annotations

from asyncjobs.store.answers import Exchange

__all__ = ["Burst"]


class Burst:
    """What was asked for, and what the last exchange said of it. Times are monotonic.

    max_jobs: end after so many jobs. burst_wait_s: end when nothing is ready, running,
    or due within so many seconds.
    """

    __slots__ = ("_burst_wait_s", "_max_jobs", "_over_s", "drained")

    def __init__(self, max_jobs: int | None = None, burst_wait_s: float | None = None) -> None:
        self._max_jobs = max_jobs
        self._burst_wait_s = burst_wait_s
        self._over_s = float("inf")
        self.drained = False
        """True when all queues were empty, and no job has run since."""

    @property
    def is_set(self) -> bool:
        """Whether this worker shall end by itself at all."""
        return self._max_jobs is not None or self.is_burst

    def cap(self, free: int, taken: int) -> int:
        """How many jobs may be taken yet: `free`, or fewer."""
        return free if self._max_jobs is None else max(min(free, self._max_jobs - taken), 0)

    def learn(self, exchange: Exchange, now_s: float, *, drained: bool) -> None:
        """What an exchange on the queues has brought."""
        self.drained = drained
        end_ms = exchange.next_lease_end_ms
        left_s = float("inf") if end_ms is None else (end_ms - exchange.now_ms) / 1000
        self._over_s = now_s + left_s

    def is_reached(self, taken: int) -> bool:
        """True when as many jobs were taken as shall be."""
        return self._max_jobs is not None and taken >= self._max_jobs

    @property
    def is_burst(self) -> bool:
        return self._burst_wait_s is not None

    def is_drained(self, now_s: float, due_in_s: float | None) -> bool:
        """True when a burst has nothing to wait for any more."""
        if self._burst_wait_s is None or not self.drained or self._over_s <= now_s:
            return False  # the lease of a worker that died: its jobs are about to come back
        return due_in_s is None or due_in_s > self._burst_wait_s
