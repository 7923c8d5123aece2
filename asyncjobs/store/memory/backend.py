"""The memory store: every queue of one app, on one event loop."""

from __future__ import annotations

from collections.abc import Sequence

from asyncjobs.errors import StoreError, UsageError
from asyncjobs.model.awaiting import NewEvent
from asyncjobs.model.batches import places_by_queue
from asyncjobs.model.clock import now_ms as system_now_ms
from asyncjobs.model.figures import Figures
from asyncjobs.model.job import JobRecord
from asyncjobs.model.refs import JobRef
from asyncjobs.store.answers import (
    CancelCall,
    CancelVerdict,
    Enqueued,
    EventSent,
    Placed,
    Reclaimed,
    Relayed,
)
from asyncjobs.store.checks import check_batch
from asyncjobs.store.lease import LeaseSpec
from asyncjobs.store.memory.dead import MemoryDeadLetters
from asyncjobs.store.memory.flows import MemoryFlows
from asyncjobs.store.memory.inspection import MemoryInspection
from asyncjobs.store.memory.lease import CAPABILITIES, MemoryLease
from asyncjobs.store.memory.limits import MemoryLimits
from asyncjobs.store.memory.operating import MemoryControl
from asyncjobs.store.memory.queues import Queues
from asyncjobs.store.memory.schedules import MemorySchedules
from asyncjobs.store.memory.stored import check_priority
from asyncjobs.store.seam import (
    Backend,
    Clock,
    EnqueueBatch,
    StoreInfo,
    StoreSettings,
)
from asyncjobs.store.unstarted import cancel_unstarted

__all__ = ["MemoryBackend"]


class MemoryBackend:
    """See `Backend`. In this process's memory, private to this instance.

    Jobs outlive `close()` but not the process. Not for threads: all calls come from one
    event loop.
    """

    capabilities = CAPABILITIES
    address = "memory:"

    def __init__(self, settings: StoreSettings, *, now_ms: Clock | None = None) -> None:
        self._queues = Queues(settings, now_ms or system_now_ms)
        self.inspect = MemoryInspection(self._queues)
        self.dead = MemoryDeadLetters(self._queues)
        self.control = MemoryControl(self._queues)
        self.schedules = MemorySchedules(self._queues, self.capabilities)
        self.flows = MemoryFlows(self._queues)
        self.limits = MemoryLimits(self._queues)

    async def open(self) -> StoreInfo:
        """Never fails: there is nothing to connect to, and no layout that another release may
        have written."""
        return StoreInfo("memory", "1", self.address)

    async def close(self) -> None:
        """End all waits. The jobs stay."""
        self._queues.close()

    def for_thread(self) -> Backend:
        """Raises UsageError: this store lives on one event loop."""
        raise UsageError(
            "the memory: store has no twin for another event loop; "
            "check capabilities.threaded_heartbeat before you ask"
        )

    def break_queue(self, name: str, error: StoreError | None) -> None:
        """Fail with `error` for this queue from now on; None mends it.

        It is there for tests of what becomes of the other queues: this store has no faults of
        its own.
        """
        if error is None:
            self._queues.broken.pop(name, None)
        else:
            self._queues.broken[name] = error
            # Those who wait there look again, and get the error.
            self._queues.results.tell_queue(name)

    async def lease(self, spec: LeaseSpec) -> MemoryLease:
        lease = self.attach(spec)
        await lease.enter()
        return lease

    def attach(self, spec: LeaseSpec) -> MemoryLease:
        return MemoryLease(self._queues, spec)

    async def enqueue(self, batch: EnqueueBatch) -> Enqueued:
        """See `Backend.enqueue`. Raises ValueError for an unknown priority."""
        check_batch(batch, self.capabilities)
        for job in batch.jobs:
            check_priority(job)
        places = places_by_queue(job.queue for job in batch.jobs)
        for barrier in batch.barriers:
            places.setdefault(barrier.queue, [])
        now = self._queues.now_ms()
        token_ttl_ms = batch.token_ttl_ms or self._queues.settings.token_ttl_ms
        answer: list[Placed | None] = [None] * len(batch.jobs)
        queues, refused = self._queues.reach(places)
        for queue in queues:
            self._queues.note_used(queue.name)
            own = places[queue.name]
            jobs = [batch.jobs[place] for place in own]
            barriers = [each for each in batch.barriers if each.queue == queue.name]
            given = queue.enqueue(batch.token, jobs, barriers, token_ttl_ms, now)
            for place, placed in zip(own, given, strict=True):
                answer[place] = placed
        return Enqueued(answer, refused)

    async def relay(self, queues: Sequence[str], limit: int = 100) -> Relayed:
        # What a success causes in other queues was there in the same step.
        return Relayed(0)

    async def reclaim(
        self, queues: Sequence[str], grace_ms: int, limit: int, *, dead: str = ""
    ) -> Reclaimed:
        now = self._queues.now_ms()
        found, away = self._queues.reach(queues)
        answers = [queue.upkeep.reclaim(grace_ms, limit, now, dead) for queue in found]
        return Reclaimed(
            returned=sum(answer[0] for answer in answers),
            leases=sum(answer[1] for answer in answers),
            again_ms=min((again for _, _, again in answers if again is not None), default=None),
            now_ms=now,
            away=away,
        )

    async def prune(self, queues: Sequence[str], limit: int) -> int:
        now = self._queues.now_ms()
        found, away = self._queues.reach([name for name in queues if name in self._queues.by_name])
        dropped = sum(queue.upkeep.prune(limit, now) for queue in found)
        for queue in found:
            queue.locks.prune(now)
            queue.barriers.flows.prune(limit, now)
            await cancel_unstarted(self, [*queue.barriers.flows.unstarted(now)])
        for error in away.values():
            raise error
        return dropped

    async def get(self, refs: Sequence[JobRef]) -> list[JobRecord | None]:
        return self._records(refs)

    def _records(self, refs: Sequence[JobRef]) -> list[JobRecord | None]:
        self._queues.raise_broken(ref.queue for ref in refs)
        now = self._queues.now_ms()
        by_name = self._queues.by_name
        return [
            by_name[ref.queue].record(ref.id, now) if ref.queue in by_name else None for ref in refs
        ]

    async def cancel(
        self, refs: Sequence[JobRef], outcome: bytes | None, result_ttl_ms: int
    ) -> list[CancelVerdict]:
        now = self._queues.now_ms()
        verdicts = []
        for ref in refs:
            queue = self._queues.by_name.get(ref.queue)
            verdict = CancelVerdict.UNKNOWN
            if queue is not None and ref.queue not in self._queues.broken:
                verdict, holder = queue.cancel(ref.id, outcome, result_ttl_ms, now)
                if holder is not None:
                    self._queues.control.tell(ref.queue, CancelCall(holder, ref))
            verdicts.append(verdict)
        self._queues.raise_broken(ref.queue for ref in refs)
        return verdicts

    async def send_event(self, event: NewEvent, queues: Sequence[str]) -> EventSent:
        self._queues.keep_unlisted(queues)
        found, away = self._queues.reach(dict.fromkeys(queues))
        now = self._queues.now_ms()
        return EventSent({queue.name: queue.events.send(event, now) for queue in found}, away)

    async def add_figures(self, figures: Sequence[Figures]) -> None:
        places = places_by_queue(each.queue for each in figures)
        queues, away = self._queues.reach(places)
        for queue in queues:
            queue.finished.figures.add([figures[place] for place in places[queue.name]])
        # After those of all other queues are added.
        for error in away.values():
            raise error

    async def wait_results(
        self, refs: Sequence[JobRef], timeout_s: float | None
    ) -> list[JobRecord | None]:
        """See `Backend.wait_results`."""
        records = self._records(refs)
        if not refs or any(record is None or record.state.is_final for record in records):
            return records
        await self._queues.results.wait(refs, timeout_s)
        return self._records(refs)
