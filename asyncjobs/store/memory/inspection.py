"""The inspection of a store in memory."""

from __future__ import annotations

from collections.abc import Sequence

from asyncjobs.model.notes import Notes
from asyncjobs.model.refs import JobRef
from asyncjobs.store.activity import flow_of
from asyncjobs.store.inspect import (
    Finding,
    Leftover,
    QueueCounts,
    QueueFlow,
    Survey,
    Verdict,
    WorkerEntry,
)
from asyncjobs.store.memory.figures import counts_of, left_in, queue_flow
from asyncjobs.store.memory.history import MemoryHistory
from asyncjobs.store.memory.jobs import MemoryJobInspection
from asyncjobs.store.memory.locks import MemoryUniqueKeys
from asyncjobs.store.memory.queues import Queues
from asyncjobs.store.memory.surveyor import Surveyor

__all__ = ["MemoryInspection", "MemoryQueueInspection"]


class MemoryInspection:
    """See `Inspection`."""

    def __init__(self, queues: Queues) -> None:
        self._queues = queues
        self.queues = MemoryQueueInspection(queues)
        self.history = MemoryHistory(queues)
        self.jobs = MemoryJobInspection(queues, self.history)
        self.unique = MemoryUniqueKeys(queues)

    async def workers(self, queues: Sequence[str]) -> list[WorkerEntry]:
        now = self._queues.now_ms()
        by_name = self._queues.by_name
        known = [by_name[name] for name in queues if name in by_name]
        return [entry for queue in known for entry in queue.leases.workers(now)]

    async def notes(self, ref: JobRef, *, is_dead: bool) -> Notes:
        queue = self._queues.by_name.get(ref.queue)
        if queue is None:
            return {}
        if is_dead:
            return queue.ended.notes(ref.id)
        job = queue.find(ref.id)
        if job is None:
            return {}
        return dict(job.notes)

    async def diagnose(self) -> list[Finding]:
        """Always one problem: the jobs of this store end with its process."""
        found = "this process's own memory: jobs end with it, and no other process sees them"
        change = ("set ASYNCJOBS_URL=redis://localhost:6379",)
        return [Finding("store", Verdict.PROBLEM, found, change)]


class MemoryQueueInspection:
    """See `QueueInspection`."""

    def __init__(self, queues: Queues) -> None:
        self._queues = queues
        self._surveyor: Surveyor | None = None

    async def names(self) -> list[str]:
        return self._queues.names()

    async def forget(self, queues: Sequence[str], idle_ms: int) -> list[Leftover]:
        known = [name for name in queues if name in self._queues.by_name]
        found, away = self._queues.reach(known)
        for error in away.values():
            raise error
        now = self._queues.now_ms()
        awaited = self._queues.results.queues()
        left: dict[str, Leftover] = {}
        for queue in found:
            fed = sum(rule.ref.queue == queue.name for rule in self._queues.rules.values())
            is_awaited = queue.name in awaited
            left[queue.name] = left_in(queue, idle_ms, now, is_awaited=is_awaited, schedules=fed)
            if left[queue.name].is_forgotten:
                self._queues.forget(queue, now)
        return [left.get(name, Leftover(name)) for name in queues]

    async def survey(self, asker: str, about: int, turn_ms: int) -> Survey:
        """See `QueueInspection.survey`. A new queue may have to wait for the next round."""
        now = self._queues.now_ms()
        present = self._surveyor
        if present is None or present.until_ms <= now:
            present = self._surveyor = Surveyor(asker)
        elif present.asker != asker:
            return Survey(is_turn=False, is_last=False, queues=[])
        return present.look(self._queues.names(), about, now + turn_ms)

    async def counts(self, queues: Sequence[str]) -> list[QueueCounts]:
        """All zero for a queue that was never used."""
        now = self._queues.now_ms()
        by_name = self._queues.by_name
        unused = ((0, 0, 0, 0), 0, 0, 0, 0)
        return [
            counts_of(by_name[name], now) if name in by_name else QueueCounts(name, *unused)
            for name in queues
        ]

    async def flow(self, queues: Sequence[str]) -> list[QueueFlow]:
        now = self._queues.now_ms()
        by_name = self._queues.by_name
        return [
            queue_flow(by_name[name], now) if name in by_name else flow_of(name, now, None, {})
            for name in queues
        ]

    async def put_back(self, queues: Sequence[str], limit: int) -> list[list[bytes]]:
        by_name = self._queues.by_name
        return [by_name[name].waiting.put_back(limit) if name in by_name else [] for name in queues]
