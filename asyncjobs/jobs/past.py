"""`app.history`: the last jobs that have ended, and what the attempts of job functions took."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from asyncjobs.errors import UsageError
from asyncjobs.jobs.overview import store_now_ms
from asyncjobs.jobs.times import from_ms
from asyncjobs.model.clock import Seconds, seconds
from asyncjobs.model.figures import HOUR_MS, MINUTE_MS, Figures
from asyncjobs.model.histogram import Histogram, quantile_s
from asyncjobs.model.history import FinishedJob
from asyncjobs.model.job import State
from asyncjobs.model.refs import JobRef
from asyncjobs.options.checks import check_queue_name
from asyncjobs.store.history import FiguresQuery, FinishedQuery
from asyncjobs.store.seam import Backend

__all__ = [
    "EndedJob",
    "FunctionFigures",
    "History",
    "Quantiles",
    "figures_query",
    "in_one",
    "newest",
]

HOUR_S: Final = 3600.0
DAY_S: Final = 86_400.0
LONGEST_S: Final = 30 * DAY_S


@dataclass(frozen=True, slots=True)
class EndedJob:
    """A job that has ended, as the history of its queue keeps it.

    ref: its queue and id.
    state: how it ended.
    name: the name of its job function; '' if nobody could read it.
    attempt: the number of its last attempt; 0 if it had none.
    worker: the name of the worker that ended it; None if it ended while it waited.
    enqueued_at: when it was enqueued, by the clock of the process that did so.
    ready_at, began_at, ended_at: when it was ready, its last attempt began, and it ended, by the
    store's clock. None for what has not happened or is not known.
    ran_s: how long its last attempt ran; None if that never began.
    error: the first 200 characters of its error in one line; '' without one.
    """

    ref: JobRef
    state: State
    name: str
    attempt: int
    worker: str | None
    enqueued_at: datetime | None
    ready_at: datetime | None
    began_at: datetime | None
    ended_at: datetime
    ran_s: float | None
    error: str


class Quantiles(NamedTuple):
    """What 50, 95 and 99 per cent of the times do not exceed, in seconds, to within 10 %."""

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True)
class FunctionFigures:
    """The attempts of one job function in one queue that ended in a span of time.

    name: the function; '' for all those together for which the store has had no room.
    since: when the span begins.
    attempts: how many attempts have ended.
    failed: how many of them failed, so that the job was retried or is dead.
    queued: how long their jobs were ready before; None if no attempt has told that.
    ran: how long the attempts ran; None if no attempt has told that.
    """

    queue: str
    name: str
    since: datetime
    attempts: int
    failed: int
    queued: Quantiles | None
    ran: Quantiles | None


class History:
    """What the store keeps of the past. See the setting `history`.

    All methods raise NotOpen outside of `async with app`, StoreUnavailable, and the StoreError of a
    queue that cannot be read.
    """

    __slots__ = ("_opened",)

    def __init__(self, opened: Callable[[], Backend]) -> None:
        self._opened = opened

    async def jobs(
        self,
        *,
        queue: str | Sequence[str] = (),
        function: str | None = None,
        state: State | str | Sequence[State | str] = (),
        error: str = "",
        newer_than: Seconds | None = None,
        limit: int = 100,
    ) -> list[EndedJob]:
        """The last jobs that have ended, the newest first.

        queue: only of this queue, or of several. function: only of this job function.
        state: only those that ended so. error: only those whose error has this text.
        newer_than: how long ago they ended at the most. limit: how many at the most.

        Raises UsageError for a limit below 1 and for a state in which no job ends.
        """
        store = self._opened()
        if limit < 1:
            raise UsageError(f"limit={limit!r} must be at least 1")
        query = FinishedQuery("", states=_states(state), error=error, limit=limit)
        if function is not None:
            query = query._replace(functions=(function,))
        queues = await _queues(store, queue)
        if newer_than is not None and queues:
            now_ms = await store_now_ms(store, queues[:1])
            age_ms = round(1000 * seconds(newer_than, field="newer_than"))
            query = query._replace(since_ms=now_ms - age_ms)
        found: list[FinishedJob] = []
        for name in queues:
            found += await newest(store, query._replace(queue=name))
        found.sort(key=lambda job: (job.ended_ms, job.ref, job.number), reverse=True)
        return [_ended(job) for job in found[:limit]]

    async def functions(
        self,
        *,
        queue: str | Sequence[str] = (),
        function: str | None = None,
        newer_than: Seconds = HOUR_S,
        step: Seconds | None = None,
    ) -> list[FunctionFigures]:
        """What the attempts of each job function took, by queue and name.

        queue: only in this queue, or in several. function: only of this job function.
        newer_than: how far to look back, from a minute to 30 days. What is older than a day is kept
        by the hour. step: in spans of this length, oldest first; None makes one span of them all.

        Raises UsageError for times that are out of range.
        """
        store = self._opened()
        since_s = seconds(newer_than, field="newer_than")
        if not 60 <= since_s <= LONGEST_S:
            raise UsageError(f"newer_than={newer_than!r} must be from a minute to 30 days")
        step_s = None
        if step is not None:
            step_s = seconds(step, field="step")
            if step_s < 60:
                raise UsageError(f"step={step!r} must be at least a minute")
        queues = await _queues(store, queue)
        if not queues:
            return []
        query = figures_query(await store_now_ms(store, queues[:1]), since_s, step_s)
        if function is not None:
            query = query._replace(functions=(function,))
        found: list[Figures] = []
        for name in queues:
            found += await store.inspect.history.figures(query._replace(queue=name))
        if step_s is None:
            found = in_one(found)
        return [_figures(each) for each in found]


def _states(state: State | str | Sequence[State | str]) -> list[State]:
    names = [state] if isinstance(state, str) else state
    for name in names:
        if name not in list(State) or not State(name).is_final:
            raise UsageError(f"no job ends as {name!r}")
    return [State(name) for name in names]


async def _queues(store: Backend, queue: str | Sequence[str]) -> tuple[str, ...]:
    names = (queue,) if isinstance(queue, str) else tuple(queue)
    if names:
        return tuple(check_queue_name(name) for name in names)
    return tuple(await store.inspect.queues.names())


async def newest(store: Backend, query: FinishedQuery) -> list[FinishedJob]:
    """The newest jobs of one queue that pass, from several pages of the store if need be."""
    jobs: list[FinishedJob] = []
    after = None
    while True:
        page = await store.inspect.history.finished(
            query._replace(limit=query.limit - len(jobs)), after
        )
        jobs += page.jobs
        after = page.after
        if after is None or len(jobs) >= query.limit:
            return jobs


def figures_query(now_ms: int, since_s: float, step_s: float | None) -> FiguresQuery:
    """What to ask each queue. Minutes are kept for a day: what is older is there by the hour."""
    step_ms = round(1000 * (step_s or 60))
    if since_s > DAY_S:
        step_ms = max(step_ms, HOUR_MS)
    return FiguresQuery("", now_ms - round(1000 * since_s), now_ms + 1, max(step_ms, MINUTE_MS))


def in_one(rows: Sequence[Figures]) -> list[Figures]:
    """All spans of a function together."""
    together: dict[tuple[str, str], Figures] = {}
    for each in rows:
        key = (each.queue, each.function)
        before = together.get(key)
        together[key] = each if before is None else before.plus(each)
    return list(together.values())


def _ended(job: FinishedJob) -> EndedJob:
    ran_s = None
    if job.began_ms is not None:
        ran_s = job.lasted_s
    return EndedJob(
        job.ref,
        job.state,
        job.function,
        job.attempt,
        job.worker or None,
        _time(job.enqueued_ms),
        _time(job.ready_ms),
        _time(job.began_ms),
        from_ms(job.ended_ms),
        ran_s,
        job.error,
    )


def _time(ms: int | None) -> datetime | None:
    if ms is None:
        return None
    return from_ms(ms)


def _figures(each: Figures) -> FunctionFigures:
    # OTHERS has no name.
    return FunctionFigures(
        each.queue,
        each.function,
        from_ms(each.at_ms),
        each.attempts,
        each.failed,
        _quantiles(each.queued),
        _quantiles(each.ran),
    )


def _quantiles(histogram: Histogram) -> Quantiles | None:
    p50, p95, p99 = (quantile_s(histogram, share) for share in (0.5, 0.95, 0.99))
    if p50 is None or p95 is None or p99 is None:
        return None
    return Quantiles(p50, p95, p99)
