"""Lists of jobs in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from asyncjobs.errors import StoreError
from asyncjobs.model.ids import id_bytes
from asyncjobs.model.job import JobRecord, State
from asyncjobs.model.refs import JobRef
from asyncjobs.store.changes import Change, Changed, Target
from asyncjobs.store.ended_jobs import batch_of, page_of_ended
from asyncjobs.store.history import History
from asyncjobs.store.listing import ENDED_STATES, JobCursor, JobPage, JobQuery, ListedJob
from asyncjobs.store.looking import BEHIND, Ask, Batch, Found, check_query, look, parts_of
from asyncjobs.store.memory.amending import Amending
from asyncjobs.store.memory.queue import Queue
from asyncjobs.store.memory.queues import Queues
from asyncjobs.store.memory.stored import StoredJob

__all__ = ["MemoryJobInspection"]

T = TypeVar("T", Target, Change)


class MemoryJobInspection:
    """See `JobInspection`."""

    def __init__(self, queues: Queues, history: History) -> None:
        self._queues = queues
        self._history = history

    async def page(self, query: JobQuery, after: JobCursor | None = None) -> JobPage:
        check_query(query, after)
        names = query.queues or self._queues.names()
        if query.state in ENDED_STATES:
            return await page_of_ended(self._history, names, query, after)
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
        found = _jobs(queue, query.state, ask.part)
        # Memory is for tests and small apps, so it sorts for each page what a server has in order.
        return batch_of(found, ask, now, oldest_first=query.oldest_first)


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
    if state is State.HELD:
        waits_at = queue.barriers if part == BEHIND else queue.locks
        for job in waits_at.held_jobs():
            yield Found(id_bytes(job.id), job.held_ms, _listed(queue, job, job.held_ms))
        # Those in lanes have no part of their own here.
        lanes = queue.waiting.gates.lanes
        for job in lanes.held_jobs() if part != BEHIND else ():
            yield Found(id_bytes(job.id), job.ready_ms, _listed(queue, job, job.ready_ms))
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
