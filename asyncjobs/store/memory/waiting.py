"""What waits in one queue in memory: ready jobs in their turn, scheduled jobs until their time."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from heapq import nsmallest
from itertools import chain, count
from typing import Final

from asyncjobs.model.demand import Demand
from asyncjobs.model.headers import PUT_BACK_MARK
from asyncjobs.model.job import Priority, State
from asyncjobs.store.memory.gates import Gates
from asyncjobs.store.memory.news import News
from asyncjobs.store.memory.pauses import Pauses
from asyncjobs.store.memory.stored import StoredJob
from asyncjobs.store.memory.structures import ReadyList, Timed
from asyncjobs.store.memory.suspects import SuspectRoom, in_turn

__all__ = ["Waiting"]

# rule:11 an exchange stops after 4 MiB, in memory
MAX_BYTES: Final = 4 * 1024 * 1024
"""Envelope bytes after which an exchange promotes, or hands out, no more: one trip stays short."""


class Waiting:
    """Owns the ready and the scheduled jobs of a queue, and the serials that give the order.

    Knows no lease: who takes the jobs, and what becomes of them then, is the queue's. Ready jobs
    with a gate are in its `gates`.
    """

    def __init__(self, pauses: Pauses, news: News) -> None:
        self._pauses = pauses
        self.gates = Gates(pauses, news)
        self._gates_first = False
        self.left_ready = False
        """Whether the last choice has left ready jobs behind that another worker could take."""
        self._left_due = False
        self._serials = count(1)
        self._ready: tuple[ReadyList[StoredJob], ...] = tuple(ReadyList() for _ in Priority)
        self._scheduled: Timed[StoredJob] = Timed()

    # Jobs come and go

    def append(self, job: StoredJob, now: int) -> bool:
        """Make a job ready, behind all others of its priority. It is no suspect.

        Whether a worker may take it: not when it has to wait for room at its gate.
        """
        job.serial = next(self._serials)
        job.ready_ms = now
        job.due_ms = None
        # A job comes here new or after a settlement: no worker has died with this attempt.
        job.crashes = 0
        if job.gated is not None:
            return self.gates.append(job, now)
        self._ready[job.priority].append(job)
        return True

    def schedule(self, job: StoredJob, due_ms: int) -> None:
        """Let a job wait for its time."""
        job.due_ms = due_ms
        self._scheduled.put(job.id, due_ms, job)

    def give_back(self, job: StoredJob, now: int) -> None:
        """Put a job that was taken back into its old place."""
        if job.gated is not None:
            self.gates.give_back(job, now)
        else:
            self._ready[job.priority].give_back(job)

    def bring_back(self, function: str | None, now: int) -> None:
        """Put the jobs of a function that is resumed back into their old places."""
        if function is not None:
            self.gates.bring_back(function, now)
            for ready in self._ready:
                ready.bring_back(function)

    def remove(self, job: StoredJob, now: int) -> None:
        """Take out a job, wherever it waits."""
        if self._scheduled.pop(job.id) is not None:
            return
        if job.gated is not None:
            self.gates.remove(job, now)
        else:
            self._ready[job.priority].remove(job)

    def promote(self, limit: int, now: int) -> int:
        """Make up to `limit` due jobs ready; returns how many."""
        promoted = 0
        size = 0
        # rule:11 promotion stops after 4 MiB, in memory
        while promoted < limit and size < MAX_BYTES and self._is_overdue(now):
            job = self._scheduled.pop_first()
            self.append(job, now)
            promoted += 1
            size += len(job.envelope)
        self._left_due = self._is_overdue(now)
        return promoted

    def choose(self, demand: Demand, room: SuspectRoom, now: int) -> list[StoredJob]:
        """Take out the jobs to hand out; suspects without room keep their place."""
        chosen: list[StoredJob] = []
        # rule:18 a paused queue hands out nothing and signals nobody, in memory
        if self._pauses.is_whole:
            self.left_ready = False
            return chosen
        self.gates.open(now)
        # The guarded share comes first, or low priorities would starve under load.
        guarded = (Priority(demand.guard_from), *reversed(Priority))
        guard = min(demand.guard, demand.slots)
        for limit, priorities in ((guard, guarded), (demand.slots, Priority)):
            for priority in priorities:
                size = MAX_BYTES - sum(len(job.envelope) for job in chosen)
                chosen += self._take(priority, limit - len(chosen), size, room, now)
        size = sum(len(job.envelope) for job in chosen)
        is_full = len(chosen) == demand.slots or size >= MAX_BYTES
        self.left_ready = is_full and self._has_more(room)
        return chosen

    def _take(
        self, priority: Priority, most: int, size: int, room: SuspectRoom, now: int
    ) -> list[StoredJob]:
        """Take out up to `most` jobs of one priority, of about `size` bytes."""
        chosen: list[StoredJob] = []
        ready, gates = self._ready[priority], self.gates
        if gates.lanes.lines[priority]:
            part = most
            if ready.has_next():
                part = self._share(most)
            chosen += gates.take(priority, room, part, size, now)
            size -= sum(len(job.envelope) for job in chosen)
        jobs = in_turn(ready, room, self._pauses)
        # The generator comes last: what it has yielded is no longer in the list.
        while len(chosen) < most and size > 0 and (job := next(jobs, None)):
            chosen.append(job)
            size -= len(job.envelope)
        if gates.lanes.lines[priority]:
            # What plain jobs have left.
            chosen += gates.take(priority, room, most - len(chosen), size, now)
        return chosen

    def _share(self, slots: int) -> int:
        """How many slots jobs with a gate get before others of their priority: each second one."""
        if slots % 2 == 0:
            return slots // 2
        # rule:35 jobs with a gate and without one do not starve each other, in memory
        self._gates_first = not self._gates_first
        return slots // 2 + self._gates_first

    def _has_more(self, room: SuspectRoom) -> bool:
        """Whether another exchange with the same room would find something."""
        if self._left_due or any(ready.has_unsuspected() for ready in self._ready):
            return True
        if self.gates.has_more(room):
            return True
        # Without room suspects do not count: each exchange would signal the next worker, and
        # that one could take none of them either.
        fewest = self.fewest_crashes
        return fewest > 0 and room.left(fewest) > 0

    # What stands here

    def jobs(self, states: Collection[State]) -> list[StoredJob]:
        """The jobs that wait in these states."""
        found: list[StoredJob] = []
        if State.READY in states:
            for priority in Priority:
                found += self.ready_jobs(priority)
        if State.HELD in states:
            found += self.gates.lanes.held_jobs()
        if State.SCHEDULED in states:
            found += (job for _, id in self._scheduled.times() if (job := self._scheduled.get(id)))
        return found

    def has_work(self, now: int) -> bool:
        """Whether jobs are ready or overdue."""
        # A worker that came would find nothing, and would come again with the next beat.
        if self._pauses.is_whole:
            return False
        if any(ready.has_next() for ready in self._ready) or self._is_overdue(now):
            return True
        opens_ms = self.gates.next_ms
        return self.gates.has_next or (opens_ms is not None and opens_ms <= now)

    def _is_overdue(self, now: int) -> bool:
        due_ms = self.next_due_ms
        return due_ms is not None and due_ms <= now

    @property
    def next_due_ms(self) -> int | None:
        """When the first scheduled job is due, None without one."""
        return self._scheduled.first_ms()

    @property
    def next_look_ms(self) -> int | None:
        """When a worker has to come although nobody signals: a job is due, or a limit opens."""
        times = (self.next_due_ms, self.gates.next_ms)
        return min((ms for ms in times if ms is not None), default=None)

    @property
    def fewest_crashes(self) -> int:
        """The fewest crashes that a waiting suspect has been through; 0 when none waits for a
        worker."""
        if self._pauses.is_whole:
            return 0
        waiting = (crashes for ready in self._ready for crashes in ready.crashes() if crashes)
        return min(chain(waiting, self.gates.lanes.crashes()), default=0)

    @property
    def oldest_ready_ms(self) -> int | None:
        """Since when the oldest ready job is ready, None without one."""
        oldest = (ready.oldest() for ready in self._ready)
        times = [job.ready_ms for job in oldest if job is not None]
        if (ms := self.gates.lanes.oldest_ready_ms) is not None:
            times.append(ms)
        return min(times, default=None)

    @property
    def ready(self) -> tuple[int, int, int, int]:
        """How many jobs are ready, by priority."""
        gated = self.gates.lanes.ready
        critical, high, normal, low = (
            len(ready) + more for ready, more in zip(self._ready, gated, strict=True)
        )
        return critical, high, normal, low

    @property
    def scheduled(self) -> int:
        """How many jobs wait for their time."""
        return len(self._scheduled)

    def ready_jobs(self, priority: int) -> Iterator[StoredJob]:
        """The ready jobs of one priority, in any order."""
        return chain(self._ready[priority], self.gates.lanes.ready_jobs(priority))

    def scheduled_jobs(self) -> Iterator[StoredJob]:
        """The scheduled jobs, in any order."""
        return self._scheduled.values()

    def put_back(self, limit: int) -> list[bytes]:
        """Envelopes of jobs that were put back, among the next `limit` that are due."""
        soon = nsmallest(limit, self._scheduled.times())
        jobs = (self._scheduled.get(id) for _, id in soon)
        return [job.envelope for job in jobs if job and PUT_BACK_MARK in job.envelope]
