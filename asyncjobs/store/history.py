"""The history at the seam: jobs that have ended, newest first.

Workers tell of them in the settlement: `Settlement.run`. A store keeps the last
`StoreSettings.history` of each queue.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, NamedTuple, Protocol

from asyncjobs.model.history import FinishedJob
from asyncjobs.model.job import State

__all__ = ["MAX_LOOK", "FinishedPage", "FinishedQuery", "History"]

MAX_LOOK: Final = 10_000
"""The most jobs that one page looks at. With a filter it may find none of them."""


class FinishedQuery(NamedTuple):
    """Which jobs that have ended, newest first.

    Empty `functions` and `states` mean all. `error` is text that the error line has, whatever its
    case. They ended at `since_ms` or later and before `before_ms`, by the store's clock. A page has
    at most `limit` of them.
    """

    queue: str
    functions: Collection[str] = ()
    states: Collection[State] = ()
    error: str = ""
    since_ms: int | None = None
    before_ms: int | None = None
    limit: int = 100

    def wants(self, job: FinishedJob) -> bool:
        """Whether it is one of them."""
        if self.functions and job.function not in self.functions:
            return False
        if self.states and job.state not in self.states:
            return False
        if self.error and self.error.casefold() not in job.error.casefold():
            return False
        if self.since_ms is not None and job.ended_ms < self.since_ms:
            return False
        return self.before_ms is None or job.ended_ms < self.before_ms


class FinishedPage(NamedTuple):
    """Some jobs that have ended.

    The next page begins `after` this number; None when nothing older is kept. `looked` is at how
    many jobs the page has looked. `now_ms` is by the store's clock.
    """

    jobs: Sequence[FinishedJob]
    after: int | None
    looked: int
    now_ms: int


class History(Protocol):
    """What is kept of the past: `store.inspect.history`."""

    async def finished(self, query: FinishedQuery, after: int | None = None) -> FinishedPage:
        """One page of a queue's jobs that have ended.

        Jobs that end meanwhile move no other job to another page. A page ends after `limit` jobs,
        or when it has looked at MAX_LOOK.
        """
        ...
