"""How new jobs come into a queue in memory, with their terms."""

from __future__ import annotations

from collections.abc import Sequence

from asyncjobs.model.job import NewJob
from asyncjobs.store.activity import ENQUEUED
from asyncjobs.store.answers import Placed
from asyncjobs.store.memory.barriers import Barriers, Finish, Outcomes
from asyncjobs.store.memory.ended import Ended
from asyncjobs.store.memory.news import News
from asyncjobs.store.memory.stored import Gated, StoredJob, Tally
from asyncjobs.store.memory.unique import Locks
from asyncjobs.store.memory.waiting import Waiting

__all__ = ["Placing"]


class Placing:
    """Places the new jobs of one queue: what enqueues, successes and schedules have in common.

    Whoever keeps a term has one line in `_place`. `jobs` are the living jobs of the queue, by id.
    `drop` ends one of them that no worker has taken.
    """

    def __init__(
        self,
        name: str,
        jobs: dict[str, StoredJob],
        waiting: Waiting,
        ended: Ended,
        tally: Tally,
        news: News,
        outcomes: Outcomes,
        drop: Finish,
    ) -> None:
        self._jobs = jobs
        self._waiting = waiting
        self._ended = ended
        self._tally = tally
        self._news = news
        self.barriers = Barriers(name, self.put, drop, outcomes)
        self.locks = Locks(name, jobs, waiting, self._put_again)

    def store(self, jobs: Sequence[NewJob], now: int) -> list[Placed | None]:
        """Store each job whose id and unique key are free; see `Enqueued.places`.

        Nobody is signalled yet: the exchange that stores what a success causes may take it
        itself.
        """
        places = [self._place(new, now) for new in jobs]
        self._tally.add(now, ENQUEUED, sum(place is None or place.is_new for place in places))
        return places

    def _place(self, new: NewJob, now: int) -> Placed | None:
        # The id comes first: the same id is the same job, whatever it holds.
        if new.id in self._jobs or self._ended.knows(new.id, now):
            return Placed(new.ref, "there")
        due = now + new.delay_ms if new.at_ms is None else new.at_ms
        unique = None if new.terms is None else new.terms.unique
        lock = None if unique is None else self.locks.claim(new.id, unique, due, now)
        place = None
        if unique is not None and lock is not None:
            place = self.locks.meet(lock, new, unique, due, now)
            if not place.is_new:
                self.barriers.absent(new, now)
                return place
        if not new.has_new_id:
            # rule:5 an id that is used again is rid of the result of the job before, in memory
            self._ended.drop_result(new.id)
        job = StoredJob(new.id, new.priority, new.envelope)
        if new.terms is not None and new.terms.gate is not None:
            job.gated = Gated(new.terms.gate)
            self._waiting.gates.lanes.declare(new.terms.gate.uses, now)
        self._jobs[new.id] = job
        if new.terms is not None:
            self.barriers.enter(job.id, new.terms)
        # It is stored from here on. What is kept of it besides has its place here: its gate, its
        # arrivals, its node.
        if unique is not None and lock is not None:
            self.locks.hold(lock, job, unique, due, now)
        elif not self.barriers.hold(job, new.terms, due, now):
            self.put(job, due, now)
        if job.gated is not None and new.id not in self._jobs:
            # Its gate has refused it.
            return Placed(new.ref, "cancelled")
        return place

    def _put_again(self, job: StoredJob, due: int, now: int) -> None:
        """The same as `put` for a job that may be behind a barrier: there it stays."""
        if not self.barriers.put_off(job, due):
            self.put(job, due, now)

    def put(self, job: StoredJob, due: int, now: int) -> None:
        """Make the job ready, or let it wait until it is due."""
        if due <= now:
            # Not `|=`: what the other one has told meanwhile would be lost.
            if self._waiting.append(job, now):
                self._news.is_ready = True
            return
        earliest = self._waiting.next_due_ms
        self._waiting.schedule(job, due)
        # A sleeping worker must learn of a new earliest time, or it sleeps past it.
        self._news.has_work |= self._waiting.next_due_ms != earliest
