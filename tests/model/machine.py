"""A state machine that makes any sequence of calls on a store and holds it to the model."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from asyncjobs.model.clock import new_id
from asyncjobs.model.demand import Demand
from asyncjobs.model.job import NewJob, State, TakenJob
from asyncjobs.model.notes import PROGRESS, Note
from asyncjobs.model.settlement import Effects, Settlement
from asyncjobs.model.terms import Terms, Unique, Until
from asyncjobs.store.answers import CancelVerdict, Exchange, Registered, StaleSequence
from asyncjobs.store.history import FinishedQuery
from asyncjobs.store.lease import Lease, LeaseSpec
from asyncjobs.store.seam import Backend, Clock, EnqueueBatch, StoreSettings
from asyncjobs.testing.conformance.store import (
    GRACE_MS,
    LEASE_MS,
    LIMIT_S,
    QUEUE,
    PinnedClock,
    are_new,
    outcome,
    ref,
)
from tests.model.model import QueueModel
from tests.model.steps import (
    DEMANDS,
    ENDS,
    ID_TTL_MS,
    KEY_TTL_MS,
    NAMES,
    NOTES,
    OWN_ENDS,
    PICK,
    WORK_ENDS,
    WORKERS,
    Call,
    Party,
    delays_of,
    in_order,
    told,
    while_running,
    with_jobs,
)

__all__ = ["MakeStore", "StoreMachine"]

MakeStore: TypeAlias = Callable[[StoreSettings, Clock], Backend]
T = TypeVar("T")


class StoreMachine(RuleBasedStateMachine):
    """Owns a store, a model of its one queue, two workers and the clock of all."""

    def __init__(self, make_store: MakeStore) -> None:
        super().__init__()
        self.settings = StoreSettings(
            prefix=f"test-{new_id()}",
            id_ttl_ms=ID_TTL_MS,
            token_ttl_ms=ID_TTL_MS,
            dead_max_age_ms=150_000,
            dead_max_count=2,
        )
        self.clock = PinnedClock()
        self.model = QueueModel(QUEUE, self.settings)
        self.serials = itertools.count(1)
        self.parties: dict[int, Party] = {}
        self.batches: list[tuple[int, EnqueueBatch]] = []
        self.ever_taken: list[TakenJob] = []
        self.released: set[TakenJob] = set()
        self.leases: dict[str, Lease] = {}
        self.runner = asyncio.Runner()
        self.store = make_store(self.settings, self.clock)
        self.do(self.store.open())

    def do(self, call: Coroutine[Any, Any, T]) -> T:
        """Make a call on the store."""
        return self.runner.run(call)

    def teardown(self) -> None:
        self.do(self.store.close())
        self.runner.close()

    @property
    def now(self) -> int:
        return self.clock.ms

    def enter(self, spec: LeaseSpec) -> Registered:
        """Enter the queue under the name of this lease."""
        lease = self.leases[spec.entry(QUEUE)] = self.do(self.store.lease(spec))
        return lease.entered

    def lease(self, spec: LeaseSpec) -> Lease:
        """What speaks in its name: also of one that was lost, or has left."""
        return self.leases[spec.entry(QUEUE)]

    def party(self, number: int) -> Party:
        """A worker with a lease; registered when it is first needed."""
        if number not in self.parties:
            party = self.parties[number] = Party(LeaseSpec(new_id(), "worker", (QUEUE,), LEASE_MS))
            assert self.enter(party.lease).now_ms == self.now
            self.model.register(party.entry, LEASE_MS, self.now)
        return self.parties[number]

    def free_delay(self, delay_ms: int) -> int:
        """A delay near this one: which of two jobs due at one time is first is left open."""
        taken = {job.due_ms for job in self.model.scheduled()}
        return next(d for d in itertools.count(delay_ms) if self.now + d not in taken)

    # Coming in

    @initialize(slots=st.integers(0, 4))
    def begin(self, slots: int) -> None:
        """With jobs, and two workers of which one runs some."""
        jobs = [NewJob(QUEUE, name, 2, name.encode()) for name in NAMES]
        self.send(EnqueueBatch(new_id(), jobs))
        self.party(1)
        self.exchange(0, [], Demand(slots), 0)

    @precondition(lambda self: len(self.model.jobs) < len(NAMES))
    @rule(
        names=st.lists(st.sampled_from(NAMES), min_size=1, max_size=4),
        priority=st.integers(0, 3),
        delay_ms=st.sampled_from([0, 0, 0, 500, 5000]),
        by_time=st.booleans(),
        until=st.sampled_from([None, None, "finished", "started"]),
    )
    def enqueue(
        self, names: list[str], priority: int, delay_ms: int, by_time: bool, until: Until | None
    ) -> None:
        """`until`: all of them want one unique key, which lasts so long."""
        # One delayed job a batch: two would be due at one time.
        names = names[:1] if delay_ms else names
        delay_ms = self.free_delay(delay_ms) if delay_ms else 0
        at_ms = self.now + delay_ms if by_time else None
        terms = Terms(unique=Unique(until.encode(), until, KEY_TTL_MS)) if until else None
        jobs = [
            NewJob(
                QUEUE,
                name,
                priority,
                f"{name} {next(self.serials)}".encode(),
                delay_ms,
                at_ms,
                terms=terms,
            )
            for name in names
        ]
        self.send(EnqueueBatch(new_id(), jobs))

    def send(self, batch: EnqueueBatch) -> None:
        answer = are_new(self.do(self.store.enqueue(batch)).places)
        if batch.token not in self.model.answers:
            self.batches.append((self.now, batch))
        self.model.enqueue(batch.token, batch.jobs, answer, self.now)

    @precondition(lambda self: self.batches)
    @rule(pick=PICK)
    def enqueue_again(self, pick: int) -> None:
        """The reply was lost: the same batch, within the time for which it is known."""
        first_ms, batch = self.batches[-1 - pick % len(self.batches)]
        if self.now < first_ms + self.settings.token_ttl_ms:
            self.send(batch)

    # Leases

    @while_running
    @rule(number=WORKERS)
    def heartbeat(self, number: int) -> None:
        party = self.party(number)
        beat = self.do(self.lease(party.lease).beat())
        is_there = self.model.renew(party.entry, LEASE_MS, self.now)
        assert beat.lost == (() if is_there else (QUEUE,))
        cancels = self.model.marks_of(party.entry) if is_there else []
        assert sorted(job.id for job in beat.cancels) == cancels
        assert beat.next_lease_end_ms in self.model.reclaim_due(party.entry, self.now)
        assert beat.now_ms == self.now

    @while_running
    @rule(number=WORKERS, goes_on=st.booleans(), charged=st.integers(0, 2))
    def deregister(self, number: int, goes_on: bool, charged: int) -> None:
        """`goes_on`: calls again without a lease; `charged`: so many jobs have crashed."""
        party, recent = self.party(number), [*dict.fromkeys(self.ever_taken[::-1])]
        self.do(self.lease(party.lease).leave(recent[:charged]))
        self.model.deregister(party.entry, recent[:charged])
        if not goes_on:
            del self.parties[number]

    @while_running
    @rule(number=WORKERS)
    def enter_again(self, number: int) -> None:
        """Under the old name while it stands, else under a new one."""
        party = self.party(number)
        if party.entry not in self.model.leases:
            party.lease = party.lease.renew((QUEUE,), new_id())
        self.enter(party.lease)
        self.model.register(party.entry, LEASE_MS, self.now)

    # Exchanges

    @with_jobs
    @rule(number=WORKERS, ends=ENDS, demand=DEMANDS, is_reply_lost=st.sampled_from([0, 0, 0, 1]))
    def exchange(
        self, number: int, ends: list[tuple[str, int, bool]], demand: Demand, is_reply_lost: int
    ) -> None:
        party = self.party(number)
        settlements = self.settlements(party, ends)
        # Letters of one time have no order among them; so no two are of one time.
        self.clock.ms += any(s.dead_letter is not None for s in settlements)
        party.sequence += 1
        party.last = Call(party.lease, party.sequence, settlements, demand)
        if party.entry not in self.model.leases:
            self.lost(party.last)
            self.enter_again(number)
            return
        answer = self.trade(party.last)
        seen = self.model.exchange(party.entry, party.sequence, settlements, demand, self.now)
        refused, cancelled = in_order(seen.not_yours), in_order(seen.cancelled)
        assert told(answer) == seen._replace(not_yours=refused, cancelled=cancelled)
        assert (answer.lost, answer.now_ms) == ((), self.now)
        for job in answer.jobs:
            assert job.holder == party.entry
            self.model.note_taken(job)
        self.ever_taken += answer.jobs
        self.released |= {s.job for s in settlements if s.state is State.READY}
        self.released -= set(answer.jobs)
        party.held = [job for job in party.held if job not in [s.job for s in settlements]]
        if not is_reply_lost:
            party.held += answer.jobs

    @with_jobs
    @rule(number=WORKERS, slots=st.integers(1, 4))
    def take(self, number: int, slots: int) -> None:
        self.exchange(number, [], Demand(slots), 0)

    @while_running
    @rule(
        number=WORKERS,
        ends=OWN_ENDS,
        before=st.sampled_from(["mark", "note", "note", "nothing", "nothing"]),
    )
    def settle(self, number: int, ends: list[tuple[str, int, bool]], before: str) -> None:
        """`before`: somebody cancels one that runs, or the worker notes something of its own."""
        if before == "mark":
            self.cancel(0, True)
        elif before == "note" and self.party(number).held:
            self.note_all(number, self.party(number).held, PROGRESS)
        self.exchange(number, ends, Demand(0), 0)

    @with_jobs
    @rule(number=WORKERS, ends=WORK_ENDS, is_noted=st.booleans())
    def work(self, number: int, ends: list[tuple[str, int, bool]], is_noted: bool) -> None:
        """A worker takes jobs, notes something of all, or nothing, and settles some."""
        self.take(number, 4)
        if is_noted and self.party(number).held:
            self.note_all(number, self.party(number).held, PROGRESS)
        self.exchange(number, ends, Demand(0), 0)

    @with_jobs
    @rule(number=WORKERS, slots=st.integers(1, 4), demand=DEMANDS)
    def die(self, number: int, slots: int, demand: Demand) -> None:
        """A worker takes jobs and dies; after its lease the other one has its turn."""
        self.take(number, slots)
        self.reclaim(1, GRACE_MS, 1000, 1 - number)
        self.exchange(1 - number, [], demand, 0)

    def trade(self, call: Call) -> Exchange:
        return self.do(
            self.lease(call.lease).exchange(call.sequence, call.settlements, {QUEUE: call.demand})
        )

    def lost(self, call: Call) -> None:
        answer = self.trade(call)
        assert (answer.lost, answer.jobs, answer.cancels) == ((QUEUE,), [], [])

    def settlements(self, party: Party, ends: list[tuple[str, int, bool]]) -> list[Settlement]:
        made: list[Settlement] = []
        for end, pick, is_own in ends:
            fresh = [job for job in party.held if all(job != s.job for s in made)]
            pool = fresh if is_own else self.ever_taken[-12:]
            if not pool:
                continue
            job = pool[pick % len(pool)]
            # The one thing that no lease may do: settle what it has given back itself.
            given_back = {s.job for s in made if s.state is State.READY} | self.released
            if job not in given_back or job.holder != party.entry:
                made.append(self.settlement(end, job, made))
        return made

    def settlement(self, end: str, job: TakenJob, before: list[Settlement]) -> Settlement:
        serial = next(self.serials)
        if end == "release":
            return Settlement.release(job)
        if end == "dead" and not any(s.dead_letter for s in before):
            return Settlement.dead(job, b"letter %d" % serial)
        if end in ("again", "soon"):
            delay_ms = self.free_delay(0 if end == "again" else 500)
            while delay_ms in delays_of(before):
                delay_ms = self.free_delay(delay_ms + 1)
            return Settlement.reschedule(job, b"%s %d" % (job.envelope, serial), delay_ms)
        if end in ("discarded", "dead"):
            return Settlement.discarded(job)
        kept = outcome(State.SUCCEEDED, serial) if end == "kept" else None
        made = Settlement.succeeded(job, kept, ID_TTL_MS // 2)
        return made.causing(self.effects(serial, before)) if end == "causing" else made

    def effects(self, serial: int, before: list[Settlement]) -> Effects:
        """A ready job and one for later, under ids that a store knows, or does not know, for sure:
        no answer says which of them are new."""
        names = [name for name in NAMES if self.is_clear(name)]
        later = delays_of(before)
        delay_ms = self.free_delay(300)
        while delay_ms in later:
            delay_ms = self.free_delay(delay_ms + 1)
        return Effects(
            tuple(
                NewJob(QUEUE, name, serial % 4, b"%s %d" % (name.encode(), serial), delay)
                for name, delay in zip(names[serial % 3 :], (0, delay_ms), strict=False)
            )
        )

    def is_clear(self, name: str) -> bool:
        """Whether it is known, or not, now and when the clock has gone on by 1 ms."""
        seen = {self.model.knows(name, self.now + ms) for ms in (0, 1)}
        return name in self.model.jobs or (len(seen) == 1 and None not in seen)

    @while_running
    @rule(number=WORKERS, is_number_only=st.booleans(), ends=ENDS, demand=DEMANDS)
    def arrive_late_or_twice(
        self, number: int, is_number_only: bool, ends: list[tuple[str, int, bool]], demand: Demand
    ) -> None:
        """An exchange at or below the last sequence: the same one again, or another."""
        call = self.party(number).last
        if call is None:
            return
        if is_number_only:
            settlements = self.settlements(self.party(number), ends)
            call = Call(self.party(number).lease, call.sequence, settlements, demand)
        entry = call.lease.entry(QUEUE)
        if self.model.is_stale(entry, call.sequence):
            try:
                self.trade(call)
            except StaleSequence:
                return
            raise AssertionError("a stale exchange was let in")
        if entry not in self.model.leases:
            self.lost(call)

    @while_running
    @rule(number=WORKERS, knows=st.lists(st.booleans(), max_size=6), is_stale=st.booleans())
    def resync(self, number: int, knows: list[bool], is_stale: bool) -> None:
        party = self.party(number)
        party.sequence += 0 if is_stale else 1
        holding = [job for job, known in zip(self.ever_taken[::-1], knows, strict=False) if known]
        try:
            answer = self.do(self.lease(party.lease).resync(party.sequence, holding))
        except StaleSequence:
            assert self.model.is_stale(party.entry, party.sequence)
            return
        assert not self.model.is_stale(party.entry, party.sequence)
        if party.entry not in self.model.leases:
            assert answer == ({}, [], (QUEUE,), {})
            return
        applied, missing = self.model.resync(party.entry, party.sequence, holding)
        assert (answer.applied, answer.lost) == ({QUEUE: applied}, ())
        assert sorted(answer.missing) == sorted(
            TakenJob(
                QUEUE,
                job.id,
                job.priority,
                job.receipt,
                job.envelope,
                job.crashes,
                job.ready_ms,
                party.entry,
            )
            for job in missing
        )
        party.held += [job for job in answer.missing if job not in party.held]

    # Time and upkeep

    @rule(ms=st.sampled_from([1, 700, 6000, GRACE_MS + 1, LEASE_MS + 1, 2 * ID_TTL_MS, 200_000]))
    def pass_time(self, ms: int) -> None:
        self.clock.ms += ms

    @precondition(lambda self: self.model.scheduled())
    @rule(early_ms=st.sampled_from([0, 1]))
    def pass_time_until_due(self, early_ms: int) -> None:
        """To the last ms of waiting, or to the first of being due."""
        self.clock.ms = max(self.now, (self.model.next_due() or 0) - early_ms)

    @while_running
    @rule(
        late_ms=st.sampled_from([1, 1, 0, -LEASE_MS]),
        grace_ms=st.sampled_from([GRACE_MS, 0]),
        limit=st.sampled_from([1000, 1, 2]),
        alive=st.sampled_from([0, 1, 0, 1, None]),
    )
    def reclaim(self, late_ms: int, grace_ms: int, limit: int, alive: int | None) -> None:
        """`late_ms`: after the last lease has ended; `alive`: a worker that renews its own,
        so that the store is not taken for one that was away."""
        ends_ms = [entry.end_ms for entry in self.model.leases.values()]
        while (left_ms := max(ends_ms, default=0) + late_ms - self.now) > 0:
            self.clock.ms += min(left_ms, GRACE_MS)
            if alive is not None:
                self.heartbeat(alive)
        answer = self.do(self.store.reclaim([QUEUE], grace_ms, limit))
        records = self.do(self.store.get([ref(name) for name in NAMES]))
        states = {record.ref.id: record.state for record in records if record}
        self.model.reclaim(grace_ms, limit, answer, states, self.now)

    @precondition(lambda self: self.model.letters)
    @rule(limit=st.sampled_from([1000, 1]))
    def prune(self, limit: int) -> None:
        assert self.do(self.store.prune([QUEUE], limit)) == self.model.prune(limit, self.now)

    # Asking

    @with_jobs
    @rule(pick=PICK, is_kept=st.booleans())
    def cancel(self, pick: int, is_kept: bool) -> None:
        # Those that run first: there is most to be got wrong.
        live = sorted(self.model.jobs.values(), key=lambda job: (job.holder is None, job.id))
        names = [job.id for job in live] or NAMES
        name = (names + NAMES if pick > 8 else names)[pick % len(names)]
        kept = outcome(State.CANCELLED, next(self.serials)) if is_kept else None
        verdict: CancelVerdict
        (verdict,) = self.do(self.store.cancel([ref(name)], kept, ID_TTL_MS // 2))
        self.model.cancel(name, kept, ID_TTL_MS // 2, verdict, self.now)

    @while_running
    @rule(number=WORKERS, picks=st.lists(PICK, min_size=1, max_size=3), name=NOTES)
    def note(self, number: int, picks: list[int], name: str) -> None:
        """Some jobs, of this worker or not, and what all of them have noted then."""
        recent = self.ever_taken[-12:]
        self.note_all(number, [recent[pick % len(recent)] for pick in picks], name)

    def note_all(self, number: int, jobs: list[TakenJob], name: str) -> None:
        party, recent = self.party(number), self.ever_taken[-12:]
        call = [Note(job, name, b"%d" % next(self.serials)) for job in jobs]
        kept = []
        for note in call:
            notes = self.model.notes_of(party.entry, note.job)
            if notes is not None:
                notes[name] = note.value
            kept.append(notes is not None)
        lease = self.lease(party.lease)
        assert self.do(lease.note(call)) == kept
        seen = [self.model.notes_of(party.entry, taken) for taken in recent]
        assert self.do(lease.notes(recent)) == seen

    @precondition(lambda self: self.model.is_called)
    @rule(number=WORKERS)
    def wait(self, number: int) -> None:
        """A token that has to be there is there; taking it takes no job."""
        signalled = self.do(self.lease(self.party(number).lease).park(LIMIT_S)).signalled
        assert list(signalled) == [QUEUE]
        self.model.is_called = False

    @invariant()
    def look(self) -> None:
        """All that can be seen from outside is as in the model."""
        records = self.do(self.store.get([ref(name) for name in NAMES]))
        for name, record in zip(NAMES, records, strict=True):
            self.model.check_record(name, record, self.now)
        (counts,) = self.do(self.store.inspect.queues.counts([QUEUE]))
        assert counts == self.model.counts(self.now)
        (flow,) = self.do(self.store.inspect.queues.flow([QUEUE]))
        assert flow._replace(oldest_ready_ms=None, next_due_ms=None) == self.model.flow(self.now)
        page = self.do(self.store.inspect.history.finished(FinishedQuery(QUEUE, limit=20)))
        assert [(job.ref.id, job.state) for job in page.jobs] == self.model.finished[:-21:-1]
        paused = self.do(self.store.control.queues.paused([QUEUE]))[0]
        assert {pause.function for pause in paused} == self.model.paused
        entries = self.do(self.store.inspect.workers([QUEUE]))
        ends = {name: entry.end_ms for name, entry in self.model.leases.items()}
        assert {entry.lease: entry.end_ms for entry in entries} == ends
