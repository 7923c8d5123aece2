"""The gates of one queue in memory: jobs with limits or turns wait here until they are taken."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

from asyncjobs.model.job import Priority
from asyncjobs.model.terms import LimitKind, LimitUse, WhenFull
from asyncjobs.store.memory.lineup import Lane, Lineup
from asyncjobs.store.memory.news import News
from asyncjobs.store.memory.outside import Outside
from asyncjobs.store.memory.pauses import Pauses
from asyncjobs.store.memory.permits import LimitKey, LimitKeys
from asyncjobs.store.memory.stored import Gated, StoredJob
from asyncjobs.store.memory.suspects import SuspectRoom, in_turn

__all__ = ["Gates"]

Refuse: TypeAlias = Callable[[StoredJob, int], None]
"""Ends a job as cancelled that its gate has refused."""
Stop: TypeAlias = Callable[[StoredJob], None]
"""Asks the worker of a job to stop it."""


class Gates:
    """Lets jobs with a gate wait in their lanes, hands them out with all of their permits, and
    takes the permits back.

    `keys` are the limits of the queue, `lanes` says which lane is where, and `outside` has the
    permits of those who are no job.
    """

    refuse: Refuse
    stop: Stop

    def __init__(self, pauses: Pauses, news: News) -> None:
        self._pauses = pauses
        self._news = news
        self.keys = LimitKeys()
        self.lanes = Lineup(self.keys, news)
        self.outside = Outside(self.keys, self.lanes)

    # Jobs come and go

    def append(self, job: StoredJob, now: int) -> bool:
        """Put a job at the end of its lane; whether a worker may take it now."""
        gated = _gated(job)
        # It decides once: a job that has started, or was let in, is no new one.
        when_full = gated.when_full
        gated.when_full = "wait"
        if when_full != "wait" and not self._is_let_in(gated, when_full, now):
            # rule:35 a job that shall not wait is cancelled when there is no room, in memory
            self.refuse(job, now)
            return False
        lane = self.lanes.lane_of(gated.gate, now)
        lane.lists[job.priority].append(job)
        gated.lane = lane
        self.lanes.stand(lane, now)
        self.lanes.rise(lane, now)
        return lane.barred_at is None

    def give_back(self, job: StoredJob, now: int) -> None:
        """Put a job that was taken back into its old place, without its permits."""
        gated = _gated(job)
        lane = self.lanes.lane_of(gated.gate, now)
        # rule:35 a job that is given back goes to the head of its lane, in memory
        lane.lists[job.priority].give_back(job)
        gated.lane = lane
        # With the permits of the job the lane may come in line.
        self.end(job, now)
        self.lanes.stand(lane, now)
        self.lanes.rise(lane, now)

    def end(self, job: StoredJob, now: int) -> None:
        """Give back the permits of a job that does not run any more."""
        gated = _gated(job)
        permits = gated.permits
        # A job has each of them once, so nothing gives one back twice.
        gated.permits = ()
        for key in permits:
            # rule:35 each end, retry and release gives the permits back, in memory
            del key.holders[job.id]
            self.lanes.let_in(key, now, 1)
            self.keys.drop_idle(key)

    def remove(self, job: StoredJob, now: int) -> None:
        """Take out a job that waits."""
        gated = _gated(job)
        lane = gated.lane
        assert lane is not None
        lane.lists[job.priority].remove(job)
        gated.lane = None
        self.lanes.tidy(lane, now)

    def bring_back(self, function: str, now: int) -> None:
        """Put the jobs of a function that is resumed back into their old places."""
        for lane in self.lanes:
            for jobs in lane.lists:
                jobs.bring_back(function)
            self.lanes.stand(lane, now)
            self.lanes.rise(lane, now)

    def _is_let_in(self, gated: Gated, when_full: WhenFull, now: int) -> bool:
        """Whether a job that does not just wait comes into its lane. As many jobs as there are
        permits may run or wait under a key. The oldest may have to make room."""
        lane = self.lanes.lane_of(gated.gate, now)
        keys = list(lane.keys())
        has_room = True
        if when_full == "cancel_running":
            for key in keys:
                self._make_room(key, now)
        else:
            has_room = all(self._has_place(key) for key in keys)
        self.lanes.drop_idle(lane)
        return has_room

    def _has_place(self, key: LimitKey, asked: int = 0) -> bool:
        """Whether one more may run or wait under a key. `asked`: so many do not count, for they
        were asked to stop."""
        rule = self.keys.rule(key.name)
        if rule.kind is not LimitKind.CONCURRENCY:
            return True
        # A burst would pass before a worker is free.
        # rule:35 who waits takes up room for a job that does not, in memory
        return key.running - asked + sum(map(len, key.lanes)) < rule.number

    def _make_room(self, key: LimitKey, now: int) -> None:
        """Let the oldest job under a key make room for a newer one, if there is none: who has a
        permit longest is asked to stop, else who waits longest is cancelled."""
        staying = [job for job in key.holders.values() if not job.is_marked]
        if self._has_place(key, asked=len(key.holders) - len(staying)):
            return
        if staying:
            self.stop(staying[0])
            return
        waiting = (jobs.oldest() for lane in key.lanes for jobs in lane.lists)
        oldest = min((job for job in waiting if job), key=lambda job: job.serial, default=None)
        if oldest is not None:
            self.remove(oldest, now)
            # rule:35 of jobs that wait the newest ones stay, in memory
            self.refuse(oldest, now)

    def close(self, uses: Iterable[LimitUse], until_ms: int, now: int) -> None:
        """Let nobody pass the keys of these limits before a time."""
        self.lanes.declare(uses, now)
        for use in uses:
            key = self.keys.get((use.limit, use.key))
            # rule:35 a key that is closed for longer stays so, in memory
            key.closed_ms = max(key.closed_ms, until_ms)
            key.closed_since_ms = now
            self.lanes.look_again(key.lanes, now)

    def pull_back(self, from_ms: int, by_ms: int, now: int) -> None:
        """The clock has gone back."""
        self.outside.pull_back(from_ms, by_ms)
        self.lanes.pull_back(now)

    # Taking

    def open(self, now: int) -> None:
        """Follow the clock: keys open, and permits outside of jobs end."""
        self.outside.expire(now)
        self.lanes.open(now)

    def take(
        self, priority: Priority, room: SuspectRoom, most: int, size: int, now: int
    ) -> list[StoredJob]:
        """Take out up to `most` jobs of about `size` bytes, with all of their permits: from lanes
        that are as urgent, each in its turn. Suspects without room keep their place."""
        line = self.lanes.lines[priority]
        chosen: list[StoredJob] = []
        passed: list[Lane] = []
        lanes = self.lanes
        while len(chosen) < most and size > 0 and (lane := line.pop()) is not None:
            job = None
            if lanes.obstacle(lane, now) is None:
                job = self._next(lane, room)
                if job is None and lane.has_next():
                    # All of them are suspects, and there is no room for one.
                    passed.append(lane)
                    lanes.pass_on(lane, now)
                    continue
            if job is not None:
                self._grant(job, lane, now)
                chosen.append(job)
                size -= len(job.envelope)
            lanes.stand(lane, now)
            if not lane.is_in_line:
                # Others have room, perhaps, where it does not stand.
                lanes.pass_on(lane, now)
                lanes.drop_idle(lane)
        for lane in passed:
            line.put(lane)
        return chosen

    def _next(self, lane: Lane, room: SuspectRoom) -> StoredJob | None:
        for jobs in lane.lists:
            if (job := next(in_turn(jobs, room, self._pauses), None)) is not None:
                return job
        return None

    def _grant(self, job: StoredJob, lane: Lane, now: int) -> None:
        """Let the job pass all keys of its lane, and count its turn."""
        gated = _gated(job)
        gated.lane = None
        # rule:35 a job passes all of its limits together, in memory
        gated.permits = tuple(use.key for use in lane.uses if self.keys.take(use, now))
        for key in gated.permits:
            key.holders[job.id] = job
        self.lanes.serve(lane)

    # What stands here

    @property
    def next_ms(self) -> int | None:
        """When to look again: a key opens that lanes wait at, or permits outside of jobs end."""
        times = (self.lanes.next_open_ms, self.outside.next_end_ms)
        return min((ms for ms in times if ms is not None), default=None)

    @property
    def has_next(self) -> bool:
        """Whether a lane only needs a worker."""
        return any(self.lanes.lines)

    def has_more(self, room: SuspectRoom) -> bool:
        """Whether another exchange with the same room would find something."""
        if any(lane.has_unsuspected() for lane in self.lanes.in_line()):
            return True
        return any(room.left(crashes) > 0 for crashes in self.lanes.crashes())


def _gated(job: StoredJob) -> Gated:
    assert job.gated is not None
    return job.gated
