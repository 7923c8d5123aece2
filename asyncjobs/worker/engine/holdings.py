"""What a worker holds and does not run: jobs that were not started, and settlements that the store
has not confirmed. Does no I/O."""

from __future__ import annotations

from collections.abc import Collection

from asyncjobs.model.job import TakenJob
from asyncjobs.model.refs import JobRef
from asyncjobs.model.settlement import Settlement
from asyncjobs.worker.engine.doubt import InDoubt
from asyncjobs.worker.engine.stuck import Stuck
from asyncjobs.worker.engine.unsettled import Unsettled

__all__ = ["Holdings"]


class Holdings:
    """Owns the jobs that have come and do not run, and the settlements that may not count yet.

    Each job of a worker is in one place: here before its attempt and after it, and in `Running`
    during it.
    """

    __slots__ = (
        "arrived",
        "doubt",
        "is_releasing",
        "lost",
        "stuck",
        "taken",
        "unsettled",
        "unwanted",
    )

    def __init__(self) -> None:
        self.arrived: list[TakenJob] = []
        """Jobs that have come and are about to start."""
        self.unsettled = Unsettled()
        """Settlements that wait for the next trade."""
        self.doubt = InDoubt()
        """Settlements that were sent. Nobody knows yet whether they count."""
        self.stuck = Stuck()
        """Settlements that a fault keeps from being sent. They are tried again."""
        self.lost: set[str] = set()
        """Queues in which the lease is not entered: it was lost there, or never was."""
        self.unwanted: set[JobRef] = set()
        """Jobs that were cancelled and may still be on their way here."""
        self.is_releasing = False
        """True when nothing is started any more. Jobs that still come are given back."""
        self.taken = 0
        """How many jobs have come to this worker."""

    def take_arrived(self) -> list[TakenJob]:
        """Hand over the jobs that were not started, to be started now."""
        jobs = self.arrived
        self.arrived = []
        return jobs

    def give_back(self, jobs: Collection[TakenJob]) -> list[TakenJob]:
        """Settle these jobs as released. Returns those that were still ours."""
        ours = [job for job in jobs if job.queue not in self.lost]
        self.unsettled.put_back([Settlement.release(job) for job in ours])
        return ours

    def lose(self, queues: Collection[str]) -> Collection[str]:
        """Start and settle no jobs of lost queues: they belong to other workers. Returns the
        queues that are newly lost.

        Call it with each reply while any queue is lost. A reply may have left the store before
        the loss, and then still brings such jobs.
        """
        new = {*queues} - self.lost
        self.lost |= new
        if self.lost:
            self.unsettled.drop(self.lost)
            self.doubt.drop(self.lost)
            self.arrived = [job for job in self.arrived if job.queue not in self.lost]
            self.stuck.drop(self.lost)
        return new

    def drop_unwanted(self, refs: Collection[JobRef], *, more_may_come: bool) -> list[TakenJob]:
        """These jobs were cancelled. Hands over those that were not started, to be settled.

        `more_may_come`: whether a reply may be on its way that brings some of them.
        """
        unwanted = self.unwanted
        unwanted.update(refs)
        if not unwanted:
            return []
        dropped = [job for job in self.arrived if job.ref in unwanted]
        if dropped:
            self.arrived = [job for job in self.arrived if job.ref not in unwanted]
        if not more_may_come:
            # None of them can come any more, and a long life sees many cancels.
            unwanted.clear()
        return dropped

    def is_empty(self) -> bool:
        return not (self.arrived or self.unsettled or self.doubt.holds_settlements())

    def jobs(self) -> list[TakenJob]:
        """All jobs here. The store need not name them in a resync."""
        return [*self.unsettled.jobs(), *self.arrived, *self.doubt.jobs(), *self.stuck.jobs()]

    def ended_jobs(self) -> list[TakenJob]:
        """Those that have run here and are not known to be settled."""
        return [*self.unsettled.jobs(), *self.doubt.sent_jobs()]
