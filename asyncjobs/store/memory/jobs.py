"""Lists of jobs in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from heapq import nlargest, nsmallest
from typing import TypeVar

from asyncjobs.errors import StoreError
from asyncjobs.model.ids import id_bytes
from asyncjobs.model.job import JobRecord, State
from asyncjobs.model.refs import JobRef
from asyncjobs.store.changes import Change, Changed, Target
from asyncjobs.store.listing import JobCursor, JobPage, JobQuery, ListedJob
from asyncjobs.store.looking import Ask, Batch, Found, check_query, look, parts_of
from asyncjobs.store.memory.amending import Amending
from asyncjobs.store.memory.queue import Queue
from asyncjobs.store.memory.queues import Queues
from asyncjobs.store.memory.stored import StoredJob

__all__ = ["MemoryJobInspection"]

T = TypeVar("T", Target, Change)


class MemoryJobInspection:
    """See `JobInspection`."""

    def __init__(self, queues: Queues) -> None:
        self._queues = queues

    async def page(self, query: JobQuery, after: JobCursor | None = None) -> JobPage:
        check_query(query, after)
        names = query.queues or self._queues.names()
        places = [(queue, part) for queue in sorted(names) for part in parts_of(query.state)]

        async def read(asks: Sequence[Ask]) -> Sequence[Batch | StoreError]:
            return [self._read(query, ask) for ask in asks]

        return await look(query, places, after, read)

    async def delete(self, targets: Sequence[Target]) -> list[Changed]:
        now = self._queues.now_ms()
        return self._act(targets, lambda amending, target: amending.delete(target, now))

    async def run_now(self, targets: Sequence[Target]) -> list[Changed]:
        now = self._queues.now_ms()
        return self._act(targets, lambda amending, target: amending.run_now(target, now))

    async def change(self, changes: Sequence[Change]) -> list[Changed]:
        now = self._queues.now_ms()
        return self._act(changes, lambda amending, change: amending.change(change, now))

    def _act(self, about: Sequence[T], act: Callable[[Amending, T], Changed]) -> list[Changed]:
        """Act on each job whose queue is sound. Raises the error of one that is not."""
        by_name = self._queues.by_name
        verdicts: list[Changed] = []
        for each in about:
            queue = by_name.get(each.ref.queue)
            verdict = Changed.GONE
            if queue is not None and queue.name not in self._queues.broken:
                verdict = act(queue.amending, each)
            verdicts.append(verdict)
        for name in {each.ref.queue for each in about} & by_name.keys():
            by_name[name].amending.signal_news()
        self._queues.raise_broken(each.ref.queue for each in about)
        return verdicts

    def _read(self, query: JobQuery, ask: Ask) -> Batch | StoreError:
        now = self._queues.now_ms()
        if ask.queue in self._queues.broken:
            return self._queues.broken[ask.queue]
        queue = self._queues.by_name.get(ask.queue)
        if queue is None:
            return Batch(now, 0, 0, None, is_end=True, found=[])
        found = [
            each
            for each in _jobs(queue, query.state, ask.part)
            if _is_asked(ask, each, oldest_first=query.oldest_first)
        ]
        # Memory is for tests and small apps, so it sorts for each page what a server has in order.
        choose = nsmallest if query.oldest_first else nlargest
        chosen: list[Found] = []
        size = 0
        last = None
        for each in choose(ask.most, found, key=lambda each: (each.order_ms, each.tie)):
            # rule:11 a look at large jobs stops after so many bytes, in memory
            if size >= ask.most_bytes:
                break
            chosen.append(each)
            size += each.job.size
            last = (each.order_ms, each.tie)
        return Batch(now, len(chosen), size, last, len(chosen) == len(found), chosen)


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


def _jobs(queue: Queue, state: State, part: int) -> Iterator[Found]:
    """The jobs of this state, in any order."""
    if state is State.DEAD:
        for died_ms, id, letter in queue.ended.all_letters():
            record = JobRecord(
                JobRef(queue.name, id), state, letter.priority, dead_letter=letter.dead_letter
            )
            listed = ListedJob(record, died_ms, b"%d" % died_ms, len(letter.dead_letter))
            yield Found(id_bytes(id), died_ms, listed)
        return
    # Ids order jobs of one time, as the bytes of members do in a sorted set of a server.
    if state is State.SCHEDULED:
        for job in queue.waiting.scheduled_jobs():
            due_ms = job.due_ms or 0
            yield Found(id_bytes(job.id), due_ms, _listed(queue, job, due_ms))
        return
    jobs = queue.waiting.ready_jobs(part)
    if state is State.RUNNING:
        jobs = queue.running_jobs(part)
    for job in jobs:
        time_ms = job.ready_ms
        worker = b""
        if state is State.RUNNING:
            time_ms = job.taken_ms
            # A lease that is over is gone, while its jobs may not be given back yet.
            held = queue.leases.get(job.holder or "")
            worker = b"" if held is None else held.info
        yield Found(job.serial, job.ready_ms, _listed(queue, job, time_ms, worker))


def _listed(queue: Queue, job: StoredJob, time_ms: int, worker: bytes = b"") -> ListedJob:
    record = job.record(JobRef(queue.name, job.id))
    if record.state is not State.RUNNING:
        # A server would have to look for the notes of each job.
        record = record._replace(progress=None)
    return ListedJob(record, time_ms, job.seen, len(job.envelope), worker)
