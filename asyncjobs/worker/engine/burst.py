"""When a worker ends by itself: `--burst` and `--max-jobs`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from asyncjobs.store.answers import Exchange

__all__ = ["Burst"]


class Burst:
    """When to end, and what the last exchange says about that. Times are monotonic seconds.

    max_jobs: end after this many jobs.
    burst_wait_s: end when nothing is ready, running, or due within this time.
    encore: asked at the end of a burst. It may move the clock of the store; True: look once more.
    """

    __slots__ = ("_burst_wait_s", "_max_jobs", "_over_s", "drained", "encore")

    def __init__(
        self,
        max_jobs: int | None = None,
        burst_wait_s: float | None = None,
        encore: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        self.encore = encore
        self._max_jobs = max_jobs
        self._burst_wait_s = burst_wait_s
        self._over_s = float("inf")
        self.drained = False
        """True when all queues were empty, and no job has run since."""

    @property
    def is_set(self) -> bool:
        """Whether this worker ends by itself at all."""
        return self._max_jobs is not None or self.is_burst

    def cap(self, free: int, taken: int) -> int:
        """How many jobs may be taken yet: `free`, or fewer."""
        if self._max_jobs is None:
            return free
        return max(min(free, self._max_jobs - taken), 0)

    def learn(self, exchange: Exchange, now_s: float, *, drained: bool) -> None:
        """What an exchange says of the queues."""
        self.drained = drained
        end_ms = exchange.next_lease_end_ms
        left_s = float("inf")
        if end_ms is not None:
            left_s = (end_ms - exchange.now_ms) / 1000
        self._over_s = now_s + left_s

    def is_reached(self, taken: int) -> bool:
        """Whether `max_jobs` were taken."""
        return self._max_jobs is not None and taken >= self._max_jobs

    @property
    def is_burst(self) -> bool:
        return self._burst_wait_s is not None

    def is_drained(self, now_s: float, due_in_s: float | None) -> bool:
        """Whether a burst has nothing left to wait for."""
        if self._burst_wait_s is None or not self.drained:
            return False
        if self._over_s <= now_s:
            # A worker has died and its lease is over: its jobs are about to come back.
            return False
        return due_in_s is None or due_in_s > self._burst_wait_s
