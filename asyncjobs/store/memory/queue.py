"""One queue in memory: its jobs, its leases and the rules by which jobs move.

Every method is synchronous, so it is atomic on the event loop as a script is in a
server. Nothing here awaits, parks or knows another queue.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import nsmallest
from itertools import count, islice

from asyncjobs.model.headers import PUT_BACK_MARK
from asyncjobs.model.job import (
    Demand,
    JobRecord,
    JobRef,
    NewJob,
    Note,
    Notes,
    Priority,
    Settlement,
    SettlementKind,
    State,
    TakenJob,
)
from asyncjobs.store.activity import ENQUEUED, RESCHEDULED, flow_of
from asyncjobs.store.answers import CancelVerdict, StaleSequence
from asyncjobs.store.inspect import QueueCounts, QueueFlow, WorkerEntry
from asyncjobs.store.lease import LeaseSpec
from asyncjobs.store.letters import Revival, Revived
from asyncjobs.store.memory.ended import Ended
from asyncjobs.store.memory.stored import Held, StoredJob, SuspectRoom, Tally
from asyncjobs.store.memory.structures import ReadyList, Timed
from asyncjobs.store.seam import StoreSettings

__all__ = ["MOST_MARKS", "Queue"]

CLOCK_STEP_MS = 1000
"""A clock that was set back by less does no harm that would be noticed."""
MOST_MARKS = 100
"""Marks that one exchange tells of: heartbeats tell of all."""
# rule:11 an exchange stops after 4 MiB, in memory
MAX_BYTES = 4 * 1024 * 1024
"""Envelope bytes after which an exchange promotes, or hands out, no more: one trip stays short."""


class Queue:
    """Owns one queue's jobs, leases, dead letters and memory of finished ids.

    `wake` is called when there may be work, at most once a call; `finished` with each
    id that becomes final.
    """

    def __init__(
        self,
        name: str,
        settings: StoreSettings,
        wake: Callable[[str], None],
        finished: Callable[[JobRef], None],
    ) -> None:
        self.name = name
        self._settings = settings
        self._wake = wake
        self._tell_finished = finished
        self._serials = count(1)
        self._jobs: dict[str, StoredJob] = {}
        self._ready: tuple[ReadyList[StoredJob], ...] = tuple(ReadyList() for _ in Priority)
        self.left_ready = self._left_due = False
        self._scheduled: Timed[StoredJob] = Timed()
        self._leases: dict[str, Held] = {}
        self.leaving: list[Held] = []  # leases that have ended and still have jobs
        self._marked: dict[str, StoredJob] = {}
        self.ended = Ended(settings)
        self._answers: Timed[list[bool]] = Timed()
        self._tally = Tally()
        self._seen_ms = 0
        self._holds: dict[int, int] = {}
        """By the grace of leases in ms: until when they are not reclaimed."""

    # Coming in

    def enqueue(
        self, token: str, jobs: Sequence[NewJob], token_ttl_ms: int, now: int
    ) -> list[bool]:
        """Store the jobs, or repeat the answer that `token` was given: for each, whether it is
        new."""
        given = self._answers.after(token, now)
        if given is not None:
            return given
        self._forget(now)
        stored = self.store(jobs, now)
        answer = [job is not None for job in stored]
        self._answers.put(token, now + token_ttl_ms, answer)
        if any(job is not None and job.due_ms is None for job in stored):
            self._wake(self.name)
        return answer

    def store(self, jobs: Sequence[NewJob], now: int) -> list[StoredJob | None]:
        """Store each job whose id is free, None for the others. What is ready calls nobody yet:
        an exchange that stores what a success causes may take it."""
        earliest = self._scheduled.first_ms()
        stored: list[StoredJob | None] = []
        for new in jobs:
            if new.id in self._jobs or self.ended.knows(new.id, now):
                stored.append(None)
                continue
            if not new.has_new_id:
                # rule:5 an id that is used again is rid of the result of the job before, in memory
                self.ended.drop_result(new.id)
            job = self._jobs[new.id] = StoredJob(new.id, new.priority, new.envelope)
            stored.append(job)
            due = now + new.delay_ms if new.at_ms is None else new.at_ms
            if due <= now:
                self._append(job, now)
            else:
                self._schedule(job, due)
        self._tally.add(now, ENQUEUED, sum(job is not None for job in stored))
        # A sleeping worker must learn of a new earliest time, or it sleeps past it.
        if self._scheduled.first_ms() != earliest:
            self._wake(self.name)
        return stored

    def revive(self, revival: Revival, priority: Priority | None, now: int) -> Revived:
        """Make a dead job ready again; see `DeadLetters.revive`."""
        id = revival.key.ref.id
        if id in self._jobs:
            found = self.ended.find_letter(revival.key.ref, 0)
            is_there = found is not None and found.key == revival.key
            return Revived.TAKEN if is_there else Revived.GONE
        letter = self.ended.revive(revival.key)
        if letter is None:
            return Revived.GONE
        wanted = letter.priority if priority is None else priority
        job = self._jobs[id] = StoredJob(id, wanted, revival.envelope)
        job.notes = letter.notes
        self._append(job, now)
        self._tally.add(now, ENQUEUED)
        self._wake(self.name)
        return Revived.READY

    def _append(self, job: StoredJob, now: int) -> None:
        job.serial, job.ready_ms, job.due_ms, job.crashes = next(self._serials), now, None, 0
        self._ready[job.priority].append(job)

    def _schedule(self, job: StoredJob, due_ms: int) -> None:
        job.due_ms = due_ms
        self._scheduled.put(job.id, due_ms, job)

    # Leases

    def register(self, lease: LeaseSpec, now: int) -> None:
        self._touch_upkeep(now, lease.grace_ms)
        # From now on a silence is measured by this grace too.
        self._holds.setdefault(lease.grace_ms, 0)
        held = self._leases.setdefault(lease.entry(self.name), Held(0))
        held.end_ms = now + lease.duration_ms
        held.grace_ms = lease.grace_ms
        held.info = lease.info

    def deregister(self, lease: LeaseSpec, crashed: Iterable[TakenJob]) -> None:
        """Give back what the lease holds and end it; a crash only for those named."""
        # rule:7 a farewell charges only what the lease still holds, in memory
        charged = [job for taken in crashed if (job := self._held(lease, taken)) is not None]
        held = self._leases.pop(lease.entry(self.name), None)
        if held is not None and held.jobs:
            for job in charged:
                job.crashes += 1
            self._give_back(held, list(held.jobs.values()))
            self._wake(self.name)

    def renew(self, lease: LeaseSpec, now: int, leaves: bool = False) -> bool:
        """True when the lease was there, over or not; only reclaim removes it. `leaves`: its
        worker was told to end."""
        self._touch_upkeep(now, lease.grace_ms)
        held = self._leases.get(lease.entry(self.name))
        if held is None:
            return False
        held.end_ms = now + lease.duration_ms
        held.leaves |= leaves
        return True

    def check_sequence(self, lease: LeaseSpec, sequence: int, is_parked: bool = False) -> bool:
        """True when the lease is there. Raises StaleSequence; has no effect."""
        held = self._leases.get(lease.entry(self.name))
        fence = -1 if held is None else held.parked if is_parked else held.fence
        if sequence <= fence:
            raise StaleSequence(f"{self.name}: {sequence} is not above {fence}; resync")
        return held is not None

    def begin(self, lease: LeaseSpec, sequence: int, is_parked: bool = False) -> None:
        """Note that an exchange takes effect."""
        self._leases[lease.entry(self.name)].begin(sequence, is_parked=is_parked)

    def resync(self, lease: LeaseSpec, sequence: int) -> tuple[int, list[TakenJob]]:
        """Refuse exchanges up to `sequence`; the last one applied, and the jobs held."""
        held = self._leases[lease.entry(self.name)]
        held.fence = held.parked = sequence
        return held.applied, [job.taken(self.name) for job in held.jobs.values()]

    def next_lease_end(self, except_for: LeaseSpec | None) -> int | None:
        """The earliest end of a lease other than `except_for`, in ms."""
        own = None if except_for is None else except_for.entry(self.name)
        ends = (held.end_ms for name, held in self._leases.items() if name != own)
        return min(ends, default=None)

    def cancels(self, lease: LeaseSpec, most: int | None = None) -> list[JobRef]:
        """Jobs of this lease that somebody wants to stop, the newest first."""
        held = self._leases.get(lease.entry(self.name))
        if held is None:
            return []
        return [JobRef(self.name, id) for id in islice(reversed(held.marked), most)]

    # Settling

    def settle(self, lease: LeaseSpec, settlement: Settlement, now: int) -> State | None:
        """The state of the job from now on; None, and no effect, when the lease does not hold
        it any more."""
        held = self._leases[lease.entry(self.name)]
        if (job := self._held(lease, settlement.job)) is None:
            return None
        if settlement.kind is SettlementKind.RELEASE:
            self._give_back(held, [job])
            return State.READY
        del held.jobs[job.serial]
        held.marked.pop(job.id, None)
        job.holder = None
        if settlement.kind is SettlementKind.FINISH:
            self._finish(job, settlement.state, settlement.outcome, settlement.result_ttl_ms, now)
            if settlement.dead_letter is not None:
                self.ended.bury(job, settlement.dead_letter, now)
            return settlement.state
        if job.id in self._marked:
            self._finish(job, State.CANCELLED, None, 0, now)
            return State.CANCELLED
        self._tally.add(now, RESCHEDULED)
        job.envelope = settlement.envelope
        self._schedule(job, now + settlement.delay_ms)
        return State.SCHEDULED

    def _held(self, lease: LeaseSpec, taken: TakenJob) -> StoredJob | None:
        """The job, when the lease holds it by this very taking.

        A job given back keeps its receipt, so what an earlier holder remembers of it
        names the present taking too, but for the holder.
        """
        job, own = self._jobs.get(taken.id), lease.entry(self.name)
        if job is None or own not in self._leases or job.receipt != taken.receipt:
            return None
        # rule:5 what was taken under another entry is not settled, in memory
        return job if job.holder == own == taken.holder else None

    def _finish(
        self, job: StoredJob, state: State, outcome: bytes | None, ttl_ms: int, now: int
    ) -> None:
        del self._jobs[job.id]
        self._marked.pop(job.id, None)
        self._answers.drop_until(now)
        self._tally.add(now, state)
        self.ended.put(job.id, state, outcome, ttl_ms, now)
        self._tell_finished(JobRef(self.name, job.id))

    def _give_back(self, held: Held, jobs: Iterable[StoredJob]) -> None:
        for job in jobs:
            del held.jobs[job.serial]
            held.marked.pop(job.id, None)
            job.holder = None
            self._ready[job.priority].give_back(job)

    # Taking

    def has_work(self, now: int) -> bool:
        """Whether jobs are ready or overdue."""
        return any(self._ready) or self._is_overdue(now)

    def promote(self, limit: int, now: int) -> int:
        """Make up to `limit` due jobs ready; returns how many."""
        promoted = size = 0
        # rule:11 promotion stops after 4 MiB, in memory
        while promoted < limit and size < MAX_BYTES and self._is_overdue(now):
            job = self._scheduled.pop_first()
            self._append(job, now)
            promoted += 1
            size += len(job.envelope)
        self._left_due = self._is_overdue(now)
        return promoted

    def _is_overdue(self, now: int) -> bool:
        due = self._scheduled.first_ms()
        return due is not None and due <= now

    def take(self, lease: LeaseSpec, demand: Demand, now: int) -> list[TakenJob]:
        """Hand out up to `demand.slots` jobs; calls again for what is left."""
        own = lease.entry(self.name)
        held, jobs = self._leases[own], []
        room = SuspectRoom(demand)
        for job in tuple(self._choose(demand, room)):
            job.holder, job.taken_ms = own, now
            held.jobs[job.serial] = job
            if job.id in self._marked:
                held.marked[job.id] = job
            jobs.append(job.taken(self.name))
        # One worker does not take all suspects: who has taken some calls another one.
        # rule:1 an exchange that leaves ready work behind passes the token on, in memory
        if self.left_ready or (room.given and self.fewest_crashes):
            self._wake(self.name)
        return jobs

    def _choose(self, demand: Demand, room: SuspectRoom) -> Iterator[StoredJob]:
        """The jobs to hand out; suspects without room keep their place."""
        taken = size = 0
        guard = min(demand.guard, demand.slots)
        guarded = (self._ready[demand.guard_from], *self._ready[::-1])
        for limit, lists in ((guard, guarded), (demand.slots, self._ready)):
            for ready in lists:
                jobs = self._in_turn(ready, room)
                while taken < limit and size < MAX_BYTES and (job := next(jobs, None)) is not None:
                    taken += 1
                    size += len(job.envelope)
                    yield job
        fewest = self.fewest_crashes
        # Suspects count where there was room for them: others would be called for nothing by
        # each exchange.
        is_left = self._left_due or any(ready.has_unsuspected() for ready in self._ready)
        is_left = is_left or (fewest > 0 and room.left(fewest) > 0)
        self.left_ready = is_left and (taken == demand.slots or size >= MAX_BYTES)

    @staticmethod
    def _in_turn(ready: ReadyList[StoredJob], room: SuspectRoom) -> Iterator[StoredJob]:
        """Takes jobs of one priority: first those that were given back, fewest crashes first.

        So most suspects are done before those are run that come to be to blame.
        """
        for crashes in ready.crashes():
            # rule:7 no more suspects than there is room for, in memory
            while (not crashes or room.left(crashes) > 0) and (job := ready.take_returned(crashes)):
                if crashes:
                    room.give(crashes)
                yield job
        while (job := ready.take_new()) is not None:
            yield job

    @property
    def fewest_crashes(self) -> int:
        """That a suspect which waits here has been through; 0 when none waits."""
        waiting = (crashes for ready in self._ready for crashes in ready.crashes() if crashes)
        return min(waiting, default=0)

    @property
    def next_due_ms(self) -> int | None:
        return self._scheduled.first_ms()

    # Upkeep

    def _touch_upkeep(self, now: int, grace_ms: int) -> None:
        """After a silence, hold reclaims back so that live workers can renew first.

        Each length of grace is held apart: after a silence that means nothing to a long
        lease a short one must be spared, and a long one for longer than a short one.
        """
        silence_ms = now - self._seen_ms
        for length in {grace_ms, *self._holds}:
            if silence_ms > length:
                self._holds[length] = now + length
        if silence_ms < -CLOCK_STEP_MS:
            # rule:2 after a step back of the clock no hold and no lease lasts as long, in memory
            self._pull_back(now, -silence_ms)
        self._seen_ms = now

    def _pull_back(self, now: int, by_ms: int) -> None:
        """The clock has gone back. What lies further ahead than its own width was set before
        that: without this the jobs of a dead worker would stay with it, and ids of jobs that
        have ended stay known, for as long as the step."""
        for length, until_ms in self._holds.items():
            # Some may not have been heard of since the clock went forward: it stays a hold.
            # rule:2 a step back of the clock ends no hold, in memory
            self._holds[length] = min(until_ms, now + length)
        for held in self._leases.values():
            # The grace is two fifths of a lease.
            held.end_ms = min(held.end_ms, now + -(-held.grace_ms * 5 // 2))
        self.ended.pull_back(self._seen_ms, by_ms)
        self._answers.pull_back(self._seen_ms, by_ms)

    def reclaim(self, grace_ms: int, limit: int, now: int) -> tuple[int, int, int | None]:
        """Jobs returned, leases ended, and in how many ms to come back (None: no lease)."""
        self._touch_upkeep(now, grace_ms)
        over, again = self._over(now)
        self.leaving.extend(self._leases.pop(name) for name in over)
        returned = 0
        while self.leaving and returned < limit:
            held = self.leaving[0]
            jobs = sorted(held.jobs.values(), key=lambda job: (job.priority, job.serial))
            jobs = jobs[: limit - returned]
            for job in jobs:
                # rule:7 a planned death counts no crash, in memory
                job.crashes += not held.leaves
            self._give_back(held, jobs)
            returned += len(jobs)
            if not held.jobs:
                self.leaving.pop(0)
        if returned:
            self._wake(self.name)
        return returned, len(over), 0 if self.leaving else again

    def _over(self, now: int) -> tuple[list[str], int | None]:
        """The leases that have ended, and in how many ms the next one may have."""
        over: list[str] = []
        again: list[int] = []
        for name, held in self._leases.items():
            # rule:2 each lease is spared for its own grace, in memory
            left_ms = self._holds.get(held.grace_ms, 0) - now
            if held.end_ms >= now:
                again.append(max(held.end_ms - now + 1, 1))
            # rule:2 after a silence reclaim waits for live workers, in memory
            elif left_ms > 0:
                # Asked again only after a whole grace, this very call would look like a
                # silence, and a lone worker would be held back for ever.
                again.append(max(min(left_ms, held.grace_ms // 2), 1))
            else:
                over.append(name)
        return over, min(again, default=None)

    def prune(self, limit: int, now: int) -> int:
        """Drop dead letters over their age or number, and what nobody can ask for."""
        self._forget(now)
        return self.ended.prune(limit, now)

    def _forget(self, now: int) -> None:
        self.ended.forget(now)
        self._answers.drop_until(now)

    # Asking

    def record(self, id: str, now: int) -> JobRecord | None:
        """What is known of a job, None when nothing is."""
        ref, job = JobRef(self.name, id), self._jobs.get(id)
        if job is None:
            return self.ended.record(ref, now)
        return job.record(ref, is_cancelled=id in self._marked)

    def holder(self, id: str) -> str | None:
        """The entry of the lease that the job runs under, None when it does not run."""
        job = self._jobs.get(id)
        return None if job is None else job.holder

    def cancel(self, id: str, outcome: bytes | None, result_ttl_ms: int, now: int) -> CancelVerdict:
        """Remove a job that waits, mark one that runs."""
        job = self._jobs.get(id)
        if job is None:
            record = self.record(id, now)
            return CancelVerdict.UNKNOWN if record is None else CancelVerdict.FINISHED
        if job.holder is not None:
            self._marked[id] = job
            if (held := self._leases.get(job.holder)) is not None:
                held.marked[id] = job
            return CancelVerdict.REQUESTED
        if self._scheduled.pop(id) is None:
            self._ready[job.priority].remove(job)
        self._finish(job, State.CANCELLED, outcome, result_ttl_ms, now)
        return CancelVerdict.CANCELLED

    def note(self, lease: LeaseSpec, note: Note) -> bool:
        """Keep the note of a job, if the lease still holds it; whether it does."""
        job = self._held(lease, note.job)
        if job is None:
            return False
        job.notes[note.name] = note.value
        return True

    def notes(self, lease: LeaseSpec, taken: TakenJob) -> Notes | None:
        """The notes of a job, None when the lease does not hold it any more."""
        job = self._held(lease, taken)
        return None if job is None else dict(job.notes)

    def put_back(self, limit: int) -> list[bytes]:
        """Envelopes of jobs that were put back, among the next `limit` that are due."""
        soon = nsmallest(limit, self._scheduled.times())
        jobs = (self._scheduled.get(id) for _, id in soon)
        return [job.envelope for job in jobs if job and PUT_BACK_MARK in job.envelope]

    def counts(self, now: int) -> QueueCounts:
        critical, high, normal, low = (len(ready) for ready in self._ready)
        return QueueCounts(
            self.name,
            (critical, high, normal, low),
            running=len(self._jobs) - critical - high - normal - low - len(self._scheduled),
            scheduled=len(self._scheduled),
            dead=self.ended.dead,
            workers=sum(held.end_ms > now for held in self._leases.values()),
        )

    def needed_until(self, idle_ms: int, now: int) -> int:
        """Until when it must be known which ids have ended, and that the queue was in use."""
        seen_ms = min(self._seen_ms, now) + idle_ms if idle_ms > 0 else 0
        return max(self.ended.known_until_ms, self._tally.quiet_from_ms(now), seen_ms)

    def flow(self, now: int) -> QueueFlow:
        firsts = [job.ready_ms for ready in self._ready if (job := ready.oldest()) is not None]
        oldest_ms = min(firsts, default=None)
        return flow_of(self.name, now, oldest_ms, self._tally.counters, self.next_due_ms)

    def workers(self, now: int) -> list[WorkerEntry]:
        """The leases, over or not, the earliest end first."""
        leases = sorted(self._leases.items(), key=lambda item: (item[1].end_ms, item[0]))
        return [WorkerEntry(self.name, name, held.end_ms, now, held.info) for name, held in leases]
