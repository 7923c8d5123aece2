"""What a worker asks of the store in memory in the name of its lease."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from asyncjobs.model.clock import new_id
from asyncjobs.model.job import Demand, Note, Notes, Settlement, TakenJob
from asyncjobs.store.answers import (
    Exchange,
    Heartbeat,
    Parked,
    Registered,
    Resync,
    Signal,
    StaleSequence,
)
from asyncjobs.store.checks import check_effects
from asyncjobs.store.lease import LeaseSpec, Offer
from asyncjobs.store.memory.queue import MOST_MARKS, Queue
from asyncjobs.store.memory.queues import Queues
from asyncjobs.store.seam import Capabilities

__all__ = ["CAPABILITIES", "MemoryLease"]

CAPABILITIES = Capabilities(durable=False, shared=False, threaded_heartbeat=False, notes=True)
PROMOTED_AT_LEAST = 100
NO_DEMAND = Demand(0)


class MemoryLease:
    """See `Lease`. Owns nothing but its own name: what it holds is in the queues."""

    def __init__(self, queues: Queues, spec: LeaseSpec) -> None:
        self._queues = queues
        self.spec = spec
        self.entered = Registered(0)

    async def enter(self, queues: Collection[str] | None = None) -> Registered:
        """Enter these queues, or all, under the names that the lease has there."""
        self.entered = self._enter(self.spec, self.spec.queues if queues is None else queues)
        return self.entered

    async def rejoin(self, queues: Collection[str]) -> Registered:
        name = new_id()
        answer = self._enter(self.spec.renew(queues, name), queues)
        entered = [queue for queue in queues if queue not in answer.away]
        self.spec = self.spec.renew(entered, name)
        return answer

    def _enter(self, spec: LeaseSpec, queues: Collection[str]) -> Registered:
        now = self._queues.now_ms()
        found, away = self._queues.reach(queues)
        for queue in found:
            self._queues.note_used(queue.name)
            queue.register(spec, now)
        return Registered(now, away)

    async def leave(self, crashed: Collection[TakenJob] = ()) -> None:
        self._queues.control.drop(self.spec)
        queues, away = self._queues.reach(self.spec.queues)
        for queue in queues:
            queue.deregister(self.spec, [job for job in crashed if job.queue == queue.name])
        for error in away.values():
            raise error

    async def beat(self, *, leaves: bool = False) -> Heartbeat:
        spec, now = self.spec, self._queues.now_ms()
        queues, away = self._queues.reach(spec.queues)
        held = [queue for queue in queues if queue.renew(spec, now, leaves)]
        lost = tuple(queue.name for queue in queues if queue not in held)
        cancels = [ref for queue in held for ref in queue.cancels(spec)]
        ready = tuple(queue.name for queue in held if queue.has_work(now))
        # rule:2 a heartbeat tells of a reclaim that nobody has ended, in memory
        ends = [now if queue.leaving else queue.next_lease_end(spec) for queue in queues]
        return Heartbeat(lost, cancels, _earliest(ends), now, ready, away)

    async def exchange(
        self,
        sequence: int,
        settlements: Sequence[Settlement],
        demand: Mapping[str, Demand],
    ) -> Exchange:
        return self._exchange(sequence, settlements, demand)

    def _exchange(
        self,
        sequence: int,
        settlements: Sequence[Settlement],
        demand: Mapping[str, Demand],
        *,
        is_parked: bool = False,
    ) -> Exchange:
        for settlement in settlements:
            check_effects(settlement, CAPABILITIES)
        spec, now = self.spec, self._queues.now_ms()
        names = dict.fromkeys([*demand, *(settlement.job.queue for settlement in settlements)])
        # Every queue is asked before the first is touched: a stale exchange has no effect.
        found, away = self._queues.reach(names)
        present = {q.name: q for q in found if q.check_sequence(spec, sequence, is_parked)}
        for queue in present.values():
            queue.begin(spec, sequence, is_parked)
        settled = [
            (settlement, present[name].settle(spec, settlement, now))
            for settlement in settlements
            if (name := settlement.job.queue) in present
        ]
        # After all of them, as a server does it: an id is free only when its job has ended.
        for settlement, state in settled:
            # rule:5 a success that does not count stores nothing, also in memory
            if settlement.effects is not None and state is not None:
                present[settlement.job.queue].store(settlement.effects.jobs, now)
        jobs, promoted = _hand_out(present.values(), spec, demand, now)
        return Exchange(
            jobs,
            [settlement for settlement, state in settled if state is None],
            lost=tuple(name for name in names if name not in present and name not in away),
            cancels=[ref for q in present.values() for ref in q.cancels(spec, MOST_MARKS)],
            left_ready=frozenset(name for name, queue in present.items() if queue.left_ready),
            next_due_ms={name: queue.next_due_ms for name, queue in present.items()},
            next_lease_end_ms=_earliest(q.next_lease_end(spec) for q in present.values()),
            now_ms=now,
            promoted=promoted,
            cancelled=[s for s, state in settled if state not in (None, s.state)],
            suspects={q.name: fewest for q in present.values() if (fewest := q.fewest_crashes)},
            away=away,
        )

    async def park(self, timeout_s: float, offer: Offer | None = None) -> Parked:
        signalled = await self._queues.wakes.wait(self.spec.queues, timeout_s)
        if offer is None:
            return Parked(signalled, None)
        return self._answer(signalled, offer)

    def _answer(self, signalled: Collection[str], offer: Offer) -> Parked:
        """The exchange that was sent behind the wait."""
        demand = {name: wanted._replace(suspects=()) for name, wanted in offer.demand.items()}
        try:
            exchange = self._exchange(offer.sequence, (), demand, is_parked=True)
        except StaleSequence:
            return Parked(signalled, None)
        for error in exchange.away.values():
            raise error
        # Suspects were passed over; whoever knows what else runs shall have them.
        left = [name for name in demand if self._queues.queue(name).has_work(exchange.now_ms)]
        for name in left:
            self._queues.wakes.signal(name)
        return Parked(signalled, exchange._replace(left_ready=frozenset(left)))

    async def resync(
        self,
        sequence: int,
        holding: Collection[TakenJob],
        queues: Collection[str] | None = None,
    ) -> Resync:
        """See `Lease.resync`. Raises StaleSequence for a sequence that was used."""
        spec = self.spec
        asked, away = self._queues.reach(spec.queues if queues is None else queues)
        present = [queue for queue in asked if queue.check_sequence(spec, sequence)]
        named = {(job.queue, job.receipt) for job in holding if job.holder == spec.entry(job.queue)}
        applied: dict[str, int] = {}
        missing: list[TakenJob] = []
        for queue in present:
            applied[queue.name], held = queue.resync(spec, sequence)
            missing += [job for job in held if (job.queue, job.receipt) not in named]
        lost = tuple(queue.name for queue in asked if queue not in present)
        return Resync(applied, missing, lost, away)

    async def note(self, notes: Sequence[Note]) -> list[bool]:
        return [self._queues.sound(note.job.queue).note(self.spec, note) for note in notes]

    async def notes(self, jobs: Sequence[TakenJob]) -> list[Notes | None]:
        return [self._queues.sound(job.queue).notes(self.spec, job) for job in jobs]

    async def listen(self, timeout_s: float) -> Collection[Signal]:
        return await self._queues.control.listen(self.spec, timeout_s)


def _hand_out(
    queues: Iterable[Queue], spec: LeaseSpec, demand: Mapping[str, Demand], now: int
) -> tuple[list[TakenJob], tuple[tuple[str, int], ...]]:
    """The jobs taken, and in which queues how many became due."""
    jobs: list[TakenJob] = []
    promoted: list[tuple[str, int]] = []
    for queue in queues:
        wanted = demand.get(queue.name, NO_DEMAND)
        if moved := queue.promote(max(PROMOTED_AT_LEAST, wanted.slots), now):
            promoted.append((queue.name, moved))
        jobs += queue.take(spec, wanted, now)
    return jobs, tuple(promoted)


def _earliest(ends: Iterable[int | None]) -> int | None:
    return min((end for end in ends if end is not None), default=None)
