"""One queue in memory: its jobs, its leases and the rules by which jobs move between them.

Every method is synchronous, so it is atomic on the event loop as a script is in a
server. Nothing here awaits, parks or knows another queue.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from asyncjobs.model.demand import Demand
from asyncjobs.model.history import unstarted
from asyncjobs.model.job import JobRecord, NewJob, Priority, State, TakenJob
from asyncjobs.model.refs import JobRef
from asyncjobs.model.settlement import Settlement, SettlementKind
from asyncjobs.model.terms import Barrier
from asyncjobs.store.activity import ENQUEUED, RESCHEDULED
from asyncjobs.store.answers import CancelVerdict, Placed
from asyncjobs.store.lease import LeaseSpec
from asyncjobs.store.letters import Revival, Revived
from asyncjobs.store.memory.amending import Amending
from asyncjobs.store.memory.barriers import Barriers, Outcomes
from asyncjobs.store.memory.ended import Ended
from asyncjobs.store.memory.entries import Entries
from asyncjobs.store.memory.events import Events
from asyncjobs.store.memory.finished import Finished
from asyncjobs.store.memory.news import News
from asyncjobs.store.memory.pauses import Pauses
from asyncjobs.store.memory.placing import Placing
from asyncjobs.store.memory.stored import Gated, StoredJob, Tally
from asyncjobs.store.memory.structures import Timed
from asyncjobs.store.memory.suspects import SuspectRoom
from asyncjobs.store.memory.unique import Locks
from asyncjobs.store.memory.upkeep import Upkeep
from asyncjobs.store.memory.waiting import Waiting
from asyncjobs.store.seam import StoreSettings

__all__ = ["Queue"]


class Queue:
    """Owns every job of one queue: it waits, a lease holds it, or it has ended.

    Its parts may be asked directly; what moves a job from one to the other goes through the
    queue. It calls `signal` when there may be work, and `tell_finished` with each job that has
    ended. `outcomes` hears of the ends that let others go on, and `tell_cancel` of a running job
    that shall stop for another one.
    """

    def __init__(
        self,
        name: str,
        settings: StoreSettings,
        signal: Callable[[str], None],
        tell_finished: Callable[[JobRef], None],
        tell_cancel: Callable[[str, JobRef], None],
        outcomes: Outcomes,
    ) -> None:
        self.name = name
        self.pauses = Pauses()
        self._news = News(lambda: signal(name))
        self.waiting = Waiting(self.pauses, self._news)
        self.waiting.gates.refuse = lambda job, now: self._drop(job, State.CANCELLED, now)
        self.waiting.gates.stop = lambda job: tell_cancel(
            self.leases.mark(job), JobRef(name, job.id)
        )
        self.leases = Entries(name)
        self.ended = Ended(settings)
        self.tally = Tally()
        self.finished = Finished(name, settings.history)
        self._tell_finished = tell_finished
        self._jobs: dict[str, StoredJob] = {}
        """Every job that has not ended, by id."""
        self.events = Events(settings, self._jobs, self.waiting, self._news)
        self.placing = Placing(
            name, self._jobs, self.waiting, self.ended, self.tally, self._news, outcomes, self._drop
        )
        self._answers: Timed[list[Placed | None]] = Timed()
        """What enqueues were answered, by token: a batch that is sent again is stored once."""
        self.upkeep = Upkeep(
            self.leases, self.waiting, self.ended, self._answers, lambda: signal(name)
        )

        self.amending = Amending(
            self._jobs, self.waiting, self.locks, self.barriers, self._news, self._tell_finished
        )

    @property
    def locks(self) -> Locks:
        """Who holds unique keys."""
        return self.placing.locks

    @property
    def barriers(self) -> Barriers:
        """The jobs that wait for the ends of others, and the flows."""
        return self.placing.barriers

    @property
    def living(self) -> int:
        """How many jobs have not ended."""
        return len(self._jobs)

    def running_jobs(self, priority: int) -> Iterator[StoredJob]:
        """The jobs of one priority that leases hold, in any order."""
        return (
            job
            for job in self._jobs.values()
            if job.priority == priority and job.state is State.RUNNING
        )

    def lives(self, id: str) -> bool:
        """Whether a job with this id has not ended."""
        return id in self._jobs

    def waits(self, id: str) -> bool:
        """Whether a job with this id lives, does not run, and has not begun under a key."""
        job = self._jobs.get(id)
        return job is not None and job.holder is None and not self.locks.has_begun(job)

    # Coming in

    def enqueue(
        self,
        token: str,
        jobs: Sequence[NewJob],
        barriers: Sequence[Barrier],
        token_ttl_ms: int,
        now: int,
    ) -> list[Placed | None]:
        """Store the jobs, or repeat the answer that `token` was given; see `Enqueued.places`."""
        # The batch may be stored although its reply was lost.
        given = self._answers.after(token, now)
        if given is not None:
            return given
        self._answers.drop_until(now)
        # rule:36 a batch that is sent again raises its barriers once, in memory
        self.barriers.lift(barriers)
        answer = self.add(jobs, now)
        self._answers.put(token, now + token_ttl_ms, answer)
        return answer

    def add(self, jobs: Sequence[NewJob], now: int) -> list[Placed | None]:
        """Store the jobs and signal them; see `Enqueued.places`."""
        self.ended.forget(now)
        places = self.placing.store(jobs, now)
        self._news.tell_all()
        return places

    def signal_news(self) -> None:
        """Signal once for all work that has come in this call."""
        self._news.tell()

    def signal_all(self) -> None:
        """The same by somebody who takes nothing here: for what was made ready, too."""
        self._news.tell_all()

    def revive(self, revival: Revival, priority: Priority | None, now: int) -> Revived:
        """Make a dead job ready again; see `DeadLetters.revive`."""
        id = revival.key.ref.id
        if id in self._jobs:
            return Revived.TAKEN if self.ended.has_letter(revival.key) else Revived.GONE
        if revival.unique is not None and self.ended.has_letter(revival.key):
            # rule:21 a dead job whose key is taken is not revived, in memory
            holder = self.locks.again(id, revival.unique, now)
            if holder is not None:
                return Revived("taken", holder)
        letter = self.ended.revive(revival.key)
        if letter is None:
            return Revived.GONE
        wanted = letter.priority if priority is None else priority
        job = StoredJob(id, wanted, revival.envelope)
        job.notes = letter.notes
        if revival.gate is not None:
            # Somebody wants it to run: it waits, whatever it had done when it was new.
            job.gated = Gated(revival.gate._replace(when_full="wait"))
        self._jobs[id] = job
        self._news.has_work |= self.waiting.append(job, now)
        self.tally.add(now, ENQUEUED)
        return Revived.READY

    # Taking, settling, cancelling

    def take(self, lease: LeaseSpec, demand: Demand, now: int) -> list[TakenJob]:
        """Hand out up to `demand.slots` jobs; signals again for what is left."""
        held = self.leases.of(lease)
        room = SuspectRoom(demand)
        waiting = self.waiting
        jobs: list[TakenJob] = []
        begin = self.placing.locks.begin
        for job in waiting.choose(demand, room, now):
            held.take(job, now)
            begin(job.id, now)
            jobs.append(job.taken(self.name))
        # One worker does not take all suspects. One that has taken some signals another worker.
        # rule:1 an exchange that leaves ready work behind passes the token on, in memory
        if waiting.left_ready or (room.given and waiting.fewest_crashes):
            self._news.has_work = True
        self.signal_news()
        return jobs

    def settle(self, lease: LeaseSpec, settlement: Settlement, now: int) -> State | None:
        """The state of the job from now on; None, and no effect, when the lease does not hold
        it any more."""
        job = self.leases.held(lease, settlement.job)
        if job is None:
            return None
        held = self.leases.of(lease)
        if settlement.kind is SettlementKind.RELEASE:
            held.release(job)
            self.waiting.give_back(job, now)
            return State.READY
        held.release(job)
        if job.gated is not None:
            if settlement.kind is SettlementKind.CLOSE:
                until_ms = now + settlement.delay_ms
                self.waiting.gates.close(job.gated.gate.uses, until_ms, now)
            self.waiting.gates.end(job, now)
        if settlement.kind is SettlementKind.FINISH:
            if settlement.effects is not None:
                # rule:36 a success raises barriers before it counts itself, in memory
                self.barriers.announce(settlement.effects.barriers)
            self._finish(job, settlement.state, settlement.outcome, settlement.result_ttl_ms, now)
            # rule:19 what counts is in the history in the same step, in memory
            self.finished.settled(settlement, settlement.state, now, lease.worker)
            if settlement.dead_letter is not None:
                self.ended.bury(job, settlement.dead_letter, now)
            return settlement.state
        # A retry would run what somebody has asked to stop.
        if job.is_marked:
            self._finish(job, State.CANCELLED, None, 0, now)
            self.finished.settled(settlement, State.CANCELLED, now, lease.worker)
            return State.CANCELLED
        self.tally.add(now, RESCHEDULED)
        job.envelope = settlement.envelope
        delay_ms = self.events.delay_ms(job, settlement)
        self.waiting.schedule(job, now + delay_ms)
        # rule:21 the time of a lock does not pass while its job waits for a retry, in memory
        self.locks.prolong(job.id, delay_ms)
        return State.SCHEDULED

    def _finish(
        self, job: StoredJob, state: State, outcome: bytes | None, ttl_ms: int, now: int
    ) -> None:
        del self._jobs[job.id]
        self._answers.drop_until(now)
        self.tally.add(now, state)
        self.ended.put(job.id, state, outcome, ttl_ms, now)
        self.placing.locks.end(job.id, now)
        # rule:36 the end of a job counts in its own step, in memory
        self.barriers.end(job.id, state, now)
        self._tell_finished(JobRef(self.name, job.id))

    def _drop(self, job: StoredJob, state: State, now: int) -> None:
        """End a job that no worker has taken."""
        self._finish(job, state, None, 0, now)
        self.finished.add(job.id, state, now, run=unstarted(job.envelope))

    def record(self, id: str, now: int) -> JobRecord | None:
        """What is known of a job, None when nothing is."""
        ref = JobRef(self.name, id)
        job = self._jobs.get(id)
        if job is None:
            return self.ended.record(ref, now)
        return job.record(ref)

    def find(self, id: str) -> StoredJob | None:
        """A job that has not ended."""
        return self._jobs.get(id)

    def cancel(
        self, id: str, outcome: bytes | None, result_ttl_ms: int, now: int
    ) -> tuple[CancelVerdict, str | None]:
        """Remove a job that waits, mark one that runs; the entry of the lease that runs it."""
        job = self._jobs.get(id)
        if job is None:
            if self.ended.record(JobRef(self.name, id), now) is None:
                return CancelVerdict.UNKNOWN, None
            return CancelVerdict.FINISHED, None
        if job.holder is not None:
            self.leases.mark(job)
            return CancelVerdict.REQUESTED, job.holder
        if job.state is not State.HELD:
            self.waiting.remove(job, now)
        elif not self.barriers.unhold(job):
            self.locks.unhold(job)
        self._finish(job, State.CANCELLED, outcome, result_ttl_ms, now)
        self.finished.add(id, State.CANCELLED, now, run=unstarted(job.envelope))
        # A held job goes on now.
        self._news.tell_all()
        return CancelVerdict.CANCELLED, None
