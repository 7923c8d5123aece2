"""What operators do to queues and workers of a store in memory."""

from __future__ import annotations

from collections.abc import Sequence

from asyncjobs.model.job import State
from asyncjobs.store.answers import WorkerOrdered
from asyncjobs.store.control import OrderKind, Pause, Purge, Purged
from asyncjobs.store.memory.pauses import function_in
from asyncjobs.store.memory.queue import Queue
from asyncjobs.store.memory.queues import Queues

__all__ = ["MemoryControl", "MemoryQueueControl"]


class MemoryControl:
    """See `Control`."""

    def __init__(self, queues: Queues) -> None:
        self.queues = MemoryQueueControl(queues)
        self.workers = MemoryWorkerControl(queues)


class MemoryWorkerControl:
    """See `WorkerControl`."""

    def __init__(self, queues: Queues) -> None:
        self._queues = queues

    async def order(
        self, entries: Sequence[tuple[str, str]], kind: OrderKind, value: str
    ) -> list[bool]:
        now = self._queues.now_ms()
        answers = []
        for queue, lease in entries:
            is_there = self._queues.sound(queue).leases.order(lease, kind, value, now)
            if is_there:
                self._queues.control.tell(queue, WorkerOrdered(queue, lease))
            answers.append(is_there)
        return answers


class MemoryQueueControl:
    """See `QueueControl`."""

    def __init__(self, queues: Queues) -> None:
        self._queues = queues

    async def pause(self, queues: Sequence[str], function: str | None, info: bytes) -> list[bool]:
        now = self._queues.now_ms()
        answers = []
        for queue in self._reach(queues):
            self._queues.note_used(queue.name)
            answers.append(queue.pauses.pause(queue.name, function, info, now))
        return answers

    async def resume(self, queues: Sequence[str], function: str | None) -> list[bool]:
        answers = []
        for queue in self._reach(queues):
            # In one go: nothing else runs in between, so no order can be lost.
            was_paused = queue.pauses.resume(function)
            if was_paused:
                queue.waiting.bring_back(function, self._queues.now_ms())
                # rule:18 who resumes wakes a worker, in memory
                self._queues.wakes.signal(queue.name)
            answers.append(was_paused)
        return answers

    async def paused(self, queues: Sequence[str]) -> list[list[Pause]]:
        by_name = self._queues.by_name
        return [by_name[q].pauses.listed(q) if q in by_name else [] for q in queues]

    async def purge(self, purge: Purge, limit: int, after: bytes | None = None) -> Purged:
        """See `QueueControl.purge`. It is all done in one part, for nobody else could go on
        meanwhile."""
        self._queues.raise_broken([purge.queue])
        queue = self._queues.by_name.get(purge.queue)
        if queue is None:
            return Purged(0, None)
        # First those that are held: they would go on when the jobs before them are cancelled.
        waiting = queue.waiting.jobs(purge.states)
        if State.HELD in purge.states:
            # rule:21 a purge takes held jobs first, so that none goes on, in memory
            waiting = [*queue.locks.held_jobs(), *queue.barriers.held_jobs(), *waiting]
        jobs = [
            job
            for job in waiting
            if purge.function is None or function_in(job.envelope) == purge.function
        ]
        if not purge.is_trial:
            now = self._queues.now_ms()
            for job in jobs:
                queue.cancel(job.id, purge.outcome, purge.result_ttl_ms, now)
        return Purged(len(jobs), None)

    def _reach(self, queues: Sequence[str]) -> list[Queue]:
        self._queues.raise_broken(queues)
        return [self._queues.queue(name) for name in queues]
