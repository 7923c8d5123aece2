"""A store in memory that tells which jobs were stored, and which values they have returned."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from asyncjobs.model.demand import Demand
from asyncjobs.model.job import JobRecord, NewJob
from asyncjobs.model.notes import Note
from asyncjobs.model.refs import JobRef
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.answers import Enqueued, Exchange, Placed
from asyncjobs.store.lease import LeaseSpec
from asyncjobs.store.memory import MemoryBackend
from asyncjobs.store.memory.lease import MemoryLease
from asyncjobs.store.memory.queues import Queues
from asyncjobs.store.seam import Clock, EnqueueBatch, StoreSettings

__all__ = ["OnNoted", "OnSettled", "RecordingBackend"]

OnStored = Callable[[NewJob, "Placed | None"], None]
OnSettled = Callable[[Settlement], None]
OnNoted = Callable[[Note], None]


class RecordingBackend(MemoryBackend):
    """See `MemoryBackend`.

    on_stored: called with each job that an enqueue has stored, and what stands in its place.
    on_settled: called with each settlement that counts.
    on_noted: called with each note that a job has kept.
    """

    def __init__(
        self,
        settings: StoreSettings,
        clock: Clock,
        on_stored: OnStored,
        on_settled: OnSettled,
        on_noted: OnNoted = lambda note: None,
    ) -> None:
        super().__init__(settings, now_ms=clock)
        self._on_stored = on_stored
        self._on_settled = on_settled
        self._on_noted = on_noted

    async def enqueue(self, batch: EnqueueBatch) -> Enqueued:
        answer = await super().enqueue(batch)
        for job, place in zip(batch.jobs, answer.places, strict=True):
            if job.queue not in answer.refused:
                self._on_stored(job, place)
        return answer

    def attach(self, spec: LeaseSpec) -> MemoryLease:
        return _RecordingLease(self._queues, spec, self._on_settled, self._on_noted)

    def record(self, ref: JobRef) -> JobRecord | None:
        """What is known of a job now."""
        queue = self._queues.by_name.get(ref.queue)
        if queue is None:
            return None
        return queue.record(ref.id, self._queues.now_ms())


class _RecordingLease(MemoryLease):
    def __init__(
        self, queues: Queues, spec: LeaseSpec, on_settled: OnSettled, on_noted: OnNoted
    ) -> None:
        super().__init__(queues, spec)
        self._on_settled = on_settled
        self._on_noted = on_noted

    async def note(self, notes: Sequence[Note]) -> list[bool]:
        answer = await super().note(notes)
        for note, is_kept in zip(notes, answer, strict=True):
            if is_kept:
                self._on_noted(note)
        return answer

    async def exchange(
        self, sequence: int, settlements: Sequence[Settlement], demand: Mapping[str, Demand]
    ) -> Exchange:
        answer = await super().exchange(sequence, settlements, demand)
        refused = {id(each) for each in answer.not_yours}
        for settlement in settlements:
            if id(settlement) not in refused:
                self._on_settled(settlement)
        return answer
