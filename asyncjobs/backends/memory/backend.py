"""The memory store: every queue of one app, on one event loop."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

from asyncjobs.backends.activity import flow_of
from asyncjobs.backends.adapted import Leasing
from asyncjobs.backends.answers import NONE_AWAY
from asyncjobs.backends.base import (
    Backend,
    CancelCall,
    CancelVerdict,
    Capabilities,
    Clock,
    Demand,
    EnqueueBatch,
    Enqueued,
    Exchange,
    Finding,
    Heartbeat,
    LeaseSpec,
    Leftover,
    Parked,
    Placed,
    QueueCounts,
    QueueFlow,
    Reclaimed,
    Registered,
    Resync,
    StaleSequence,
    StoreInfo,
    StoreSettings,
    Survey,
    Verdict,
    WorkerEntry,
)
from asyncjobs.backends.checks import check_batch, check_effects
from asyncjobs.backends.letters import (
    DeadLetter,
    LetterKey,
    LetterPage,
    LetterQuery,
    Revival,
    Revived,
)
from asyncjobs.backends.memory.control import ControlBoard
from asyncjobs.backends.memory.leftover import left_in
from asyncjobs.backends.memory.queue import MOST_MARKS, Queue
from asyncjobs.backends.memory.stored import check_priority
from asyncjobs.backends.memory.surveyor import Surveyor
from asyncjobs.clock import now_ms as system_now_ms
from asyncjobs.errors import StoreError, UsageError
from asyncjobs.job import JobRecord, JobRef, Note, Notes, Priority, Settlement, TakenJob

__all__ = ["MemoryBackend"]

PROMOTED_AT_LEAST = 100
NO_DEMAND = Demand(0)


class MemoryBackend(Leasing):
    """Backend and Inspector in this process's memory, private to this instance.

    Owns the queues and everybody who is parked on them. Jobs outlive `close()` but not
    the process. Not for threads: all calls come from one event loop.
    """

    capabilities = Capabilities(durable=False, shared=False, threaded_heartbeat=False, notes=True)
    address = "memory:"

    def __init__(self, settings: StoreSettings, *, now_ms: Clock | None = None) -> None:
        self._settings = settings
        self._now_ms = now_ms or system_now_ms
        self._queues: dict[str, Queue] = {}
        self._forgotten: set[str] = set()
        """Queues in no list, of which results are still there."""
        self._broken: dict[str, StoreError] = {}
        self._called: set[str] = set()
        self._waiters: defaultdict[str, OrderedDict[asyncio.Future[str], None]]
        self._waiters = defaultdict(OrderedDict)
        self._control = ControlBoard()
        self._surveyor: Surveyor | None = None
        self._result_waiters: dict[JobRef, set[asyncio.Future[None]]] = {}

    async def open(self) -> StoreInfo:
        """Nothing to connect to; never fails. Nobody else reads what is kept: it has no layout."""
        return StoreInfo("memory", "1", self.address)

    async def close(self) -> None:
        """Send everybody home who is parked; the jobs stay."""
        for waiters in self._waiters.values():
            for future in waiters:
                future.cancel()
        self._control.close()
        for futures in self._result_waiters.values():
            for result_future in futures:
                _resolve(result_future)

    def for_thread(self) -> Backend:
        """Raises UsageError: this store lives on one event loop."""
        raise UsageError(
            "the memory: store has no twin for another event loop; "
            "check capabilities.threaded_heartbeat before you ask"
        )

    def _queue(self, name: str) -> Queue:
        queue = self._queues.get(name)
        if queue is None:
            queue = Queue(name, self._settings, self._call, self._tell_finished)
            self._queues[name] = queue
        return queue

    def break_queue(self, name: str, error: StoreError | None) -> None:
        """Answer with `error` for this queue from now on, None: no more. For tests of what
        becomes of the others: this store has no faults of its own."""
        if error is None:
            self._broken.pop(name, None)
        else:
            self._broken[name] = error
            for ref in [ref for ref in self._result_waiters if ref.queue == name]:
                self._tell_finished(ref)

    def _reach(self, names: Iterable[str]) -> tuple[list[Queue], Mapping[str, StoreError]]:
        """The queues of these names, and why some of them do not answer."""
        if not self._broken:
            return [self._queue(name) for name in names], NONE_AWAY
        away = {name: self._broken[name] for name in names if name in self._broken}
        return [self._queue(name) for name in names if name not in away], away

    async def enqueue(self, batch: EnqueueBatch) -> Enqueued:
        """See `Backend.enqueue`. Raises ValueError for an unknown priority."""
        check_batch(batch, self.capabilities)
        places: dict[str, list[int]] = {}
        for place, job in enumerate(batch.jobs):
            check_priority(job)
            places.setdefault(job.queue, []).append(place)
        now = self._now_ms()
        token_ttl_ms = batch.token_ttl_ms or self._settings.token_ttl_ms
        answer: list[Placed | None] = [None] * len(batch.jobs)
        queues, refused = self._reach(places)
        for queue in queues:
            self._forgotten.discard(queue.name)
            own = places[queue.name]
            jobs = [batch.jobs[place] for place in own]
            given = queue.enqueue(batch.token, jobs, token_ttl_ms, now)
            for place, is_new in zip(own, given, strict=True):
                if not is_new:
                    answer[place] = Placed(batch.jobs[place].ref, "there")
        return Enqueued(answer, refused)

    async def register(self, lease: LeaseSpec, queues: Sequence[str] | None = None) -> Registered:
        now = self._now_ms()
        found, away = self._reach(lease.queues if queues is None else queues)
        for queue in found:
            self._forgotten.discard(queue.name)
            queue.register(lease, now)
        return Registered(now, away)

    async def deregister(self, lease: LeaseSpec, crashed: Collection[TakenJob] = ()) -> None:
        self._control.drop(lease)
        queues, away = self._reach(lease.queues)
        for queue in queues:
            queue.deregister(lease, [job for job in crashed if job.queue == queue.name])
        for error in away.values():
            raise error

    async def heartbeat(self, lease: LeaseSpec) -> Heartbeat:
        now = self._now_ms()
        queues, away = self._reach(lease.queues)
        held = [queue for queue in queues if queue.renew(lease, now)]
        lost = tuple(queue.name for queue in queues if queue not in held)
        cancels = [ref for queue in held for ref in queue.cancels(lease)]
        ready = tuple(queue.name for queue in held if queue.has_work(now))
        # rule:2 a heartbeat tells of a reclaim that nobody has ended, in memory
        ends = [now if queue.leaving else queue.next_lease_end(lease) for queue in queues]
        return Heartbeat(lost, cancels, _earliest(ends), now, ready, away)

    async def exchange(
        self,
        lease: LeaseSpec,
        sequence: int,
        settlements: Sequence[Settlement],
        demand: Mapping[str, Demand],
    ) -> Exchange:
        return self._exchange(lease, sequence, settlements, demand)

    def _exchange(
        self,
        lease: LeaseSpec,
        sequence: int,
        settlements: Sequence[Settlement],
        demand: Mapping[str, Demand],
        *,
        is_parked: bool = False,
    ) -> Exchange:
        for settlement in settlements:
            check_effects(settlement, self.capabilities)
        now = self._now_ms()
        names = dict.fromkeys([*demand, *(settlement.job.queue for settlement in settlements)])
        # Every queue is asked before the first is touched: a stale exchange has no effect.
        found, away = self._reach(names)
        present = {q.name: q for q in found if q.check_sequence(lease, sequence, is_parked)}
        for queue in present.values():
            queue.begin(lease, sequence, is_parked)
        settled = [
            (settlement, present[name].settle(lease, settlement, now))
            for settlement in settlements
            if (name := settlement.job.queue) in present
        ]
        # After all of them, as a server does it: an id is free only when its job has ended.
        for settlement, state in settled:
            # rule:5 a success that does not count stores nothing, also in memory
            if settlement.effects is not None and state is not None:
                present[settlement.job.queue].store(settlement.effects.jobs, now)
        jobs, promoted = _hand_out(present.values(), lease, demand, now)
        return Exchange(
            jobs,
            [settlement for settlement, state in settled if state is None],
            lost=tuple(name for name in names if name not in present and name not in away),
            cancels=[ref for q in present.values() for ref in q.cancels(lease, MOST_MARKS)],
            left_ready=frozenset(name for name, queue in present.items() if queue.left_ready),
            next_due_ms={name: queue.next_due_ms for name, queue in present.items()},
            next_lease_end_ms=_earliest(q.next_lease_end(lease) for q in present.values()),
            now_ms=now,
            promoted=promoted,
            cancelled=[s for s, state in settled if state not in (None, s.state)],
            suspects={q.name: fewest for q in present.values() if (fewest := q.fewest_crashes)},
            away=away,
        )

    async def resync(
        self, lease: LeaseSpec, sequence: int, holding: Collection[TakenJob]
    ) -> Resync:
        """See `Backend.resync`. Raises StaleSequence for a sequence that was used."""
        queues, away = self._reach(lease.queues)
        present = [q for q in queues if q.check_sequence(lease, sequence)]
        named = {
            (job.queue, job.receipt) for job in holding if job.holder == lease.entry(job.queue)
        }
        applied: dict[str, int] = {}
        missing: list[TakenJob] = []
        for queue in present:
            applied[queue.name], held = queue.resync(lease, sequence)
            missing += [job for job in held if (job.queue, job.receipt) not in named]
        lost = tuple(queue.name for queue in queues if queue not in present)
        return Resync(applied, missing, lost, away)

    def _call(self, name: str) -> None:
        """Wake the one who has waited longest, or leave the call for the next to come."""
        for future in self._waiters.get(name, ()):
            if not future.done():
                future.set_result(name)
                return
        self._called.add(name)

    async def wait(self, lease: LeaseSpec, timeout_s: float) -> Collection[str]:
        for name in lease.queues:
            if name in self._called:
                self._called.discard(name)
                return (name,)
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        for name in lease.queues:
            self._waiters[name][future] = None
        try:
            await asyncio.wait((future,), timeout=timeout_s)
        except asyncio.CancelledError:
            # Called and cancelled in one turn of the loop: the call is somebody else's.
            if future.done() and not future.cancelled():
                self._call(future.result())
            raise
        finally:
            for name in lease.queues:
                self._waiters[name].pop(future, None)
        return (future.result(),) if future.done() and not future.cancelled() else ()

    async def wait_and_take(
        self, lease: LeaseSpec, timeout_s: float, sequence: int, demand: Mapping[str, Demand]
    ) -> Parked:
        called = await self.wait(lease, timeout_s)
        none = {name: wanted._replace(suspects=()) for name, wanted in demand.items()}
        try:
            exchange = self._exchange(lease, sequence, (), none, is_parked=True)
        except StaleSequence:
            return Parked(called, None)
        for error in exchange.away.values():
            raise error
        # Suspects were passed over; whoever knows what else runs shall have them.
        left = [name for name in demand if self._queue(name).has_work(exchange.now_ms)]
        for name in left:
            self._call(name)
        return Parked(called, exchange._replace(left_ready=frozenset(left)))

    async def listen(self, lease: LeaseSpec, timeout_s: float) -> Collection[CancelCall]:
        return await self._control.listen(lease, timeout_s)

    async def reclaim(self, queues: Sequence[str], grace_ms: int, limit: int) -> Reclaimed:
        now = self._now_ms()
        found, away = self._reach(queues)
        answers = [queue.reclaim(grace_ms, limit, now) for queue in found]
        return Reclaimed(
            returned=sum(answer[0] for answer in answers),
            leases=sum(answer[1] for answer in answers),
            again_ms=min((again for _, _, again in answers if again is not None), default=None),
            now_ms=now,
            away=away,
        )

    async def prune(self, queues: Sequence[str], limit: int) -> int:
        now = self._now_ms()
        found, away = self._reach([name for name in queues if name in self._queues])
        dropped = sum(queue.prune(limit, now) for queue in found)
        for error in away.values():
            raise error
        return dropped

    def _records(self, refs: Sequence[JobRef]) -> list[JobRecord | None]:
        for name in {ref.queue for ref in refs} & self._broken.keys():
            raise self._broken[name]
        now = self._now_ms()
        return [
            self._queues[ref.queue].record(ref.id, now) if ref.queue in self._queues else None
            for ref in refs
        ]

    async def get(self, refs: Sequence[JobRef]) -> list[JobRecord | None]:
        return self._records(refs)

    async def cancel(
        self, refs: Sequence[JobRef], outcome: bytes | None, result_ttl_ms: int
    ) -> list[CancelVerdict]:
        now = self._now_ms()
        verdicts = []
        for ref in refs:
            queue, verdict = self._queues.get(ref.queue), CancelVerdict.UNKNOWN
            if queue is not None and ref.queue not in self._broken:
                verdict = queue.cancel(ref.id, outcome, result_ttl_ms, now)
                if (holder := queue.holder(ref.id)) is not None:
                    self._control.tell(CancelCall(holder, ref))
            verdicts.append(verdict)
        for name in {ref.queue for ref in refs} & self._broken.keys():
            raise self._broken[name]
        return verdicts

    async def note(self, lease: LeaseSpec, notes: Sequence[Note]) -> list[bool]:
        return [self._sound(note.job.queue).note(lease, note) for note in notes]

    async def notes(self, lease: LeaseSpec, jobs: Sequence[TakenJob]) -> list[Notes | None]:
        return [self._sound(job.queue).notes(lease, job) for job in jobs]

    def _sound(self, name: str) -> Queue:
        if (error := self._broken.get(name)) is not None:
            raise error
        return self._queue(name)

    def _tell_finished(self, ref: JobRef) -> None:
        for future in self._result_waiters.get(ref, ()):
            _resolve(future)

    async def wait_results(
        self, refs: Sequence[JobRef], timeout_s: float | None
    ) -> list[JobRecord | None]:
        """See `Backend.wait_results`; returns at once when one of the ids is unknown."""
        records = self._records(refs)
        if not refs or any(record is None or record.state.is_final for record in records):
            return records
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        for ref in refs:
            self._result_waiters.setdefault(ref, set()).add(future)
        try:
            await asyncio.wait((future,), timeout=timeout_s)
        finally:
            for ref in set(refs):
                self._result_waiters[ref].discard(future)
                if not self._result_waiters[ref]:
                    del self._result_waiters[ref]
        return self._records(refs)

    async def queues(self) -> list[str]:
        """See `Inspector.queues`."""
        return self._names()

    def _names(self) -> list[str]:
        return sorted(self._queues.keys() - self._forgotten)

    async def forget(self, queues: Sequence[str], idle_ms: int) -> list[Leftover]:
        found, away = self._reach([name for name in queues if name in self._queues])
        for error in away.values():
            raise error
        now = self._now_ms()
        awaited = {ref.queue for ref in self._result_waiters}
        left: dict[str, Leftover] = {}
        for queue in found:
            left[queue.name] = left_in(queue, idle_ms, now, is_awaited=queue.name in awaited)
            if left[queue.name].is_forgotten:
                self._forget(queue, now)
        return [left.get(name, Leftover(name)) for name in queues]

    def _forget(self, queue: Queue, now: int) -> None:
        self._called.discard(queue.name)
        if queue.ended.has_results(now):
            self._forgotten.add(queue.name)
            return
        self._forgotten.discard(queue.name)
        del self._queues[queue.name]

    async def survey(self, asker: str, about: int, turn_ms: int) -> Survey:
        """See `Inspector.survey`; queues that come meanwhile may be left to the next round."""
        now = self._now_ms()
        present = self._surveyor
        if present is None or present.until_ms <= now:
            present = self._surveyor = Surveyor(asker)
        elif present.asker != asker:
            return Survey(is_turn=False, is_last=False, queues=[])
        return present.look(self._names(), about, now + turn_ms)

    async def counts(self, queues: Sequence[str]) -> list[QueueCounts]:
        """One queue at one moment, each; all zero for a queue that was never used."""
        now = self._now_ms()
        return [
            self._queues[name].counts(now)
            if name in self._queues
            else QueueCounts(name, (0, 0, 0, 0), 0, 0, 0, 0)
            for name in queues
        ]

    async def flow(self, queues: Sequence[str]) -> list[QueueFlow]:
        now = self._now_ms()
        return [
            self._queues[name].flow(now) if name in self._queues else flow_of(name, now, None, {})
            for name in queues
        ]

    async def put_back(self, queues: Sequence[str], limit: int) -> list[list[bytes]]:
        return [
            self._queues[name].put_back(limit) if name in self._queues else [] for name in queues
        ]

    async def workers(self, queues: Sequence[str]) -> list[WorkerEntry]:
        now = self._now_ms()
        known = [self._queues[name] for name in queues if name in self._queues]
        return [entry for queue in known for entry in queue.workers(now)]

    async def letters(self, query: LetterQuery, after: LetterKey | None = None) -> LetterPage:
        now = self._now_ms()
        if query.queue not in self._queues:
            return LetterPage([], None, 0, now)
        return self._queues[query.queue].ended.letters(query, after, now)

    async def find_letters(
        self, refs: Sequence[JobRef], *, cut: int | None = None
    ) -> list[DeadLetter | None]:
        return [
            self._queues[ref.queue].ended.find_letter(ref, cut)
            if ref.queue in self._queues
            else None
            for ref in refs
        ]

    async def revive(
        self, revivals: Sequence[Revival], *, priority: Priority | None = None
    ) -> list[Revived]:
        for revival in revivals:
            if (error := self._broken.get(revival.key.ref.queue)) is not None:
                raise error
        now = self._now_ms()
        return [
            self._queues[revival.key.ref.queue].revive(revival, priority, now)
            if revival.key.ref.queue in self._queues
            else Revived.GONE
            for revival in revivals
        ]

    async def purge(self, letters: Sequence[LetterKey]) -> list[bool]:
        return [
            key.ref.queue in self._queues and self._queues[key.ref.queue].ended.purge(key)
            for key in letters
        ]

    async def diagnose(self) -> list[Finding]:
        """One problem: this store ends with its process."""
        found = "this process's own memory: jobs end with it, and no other process sees them"
        change = ("set ASYNCJOBS_URL=redis://localhost:6379",)
        return [Finding("store", Verdict.PROBLEM, found, change)]


def _hand_out(
    queues: Iterable[Queue], lease: LeaseSpec, demand: Mapping[str, Demand], now: int
) -> tuple[list[TakenJob], tuple[tuple[str, int], ...]]:
    """The jobs taken, and in which queues how many became due."""
    jobs: list[TakenJob] = []
    promoted: list[tuple[str, int]] = []
    for queue in queues:
        wanted = demand.get(queue.name, NO_DEMAND)
        if moved := queue.promote(max(PROMOTED_AT_LEAST, wanted.slots), now):
            promoted.append((queue.name, moved))
        jobs += queue.take(lease, wanted, now)
    return jobs, tuple(promoted)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _earliest(ends: Iterable[int | None]) -> int | None:
    return min((end for end in ends if end is not None), default=None)
