"""What waits in one queue in memory: ready jobs in their turn, scheduled jobs until their time."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from heapq import nsmallest
from itertools import count
from typing import Final

from asyncjobs.model.demand import Demand
from asyncjobs.model.headers import PUT_BACK_MARK
from asyncjobs.model.job import Priority, State
from asyncjobs.store.memory.pauses import Pauses
from asyncjobs.store.memory.stored import StoredJob
from asyncjobs.store.memory.structures import ReadyList, Timed

__all__ = ["SuspectRoom", "Waiting"]

# rule:11 an exchange stops after 4 MiB, in memory
MAX_BYTES: Final = 4 * 1024 * 1024
"""Envelope bytes after which an exchange promotes, or hands out, no more: one trip stays short."""


class SuspectRoom:
    """How many jobs that were running when a worker died an exchange may still hand out.

    Jobs that are handed out together are blamed together. So the one of them with the most
    crashes decides how many they may be.
    """

    __slots__ = ("_by_crashes", "_most", "given")

    def __init__(self, demand: Demand) -> None:
        self._by_crashes = demand.suspects or (0,)
        self._most = self._by_crashes[0]
        self.given = 0

    def left(self, crashes: int) -> int:
        """For suspects with so many crashes."""
        return min(self._most, self._bound(crashes)) - self.given

    def give(self, crashes: int) -> None:
        """One with so many crashes is handed out."""
        # rule:7 of the suspects the one with the most crashes decides, in memory
        self._most = min(self._most, self._bound(crashes))
        self.given += 1

    def _bound(self, crashes: int) -> int:
        return self._by_crashes[min(crashes, len(self._by_crashes)) - 1]


class Waiting:
    """Owns the ready and the scheduled jobs of a queue, and the serials that give the order.

    Knows no lease: who takes the jobs, and what becomes of them then, is the queue's.
    """

    def __init__(self, pauses: Pauses) -> None:
        self._pauses = pauses
        self.left_ready = False
        """Whether the last choice has left ready jobs behind that another worker could take."""
        self._left_due = False
        self._serials = count(1)
        self._ready: tuple[ReadyList[StoredJob], ...] = tuple(ReadyList() for _ in Priority)
        self._scheduled: Timed[StoredJob] = Timed()

    # Jobs come and go

    def append(self, job: StoredJob, now: int) -> None:
        """Make a job ready, behind all others of its priority. It is no suspect."""
        job.serial = next(self._serials)
        job.ready_ms = now
        job.due_ms = None
        # A job comes here new or after a settlement: no worker has died with this attempt.
        job.crashes = 0
        self._ready[job.priority].append(job)

    def schedule(self, job: StoredJob, due_ms: int) -> None:
        """Let a job wait for its time."""
        job.due_ms = due_ms
        self._scheduled.put(job.id, due_ms, job)

    def give_back(self, job: StoredJob) -> None:
        """Put a job that was taken back into its old place."""
        self._ready[job.priority].give_back(job)

    def bring_back(self, function: str | None) -> None:
        """Put the jobs of a function that is resumed back into their old places."""
        if function is not None:
            for ready in self._ready:
                ready.bring_back(function)

    def remove(self, job: StoredJob) -> None:
        """Take out a job, wherever it waits."""
        if self._scheduled.pop(job.id) is None:
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

    def choose(self, demand: Demand, room: SuspectRoom) -> list[StoredJob]:
        """Take out the jobs to hand out; suspects without room keep their place."""
        chosen: list[StoredJob] = []
        size = 0
        # rule:18 a paused queue hands out nothing and signals nobody, in memory
        if self._pauses.is_whole:
            self.left_ready = False
            return chosen
        # The guarded share comes first, or low priorities would starve under load.
        guard = min(demand.guard, demand.slots)
        guarded = (self._ready[demand.guard_from], *self._ready[::-1])
        for limit, lists in ((guard, guarded), (demand.slots, self._ready)):
            for ready in lists:
                jobs = _in_turn(ready, room, self._pauses)
                # The generator comes last: what it has yielded is no longer in the list.
                while len(chosen) < limit and size < MAX_BYTES and (job := next(jobs, None)):
                    chosen.append(job)
                    size += len(job.envelope)
        is_full = len(chosen) == demand.slots or size >= MAX_BYTES
        self.left_ready = is_full and self._has_more(room)
        return chosen

    def _has_more(self, room: SuspectRoom) -> bool:
        """Whether another exchange with the same room would find something."""
        if self._left_due or any(ready.has_unsuspected() for ready in self._ready):
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
            for ready in self._ready:
                found += ready
        if State.SCHEDULED in states:
            found += (job for _, id in self._scheduled.times() if (job := self._scheduled.get(id)))
        return found

    def has_work(self, now: int) -> bool:
        """Whether jobs are ready or overdue."""
        # A worker that came would find nothing, and would come again with the next beat.
        if self._pauses.is_whole:
            return False
        return any(ready.has_next() for ready in self._ready) or self._is_overdue(now)

    def _is_overdue(self, now: int) -> bool:
        due_ms = self.next_due_ms
        return due_ms is not None and due_ms <= now

    @property
    def next_due_ms(self) -> int | None:
        """When the first scheduled job is due, None without one."""
        return self._scheduled.first_ms()

    @property
    def fewest_crashes(self) -> int:
        """The fewest crashes that a waiting suspect has been through; 0 when none waits for a
        worker."""
        if self._pauses.is_whole:
            return 0
        waiting = (crashes for ready in self._ready for crashes in ready.crashes() if crashes)
        return min(waiting, default=0)

    @property
    def oldest_ready_ms(self) -> int | None:
        """Since when the oldest ready job is ready, None without one."""
        oldest = (ready.oldest() for ready in self._ready)
        return min((job.ready_ms for job in oldest if job is not None), default=None)

    @property
    def ready(self) -> tuple[int, int, int, int]:
        """How many jobs are ready, by priority."""
        critical, high, normal, low = map(len, self._ready)
        return critical, high, normal, low

    @property
    def scheduled(self) -> int:
        """How many jobs wait for their time."""
        return len(self._scheduled)

    def ready_jobs(self, priority: int) -> Iterator[StoredJob]:
        """The ready jobs of one priority, in any order."""
        return iter(self._ready[priority])

    def scheduled_jobs(self) -> Iterator[StoredJob]:
        """The scheduled jobs, in any order."""
        return self._scheduled.values()

    def put_back(self, limit: int) -> list[bytes]:
        """Envelopes of jobs that were put back, among the next `limit` that are due."""
        soon = nsmallest(limit, self._scheduled.times())
        jobs = (self._scheduled.get(id) for _, id in soon)
        return [job.envelope for job in jobs if job and PUT_BACK_MARK in job.envelope]


def _in_turn(ready: ReadyList[StoredJob], room: SuspectRoom, pauses: Pauses) -> Iterator[StoredJob]:
    """Takes jobs of one priority: first those that were given back, fewest crashes first.

    So most suspects are done before the likely culprits run. Jobs of paused functions are set
    aside.
    """
    for crashes in ready.crashes():
        # rule:7 no more suspects than there is room for, in memory
        while (not crashes or room.left(crashes) > 0) and (job := ready.take_returned(crashes)):
            if name := pauses.paused_function(job.envelope):
                ready.set_aside(job, name)
                continue
            if crashes:
                room.give(crashes)
            yield job
    while (job := ready.take_new()) is not None:
        if name := pauses.paused_function(job.envelope):
            ready.set_aside(job, name)
        else:
            yield job
