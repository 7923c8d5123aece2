"""The history at the seam: the last jobs that have ended, and figures of job functions.

Workers tell of a job in its settlement: `Settlement.run`. A store keeps the last
`StoreSettings.history` of each queue. Workers add up the figures themselves, and send them now and
then: `Backend.add_figures`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final, NamedTuple, Protocol

from asyncjobs.model.figures import HOUR_MS, MINUTE_MS, Figures
from asyncjobs.model.history import FinishedJob
from asyncjobs.model.job import State

__all__ = [
    "KEPT_HOURS",
    "KEPT_MINUTES",
    "MAX_LOOK",
    "MOST_FUNCTIONS",
    "FiguresQuery",
    "FinishedPage",
    "FinishedQuery",
    "History",
    "in_steps",
]

KEPT_MINUTES: Final = 24 * 60
"""How many minutes the figures are kept by minute."""
KEPT_HOURS: Final = 30 * 24
"""How many hours they are kept by hour."""
MOST_FUNCTIONS: Final = 1_000
"""The most functions of a queue with figures of their own. Others are added up under OTHERS."""

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


class FiguresQuery(NamedTuple):
    """Which figures: from `since_ms` on and before `before_ms`, by the store's clock, in spans of
    `step_ms`. Empty `functions` mean all.

    With a step of less than an hour they come from those by minute, which are kept for a day. The
    first span begins at or before `since_ms`.
    """

    queue: str
    since_ms: int
    before_ms: int
    step_ms: int = MINUTE_MS
    functions: Collection[str] = ()

    @property
    def is_by_hour(self) -> bool:
        """Whether the figures by hour are enough."""
        return self.step_ms >= HOUR_MS

    @property
    def unit_ms(self) -> int:
        """The span of the figures that it is made from."""
        return HOUR_MS if self.is_by_hour else MINUTE_MS

    @property
    def units(self) -> range:
        """The numbers of these spans, since the epoch; no more than are kept."""
        # Rounded up: a span that has begun belongs to it.
        end = -(-self.before_ms // self.unit_ms)
        # Without a bound a `since_ms` of 0 would ask for half a million hours.
        most = KEPT_HOURS if self.is_by_hour else KEPT_MINUTES
        return range(max(self.since_ms // self.unit_ms, end - most - 1), end)


class History(Protocol):
    """What is kept of the past: `store.inspect.history`."""

    async def finished(self, query: FinishedQuery, after: int | None = None) -> FinishedPage:
        """One page of a queue's jobs that have ended.

        Jobs that end meanwhile move no other job to another page. A page ends after `limit` jobs,
        or when it has looked at MAX_LOOK.
        """
        ...

    async def figures(self, query: FiguresQuery) -> list[Figures]:
        """What the attempts of one queue's functions took, by function, oldest first. Spans in
        which nothing ended are left out."""
        ...


def in_steps(query: FiguresQuery, found: Iterable[Figures]) -> list[Figures]:
    """These figures, added up in spans of `query.step_ms`."""
    step_ms = max(query.step_ms // query.unit_ms, 1) * query.unit_ms
    spans: dict[tuple[str, int], Figures] = {}
    for each in found:
        if query.functions and each.function not in query.functions:
            continue
        at_ms = each.at_ms - each.at_ms % step_ms
        key = (each.function, at_ms)
        before = spans.get(key, Figures(query.queue, each.function, at_ms, 0, 0, {}, {}))
        spans[key] = before.plus(each)
    return [spans[key] for key in sorted(spans)]
