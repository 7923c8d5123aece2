"""What one queue of a store is, in the plainest Python: lists, searched from end to end.

The model says what each call has to answer. Where the seam leaves something open (when
exactly a finished id is forgotten, which jobs a bounded reclaim returns first) it checks
that the store's choice is among the allowed ones, and follows it.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from asyncjobs.model.demand import Demand
from asyncjobs.model.job import JobRecord, NewJob, State, TakenJob
from asyncjobs.model.notes import PROGRESS, Notes
from asyncjobs.model.refs import JobRef
from asyncjobs.model.settlement import Settlement, SettlementKind
from asyncjobs.store.activity import ENQUEUED, MINUTE_MS, RESCHEDULED, flow_of
from asyncjobs.store.answers import CancelVerdict, Reclaimed
from asyncjobs.store.inspect import QueueCounts, QueueFlow
from asyncjobs.store.seam import StoreSettings
from tests.model.parts import Answer, End, Job, LeaseEntry, Letter, has_room

__all__ = ["QueueModel"]


@dataclass
class QueueModel:
    """One queue: its jobs, leases, ends and dead letters."""

    name: str
    settings: StoreSettings
    jobs: dict[str, Job] = field(default_factory=dict)
    ends: dict[str, End] = field(default_factory=dict)
    letters: dict[str, Letter] = field(default_factory=dict)
    leases: dict[str, LeaseEntry] = field(default_factory=dict)
    answers: dict[str, list[bool]] = field(default_factory=dict)
    tally: Counter[tuple[int, str]] = field(default_factory=Counter)
    is_called: bool = False
    """Whether a token waits for whoever parks next."""
    heard_ms: int = 0
    holds: dict[int, int] = field(default_factory=dict)
    """By the grace of leases: until when they are not reclaimed."""
    paused: set[str | None] = field(default_factory=set)
    """Functions, and None for the whole queue."""
    finished: list[tuple[str, State]] = field(default_factory=list)
    """Every end, in order."""
    is_at_limit: bool = False
    """The last reclaim has stopped at its limit."""
    places: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    # What is asked of the model

    def ready(self, priority: int) -> list[Job]:
        """In the order of taking: jobs that were given back come first, and of these the ones
        with the fewest crashes."""
        found = (
            job
            for job in self.jobs.values()
            if job.state is State.READY and job.priority == priority
        )
        return sorted(found, key=lambda job: (job.ready_ms == 0, job.crashes, job.place))

    def scheduled(self) -> list[Job]:
        found = (job for job in self.jobs.values() if job.due_ms is not None)
        return sorted(found, key=lambda job: job.due_ms or 0)

    def held_by(self, entry: str) -> list[Job]:
        return [job for job in self.jobs.values() if job.holder == entry]

    def leaving(self) -> list[Job]:
        """Jobs of leases that have ended and that were not given back yet."""
        return [job for job in self.jobs.values() if job.holder and job.holder not in self.leases]

    def next_lease_end(self, own: str | None) -> int | None:
        return min((e.end_ms for name, e in self.leases.items() if name != own), default=None)

    def reclaim_due(self, own: str, now_ms: int) -> set[int | None]:
        """What a heartbeat may say. A store that stopped at the limit need not have seen
        that it was done."""
        end_ms = now_ms if self.leaving() else self.next_lease_end(own)
        return {end_ms, now_ms} if self.is_at_limit else {end_ms}

    def next_due(self) -> int | None:
        return min((job.due_ms for job in self.scheduled() if job.due_ms), default=None)

    def marks_of(self, entry: str) -> list[str]:
        return sorted(job.id for job in self.held_by(entry) if job.marked)

    def knows(self, id: str, now_ms: int) -> bool | None:
        """Whether a finished id is known; None where a store may answer either way."""
        end = self.ends.get(id)
        if end is None or now_ms >= end.at_ms + 2 * self.settings.id_ttl_ms:
            return False
        return True if now_ms < end.at_ms + self.settings.id_ttl_ms else None

    def counts(self, now_ms: int) -> QueueCounts:
        states = Counter(job.state for job in self.jobs.values())
        first, second, third, fourth = (len(self.ready(priority)) for priority in range(4))
        return QueueCounts(
            self.name,
            (first, second, third, fourth),
            states[State.RUNNING],
            states[State.SCHEDULED],
            len(self.letters),
            sum(entry.end_ms > now_ms for entry in self.leases.values()),
        )

    def flow(self, now_ms: int) -> QueueFlow:
        """All but since when the oldest job is ready, which is of the store's own clock."""
        return flow_of(self.name, now_ms, None, self.tally)

    def check_record(self, id: str, record: JobRecord | None, now_ms: int) -> None:
        """Whether this is what has to be known of a job."""
        job, letter = self.jobs.get(id), self.letters.get(id)
        if job is not None:
            assert record is not None
            is_running = job.state is State.RUNNING
            # Since when it is held the server says by its own clock, not by the pinned one.
            assert (record.taken_ms is not None) == is_running
            assert record._replace(taken_ms=None) == JobRecord(
                JobRef(self.name, id),
                job.state,
                job.priority,
                job.due_ms,
                job.envelope,
                progress=job.notes.get(PROGRESS),
                holder=job.holder,
                is_cancelled=is_running and job.marked,
            )
            return
        end, is_known = self.ends.get(id), self.knows(id, now_ms)
        if end is None:
            assert record is None, f"{id} never was"
            return
        is_kept = end.outcome is not None and now_ms < end.until_ms
        if record is None:
            assert (is_known or False, letter, is_kept) == (False, None, False)
            return
        if not is_known and record.outcome in end.earlier:
            return
        states = {end.state} if is_known or not letter else {end.state, State.DEAD}
        assert record.state in states
        if record.state is not State.DEAD:
            # It is the letter of an earlier job with this id.
            letter = None
        assert (record.priority, record.dead_letter) == (letter[1:3] if letter else (None, None))
        assert (record.envelope, record.holder, record.due_ms) == (None, None, None)
        if is_kept:
            assert record.outcome == end.outcome
        else:
            assert record.outcome in {None, end.outcome, *end.earlier}

    # Coming in

    def enqueue(
        self, token: str, new_jobs: Sequence[NewJob], answer: list[bool], now_ms: int
    ) -> None:
        if token in self.answers:
            assert answer == self.answers[token]
            return
        earliest = self.next_due()
        for new, is_new in zip(new_jobs, answer, strict=True):
            is_known = new.id in self.jobs or self.knows(new.id, now_ms)
            # The id comes first, then the unique key: either is in the way.
            if _key(new) and any(job.key == _key(new) for job in self.jobs.values()):
                is_known = True
            assert is_known is None or is_new is not is_known, f"{new.id} is new: {is_new}"
            if not is_new:
                continue
            self.is_called |= self._store(new, now_ms)
        self.is_called |= self._is_sooner_than(earliest)
        self.answers[token] = answer

    def _store(self, new: NewJob, now_ms: int) -> bool:
        """Whether the new job is ready at once."""
        self.tally[now_ms // MINUTE_MS, ENQUEUED] += 1
        job = self.jobs[new.id] = Job(new.id, new.priority, new.envelope, key=_key(new))
        due_ms = now_ms + new.delay_ms if new.at_ms is None else new.at_ms
        if due_ms > now_ms:
            job.due_ms = due_ms
            return False
        self._make_ready(job)
        return True

    def _is_sooner_than(self, earliest: int | None) -> bool:
        """Whether a job that came meanwhile is due before all others."""
        next_due = self.next_due()
        return next_due is not None and (earliest is None or next_due < earliest)

    def _cause(self, settlements: Sequence[Settlement], now_ms: int) -> None:
        """Store what successes cause that count, once all settlements are done."""
        earliest = self.next_due()
        for new in (new for s in settlements if s.effects for new in s.effects.jobs):
            is_known = new.id in self.jobs or self.knows(new.id, now_ms)
            assert is_known is not None, "the machine names no such id"
            if not is_known:
                self._store(new, now_ms)
        self.is_called |= self._is_sooner_than(earliest)

    def _make_ready(self, job: Job) -> None:
        job.place, job.due_ms, job.crashes, job.ready_ms = next(self.places), None, 0, 0

    # Leases

    def register(self, entry: str, duration_ms: int, now_ms: int) -> None:
        self._hear(duration_ms * 2 // 5, now_ms)
        self.holds.setdefault(duration_ms * 2 // 5, 0)
        lease = self.leases.setdefault(entry, LeaseEntry(0, duration_ms * 2 // 5))
        lease.end_ms = now_ms + duration_ms

    def deregister(self, entry: str, crashed: Sequence[TakenJob]) -> None:
        if self.leases.pop(entry, None) is not None:
            for job in self.held_by(entry):
                job.crashes += any(job.id == t.id and job.is_held(entry, t) for t in crashed)
            self._give_back(self.leaving_of(entry))

    def leaving_of(self, entry: str) -> list[Job]:
        """The jobs of an ended lease, in the order in which they are given back."""
        return sorted(self.held_by(entry), key=lambda job: (job.priority, job.place))

    def renew(self, entry: str, duration_ms: int, now_ms: int) -> bool:
        self._hear(duration_ms * 2 // 5, now_ms)
        if entry in self.leases:
            self.leases[entry].end_ms = now_ms + duration_ms
        return entry in self.leases

    def _hear(self, grace_ms: int, now_ms: int) -> None:
        for length in {grace_ms, *self.holds}:
            if now_ms - self.heard_ms > length:
                self.holds[length] = now_ms + length
        self.heard_ms = now_ms

    def is_stale(self, entry: str, sequence: int) -> bool:
        return entry in self.leases and sequence <= self.leases[entry].seen

    # Exchanges

    def exchange(
        self,
        entry: str,
        sequence: int,
        settlements: Sequence[Settlement],
        demand: Demand,
        now_ms: int,
    ) -> Answer:
        """Of a lease that is there and a sequence that is not stale."""
        lease = self.leases[entry]
        lease.seen = lease.applied = sequence
        effects = [(s, self._settle(entry, s, now_ms)) for s in settlements]
        not_yours = [s for s, state in effects if state is None]
        self._cause([s for s, state in effects if state is not None], now_ms)
        later = [(s, state) for s, state in effects if s.kind is SettlementKind.RESCHEDULE]
        for job in self.scheduled()[: max(100, demand.slots)]:
            if (job.due_ms or 0) <= now_ms:
                self._make_ready(job)
        taken = [] if None in self.paused else self._choose(demand)
        for job in taken:
            job.holder = entry
            if job.key == b"started":
                job.key = b""
        given = [job.crashes for job in taken if job.crashes]
        left = [job for priority in range(4) for job in self.ready(priority)]
        suspects = [job.crashes for job in left if job.crashes]
        fits = any(has_room(demand, [*given, crashes]) for crashes in suspects)
        is_left = len(taken) == demand.slots and (fits or len(left) > len(suspects))
        if None in self.paused:
            # Nobody is called, and no suspect is named: nobody could take it.
            is_left, suspects = False, []
        self.is_called |= is_left or bool(given and suspects)
        return Answer(
            [(job.id, job.priority, job.envelope, job.crashes) for job in taken],
            not_yours,
            [s for s, state in later if state is State.CANCELLED],
            self.marks_of(entry),
            is_left,
            self.next_due(),
            self.next_lease_end(entry),
            min(suspects, default=0),
        )

    def note_taken(self, taken: TakenJob) -> None:
        """Remember what only the store can say of a taking."""
        job = self.jobs[taken.id]
        assert job.ready_ms in (0, taken.ready_ms), "a job given back keeps its time"
        job.receipt, job.ready_ms = taken.receipt, taken.ready_ms

    def _settle(self, entry: str, settlement: Settlement, now_ms: int) -> State | None:
        job = self.jobs.get(settlement.job.id)
        if job is None or not job.is_held(entry, settlement.job):
            return None
        if settlement.kind is SettlementKind.RELEASE:
            job.holder = None
            return State.READY
        if settlement.kind is SettlementKind.FINISH:
            ttl_ms = settlement.result_ttl_ms
            self._finish(job, settlement.state, settlement.outcome, ttl_ms, now_ms)
            if settlement.dead_letter is not None:
                self.letters[job.id] = Letter(
                    now_ms, job.priority, settlement.dead_letter, job.notes
                )
            return settlement.state
        if job.marked:
            self._finish(job, State.CANCELLED, None, 0, now_ms)
            return State.CANCELLED
        self.tally[now_ms // MINUTE_MS, RESCHEDULED] += 1
        job.holder, job.envelope = None, settlement.envelope
        job.due_ms = now_ms + settlement.delay_ms
        return State.SCHEDULED

    def _finish(
        self, job: Job, state: State, outcome: bytes | None, ttl_ms: int, now_ms: int
    ) -> None:
        del self.jobs[job.id]
        self.tally[now_ms // MINUTE_MS, state] += 1
        self.finished.append((job.id, state))
        earlier, before = frozenset[bytes](), self.ends.get(job.id)
        if before is not None:
            earlier = before.earlier | ({before.outcome} if before.outcome else set())
        kept = outcome if ttl_ms else None
        self.ends[job.id] = End(state, now_ms, kept, now_ms + ttl_ms, earlier)

    def _choose(self, demand: Demand) -> list[Job]:
        chosen: list[Job] = []
        for limit, priorities in (
            (min(demand.guard, demand.slots), (demand.guard_from, 3, 2, 1, 0)),
            (demand.slots, (0, 1, 2, 3)),
        ):
            for job in itertools.chain.from_iterable(map(self.ready, priorities)):
                if job in chosen or len(chosen) >= limit:
                    continue
                together = [*(other.crashes for other in chosen if other.crashes), job.crashes]
                if not job.crashes or has_room(demand, together):
                    chosen.append(job)
        return chosen

    def resync(
        self, entry: str, sequence: int, holding: Collection[TakenJob]
    ) -> tuple[int, list[Job]]:
        """The last sequence applied, and the jobs held that `holding` does not name."""
        lease = self.leases[entry]
        lease.seen = sequence
        missing = [
            job
            for job in self.held_by(entry)
            if not any(job.id == taken.id and job.is_held(entry, taken) for taken in holding)
        ]
        return lease.applied, missing

    # Upkeep

    def reclaim(
        self, grace_ms: int, limit: int, answer: Reclaimed, states: Mapping[str, State], now_ms: int
    ) -> None:
        """`states`: those of all jobs after the call."""
        self._hear(grace_ms, now_ms)
        over = [name for name, entry in self.leases.items() if entry.end_ms < now_ms]
        spared = [name for name in over if now_ms < self._hold_of(name)]
        for name in over:
            if name not in spared:
                del self.leases[name]
        leaving = self.leaving()
        assert answer[:2] == (min(len(leaving), limit), len(over) - len(spared))
        returned = [job for job in leaving if states[job.id] is State.READY]
        assert len(returned) == answer.returned
        for name in {job.holder or "" for job in leaving}:
            own = [job in returned for job in self.leaving_of(name)]
            assert own == sorted(own, reverse=True), "given back out of order"
        for job in returned:
            job.crashes += 1
        self._give_back(returned)
        expected = min((self._again_ms(name, now_ms) for name in self.leases), default=None)
        if self.leaving():
            expected = 0
        self.is_at_limit = answer.returned == limit
        # A store that stopped at the limit need not have seen that it was done.
        assert answer.again_ms in ({expected, 0} if answer.returned == limit else {expected})

    def _hold_of(self, name: str) -> int:
        return self.holds.get(self.leases[name].grace_ms, 0)

    def _again_ms(self, name: str, now_ms: int) -> int:
        """When it is time to see whether this lease has ended."""
        lease = self.leases[name]
        if lease.end_ms >= now_ms:
            return lease.end_ms - now_ms + 1
        # Before another grace is over, or that call too would come after a silence.
        return max(min(self._hold_of(name) - now_ms, lease.grace_ms // 2), 1)

    def _give_back(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            job.holder = None
        self.is_called |= bool(jobs)

    def prune(self, limit: int, now_ms: int) -> int:
        """How many dead letters go: the oldest first; no two are of one time."""
        oldest_ms = now_ms - self.settings.dead_max_age_ms
        old = sum(letter.at_ms < oldest_ms for letter in self.letters.values())
        number = min(max(len(self.letters) - self.settings.dead_max_count, old), limit)
        for id in sorted(self.letters, key=lambda id: self.letters[id].at_ms)[:number]:
            del self.letters[id]
        return number

    # Asking

    def cancel(
        self, id: str, outcome: bytes | None, ttl_ms: int, verdict: CancelVerdict, now_ms: int
    ) -> None:
        job = self.jobs.get(id)
        if job is None:
            is_known = True if id in self.letters else self.knows(id, now_ms)
            allowed = {CancelVerdict.FINISHED, CancelVerdict.UNKNOWN}
            if is_known:
                allowed = {CancelVerdict.FINISHED}
            elif id not in self.ends:
                allowed = {CancelVerdict.UNKNOWN}
            assert verdict in allowed
        elif job.holder is not None:
            assert verdict is CancelVerdict.REQUESTED
            job.marked = True
        else:
            assert verdict is CancelVerdict.CANCELLED
            self._finish(job, State.CANCELLED, outcome, ttl_ms, now_ms)

    def notes_of(self, entry: str, taken: TakenJob) -> Notes | None:
        """Those of a job that the lease holds; what is put there is kept."""
        job = self.jobs.get(taken.id)
        if entry in self.leases and job is not None and job.is_held(entry, taken):
            return job.notes
        return None


def _key(new: NewJob) -> bytes:
    """The unique key that a job wants, if it does."""
    unique = None if new.terms is None else new.terms.unique
    return b"" if unique is None else unique.key
