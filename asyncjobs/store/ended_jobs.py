"""Lists of jobs that have ended, from the history of each queue.

The history of a queue is in the order of the ends, which is not that of their times after the clock
of a store was set back. It is short. So all of it is read and sorted for each page.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from heapq import nlargest, nsmallest

from asyncjobs.errors import StoreError
from asyncjobs.model.history import FinishedJob
from asyncjobs.model.job import JobRecord
from asyncjobs.store.apart import apart
from asyncjobs.store.history import MAX_LOOK, FinishedQuery, History
from asyncjobs.store.listing import JobCursor, JobPage, JobQuery, ListedJob
from asyncjobs.store.looking import Ask, Batch, Found, look

__all__ = ["batch_of", "page_of_ended"]


async def page_of_ended(
    history: History, queues: Sequence[str], query: JobQuery, after: JobCursor | None
) -> JobPage:
    """One page of the jobs that have ended in one of ENDED_STATES: see `JobListing.page`."""
    ends: dict[str, _Ends] = {}

    async def ends_of(names: Sequence[str]) -> list[_Ends]:
        return [await _read(history, name, query) for name in names]

    async def read(asks: Sequence[Ask]) -> list[Batch | StoreError]:
        found = await apart(ends_of, [ask.queue for ask in asks if ask.queue not in ends])
        ends.update(found.answers)
        answers: list[Batch | StoreError] = []
        for ask in asks:
            if ask.queue in found.refused:
                answers.append(found.refused[ask.queue])
            else:
                answers.append(ends[ask.queue].batch(ask, oldest_first=query.oldest_first))
        return answers

    return await look(query, [(queue, 0) for queue in sorted(queues)], after, read)


class _Ends:
    """The jobs of one queue that have ended in the state that is asked for."""

    def __init__(self, jobs: Iterable[FinishedJob], now_ms: int) -> None:
        self._now_ms = now_ms
        self._found = [Found(job.number, job.ended_ms, _listed(job)) for job in jobs]

    def batch(self, ask: Ask, *, oldest_first: bool) -> Batch:
        """What they answer."""
        return batch_of(self._found, ask, self._now_ms, oldest_first=oldest_first)


def _listed(job: FinishedJob) -> ListedJob:
    return ListedJob(JobRecord(job.ref, job.state), job.ended_ms, b"", 0, ended=job)


async def _read(history: History, queue: str, query: JobQuery) -> _Ends:
    jobs: list[FinishedJob] = []
    after = None
    while True:
        asked = FinishedQuery(queue, states=[query.state], limit=MAX_LOOK)
        page = await history.finished(asked, after)
        jobs += page.jobs
        after = page.after
        # A ring is bounded, so this ends.
        if after is None:
            return _Ends(jobs, page.now_ms)


def batch_of(found: Iterable[Found], ask: Ask, now_ms: int, *, oldest_first: bool) -> Batch:
    """The answer of a place that has its jobs in any order."""
    asked = [each for each in found if _is_asked(ask, each, oldest_first=oldest_first)]
    # rule:20 jobs that have ended are listed in the order of their times
    choose = nsmallest if oldest_first else nlargest
    chosen: list[Found] = []
    size = 0
    last = None
    for each in choose(ask.most, asked, key=lambda each: (each.order_ms, each.tie)):
        # rule:11 a look at large jobs stops after so many bytes, in memory
        if size >= ask.most_bytes:
            break
        chosen.append(each)
        size += each.job.size
        last = (each.order_ms, each.tie)
    return Batch(now_ms, len(chosen), size, last, len(chosen) == len(asked), chosen)


def _is_asked(ask: Ask, found: Found, *, oldest_first: bool) -> bool:
    """Whether a job stands in what is asked for."""
    if ask.since_ms is not None and found.order_ms < ask.since_ms:
        return False
    if ask.before_ms is not None and found.order_ms >= ask.before_ms:
        return False
    if ask.after is None:
        return True
    place = (found.order_ms, found.tie)
    if oldest_first:
        return place > ask.after
    return place < ask.after
