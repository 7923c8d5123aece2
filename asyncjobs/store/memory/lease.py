"""What a worker asks of the store in memory in the name of its lease."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from asyncjobs.model.awaiting import Awaited, EventWait
from asyncjobs.model.batches import places_by_queue
from asyncjobs.model.clock import new_id
from asyncjobs.model.demand import Demand
from asyncjobs.model.job import NewJob, State, TakenJob
from asyncjobs.model.notes import Note, Notes
from asyncjobs.model.settlement import Settlement
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
from asyncjobs.store.memory.queue import Queue
from asyncjobs.store.memory.queues import Queues
from asyncjobs.store.seam import Capabilities

__all__ = ["CAPABILITIES", "MemoryLease"]

CAPABILITIES = Capabilities(
    durable=False,
    shared=False,
    threaded_heartbeat=False,
    notes=True,
    events=True,
    control=True,
    schedules=True,
    unique=True,
    across_queues=True,
    flows=True,
    gates=True,
)
PROMOTED_AT_LEAST: Final = 100
NO_DEMAND: Final = Demand(0)
MOST_MARKS: Final = 100
"""The most marks that one exchange returns. A heartbeat returns all."""


class MemoryLease:
    """See `Lease`. Owns nothing but its name: the queues know what it holds."""

    def __init__(self, queues: Queues, spec: LeaseSpec) -> None:
        self._queues = queues
        self.spec = spec
        self.entered = Registered(0)

    async def enter(self, queues: Collection[str] | None = None) -> Registered:
        """Enter these queues, or all of them, under the names that the lease has there."""
        if queues is None:
            queues = self.spec.queues
        self.entered = self._enter(self.spec, queues)
        return self.entered

    async def rejoin(self, queues: Collection[str]) -> Registered:
        # A new entry: jobs of the lost entry may still be on their way back under the old name.
        suffix = new_id()
        answer = self._enter(self.spec.renew(queues, suffix), queues)
        entered = [queue for queue in queues if queue not in answer.away]
        self.spec = self.spec.renew(entered, suffix)
        return answer

    def _enter(self, spec: LeaseSpec, queues: Collection[str]) -> Registered:
        now = self._queues.now_ms()
        found, away = self._queues.reach(queues)
        for queue in found:
            self._queues.note_used(queue.name)
            queue.upkeep.register(spec, now)
        return Registered(now, away)

    async def leave(self, crashed: Collection[TakenJob] = ()) -> None:
        self._queues.control.drop(self.spec)
        queues, away = self._queues.reach(self.spec.queues)
        for queue in queues:
            own = [job for job in crashed if job.queue == queue.name]
            queue.upkeep.deregister(self.spec, own, self._queues.now_ms())
        for error in away.values():
            raise error

    async def beat(self, *, leaves: bool = False, info: bytes = b"") -> Heartbeat:
        spec = self.spec
        now = self._queues.now_ms()
        queues, away = self._queues.reach(spec.queues)
        held = [
            queue for queue in queues if queue.upkeep.renew(spec, now, leaves=leaves, info=info)
        ]
        lost = tuple(queue.name for queue in queues if queue not in held)
        cancels = [ref for queue in held for ref in queue.leases.cancels(spec)]
        ready = tuple(queue.name for queue in held if queue.waiting.has_work(now))
        # rule:2 a heartbeat reports a reclaim that nobody has ended, in memory
        ends = [now if q.leases.leaving else q.leases.next_end_ms(spec) for q in queues]
        orders = [order for queue in held for order in queue.leases.orders(spec)]
        return Heartbeat(lost, cancels, _earliest(ends), now, ready, away, orders)

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
        spec = self.spec
        now = self._queues.now_ms()
        names = dict.fromkeys([*demand, *(settlement.job.queue for settlement in settlements)])
        found, away = self._queues.reach(names)
        present = self._begin(found, sequence, is_parked=is_parked)
        # Before anything is taken: a job that is given back here may be handed out again at once.
        settled = self._settle(present, settlements, now)
        jobs, promoted = _hand_out(present.values(), spec, demand, now)
        return Exchange(
            jobs,
            [settlement for settlement, state in settled if state is None],
            lost=tuple(name for name in names if name not in present and name not in away),
            cancels=[ref for q in present.values() for ref in q.leases.cancels(spec, MOST_MARKS)],
            left_ready=frozenset(
                name for name, queue in present.items() if queue.waiting.left_ready
            ),
            next_due_ms={name: queue.waiting.next_look_ms for name, queue in present.items()},
            next_lease_end_ms=_earliest(q.leases.next_end_ms(spec) for q in present.values()),
            now_ms=now,
            promoted=promoted,
            cancelled=[s for s, state in settled if state not in (None, s.state)],
            suspects={
                name: fewest
                for name, queue in present.items()
                if (fewest := queue.waiting.fewest_crashes)
            },
            away=away,
            paused=frozenset(n for n, queue in present.items() if queue.pauses.is_whole),
        )

    def _begin(
        self, queues: Sequence[Queue], sequence: int, *, is_parked: bool
    ) -> dict[str, Queue]:
        """The queues in which the exchange takes effect, by name: those that have the lease.

        Raises StaleSequence.
        """
        # Every queue is asked before the first is touched: a stale exchange has no effect.
        present = [
            queue
            for queue in queues
            if queue.leases.check_sequence(self.spec, sequence, is_parked=is_parked)
        ]
        for queue in present:
            queue.leases.of(self.spec).begin(sequence, is_parked=is_parked)
        return {queue.name: queue for queue in present}

    def _settle(
        self, present: Mapping[str, Queue], settlements: Sequence[Settlement], now: int
    ) -> list[tuple[Settlement, State | None]]:
        """Each settlement with the state of its job from now on, None where it does not count."""
        settled = [
            (settlement, present[name].settle(self.spec, settlement, now))
            for settlement in settlements
            if (name := settlement.job.queue) in present
        ]
        # After all of them, as a server does it: an id is free only when its job has ended.
        for settlement, state in settled:
            # rule:5 a success that does not count stores nothing, also in memory
            if settlement.effects is not None and state is not None:
                self._cause(settlement.job.queue, settlement.effects.jobs, now)
        return settled

    def _cause(self, home: str, jobs: Sequence[NewJob], now: int) -> None:
        """Store what a success in `home` causes, in whatever queue, and signal other queues."""
        for name, places in places_by_queue(job.queue for job in jobs).items():
            queue = self._queues.queue(name)
            own = [jobs[place] for place in places]
            if name == home:
                queue.placing.store(own, now)
            else:
                self._queues.note_used(name)
                # rule:37 jobs for other queues are there with the success, in memory
                queue.add(own, now)

    async def park(self, timeout_s: float, offer: Offer | None = None) -> Parked:
        signalled = await self._queues.wakes.wait(self.spec.queues, timeout_s)
        if offer is None:
            return Parked(signalled, None)
        return self._answer(signalled, offer)

    def _answer(self, signalled: Collection[str], offer: Offer) -> Parked:
        """Make the exchange that was offered behind the wait."""
        demand = {name: wanted._replace(suspects=()) for name, wanted in offer.demand.items()}
        try:
            exchange = self._exchange(offer.sequence, (), demand, is_parked=True)
        except StaleSequence:
            return Parked(signalled, None)
        for error in exchange.away.values():
            raise error
        # Suspects were passed over. A worker that exchanges says how many it may take.
        left = [
            name for name in demand if self._queues.queue(name).waiting.has_work(exchange.now_ms)
        ]
        for name in left:
            # For ready work that is left behind, the taking itself has signalled one worker.
            if name not in exchange.left_ready:
                self._queues.wakes.signal(name)
        return Parked(signalled, exchange._replace(left_ready=frozenset(left)))

    async def resync(
        self,
        sequence: int,
        holding: Collection[TakenJob],
        queues: Collection[str] | None = None,
    ) -> Resync:
        """See `Lease.resync`. Raises StaleSequence for a number that was used before."""
        spec = self.spec
        if queues is None:
            queues = spec.queues
        asked, away = self._queues.reach(queues)
        present = [q for q in asked if q.leases.check_sequence(spec, sequence, is_parked=False)]
        named = {(job.queue, job.receipt) for job in holding if job.holder == spec.entry(job.queue)}
        applied: dict[str, int] = {}
        missing: list[TakenJob] = []
        for queue in present:
            held = queue.leases.of(spec)
            held.refuse(sequence)
            applied[queue.name] = held.applied
            jobs = held.taken_jobs(queue.name)
            missing += [job for job in jobs if (job.queue, job.receipt) not in named]
        lost = tuple(queue.name for queue in asked if queue not in present)
        return Resync(applied, missing, lost, away)

    async def note(self, notes: Sequence[Note]) -> list[bool]:
        queues, away = self._queues.reach(dict.fromkeys(note.job.queue for note in notes))
        by_name = {queue.name: queue for queue in queues}
        kept = []
        for note in notes:
            queue = by_name.get(note.job.queue)
            job = None if queue is None else queue.leases.held(self.spec, note.job)
            if job is not None:
                job.notes[note.name] = note.value
            kept.append(job is not None)
        # After the notes of all other queues are kept.
        for error in away.values():
            raise error
        return kept

    async def notes(self, jobs: Sequence[TakenJob]) -> list[Notes | None]:
        found = [self._queues.sound(taken.queue).leases.held(self.spec, taken) for taken in jobs]
        return [None if job is None else dict(job.notes) for job in found]

    async def await_events(self, waits: Sequence[EventWait]) -> list[Awaited | None]:
        now = self._queues.now_ms()
        answers: list[Awaited | None] = []
        for wait in waits:
            queue = self._queues.sound(wait.job.queue)
            # rule:31 only a job that the lease holds begins to wait, in memory
            job = queue.leases.held(self.spec, wait.job)
            answers.append(None if job is None else queue.events.wait(job, wait, now))
        return answers

    async def listen(self, timeout_s: float) -> Collection[Signal]:
        return await self._queues.control.listen(self.spec, timeout_s)


def _hand_out(
    queues: Iterable[Queue], spec: LeaseSpec, demand: Mapping[str, Demand], now: int
) -> tuple[list[TakenJob], tuple[tuple[str, int], ...]]:
    """The jobs that are handed out, and how many became due in which queues."""
    jobs: list[TakenJob] = []
    promoted: list[tuple[str, int]] = []
    for queue in queues:
        wanted = demand.get(queue.name, NO_DEMAND)
        if moved := queue.waiting.promote(max(PROMOTED_AT_LEAST, wanted.slots), now):
            promoted.append((queue.name, moved))
        jobs += queue.take(spec, wanted, now)
    return jobs, tuple(promoted)


def _earliest(ends: Iterable[int | None]) -> int | None:
    return min((end for end in ends if end is not None), default=None)
