"""What a worker holds and does not run: jobs that have not been started, and settlements that
the store has not confirmed. Pure."""

from __future__ import annotations

from collections.abc import Collection

from asyncjobs.model.job import JobRef, Settlement, TakenJob
from asyncjobs.worker.engine.doubt import InDoubt
from asyncjobs.worker.engine.unsettled import Unsettled

__all__ = ["Holdings"]


class Holdings:
    """Owns them. Each job that has come is in one place: here, or among the running attempts."""

    __slots__ = ("doubt", "is_releasing", "lost", "taken", "unsettled", "unstarted", "unwanted")

    def __init__(self) -> None:
        self.unstarted: list[TakenJob] = []
        self.unsettled = Unsettled()
        """Settlements that wait for the next trade."""
        self.doubt = InDoubt()
        """Settlements that were sent, and may count or not."""
        self.lost: set[str] = set()
        """Queues in which the lease is not entered: it was lost there, or never was."""
        self.unwanted: set[JobRef] = set()
        """Jobs that were cancelled and may still be on their way here."""
        self.is_releasing = False
        """True when nothing is started any more, and what comes goes back."""
        self.taken = 0
        """How many jobs have come to this worker."""

    def take_unstarted(self) -> list[TakenJob]:
        """The jobs that were not started, out of here: for whoever starts them now."""
        jobs, self.unstarted = self.unstarted, []
        return jobs

    def give_back(self, jobs: Collection[TakenJob]) -> list[TakenJob]:
        """Settle these jobs as given back. Returns those that were still ours."""
        ours = [job for job in jobs if job.queue not in self.lost]
        self.unsettled.put_back([Settlement.release(job) for job in ours])
        return ours

    def lose(self, queues: Collection[str]) -> Collection[str]:
        """Jobs of lost queues belong to other workers: start none, and settle none. Returns the
        queues that are newly lost.

        Called with each reply while any queue is lost: one that was on its way when a heartbeat
        told of the loss may still bring such jobs.
        """
        new = {*queues} - self.lost
        self.lost |= new
        if self.lost:
            self.unsettled.drop(self.lost)
            self.doubt.drop(self.lost)
            self.unstarted = [job for job in self.unstarted if job.queue not in self.lost]
        return new

    def drop_unwanted(self, refs: Collection[JobRef], *, more_may_come: bool) -> list[TakenJob]:
        """These were cancelled. Returns those that were not started, out of here, to be settled.

        `more_may_come`: whether a reply is on its way that may bring some of them.
        """
        unwanted = self.unwanted
        unwanted.update(refs)
        if not unwanted:
            return []
        dropped = [job for job in self.unstarted if job.ref in unwanted]
        if dropped:
            self.unstarted = [job for job in self.unstarted if job.ref not in unwanted]
        if not more_may_come:
            unwanted.clear()
        return dropped

    def is_empty(self) -> bool:
        return not (self.unstarted or self.unsettled or self.doubt.holds_settlements())

    def jobs(self) -> list[TakenJob]:
        """All of them: the store need not tell of these again."""
        return [*self.unsettled.jobs(), *self.unstarted, *self.doubt.jobs()]

    def ended_jobs(self) -> list[TakenJob]:
        """Those that have run here and are not known to be settled."""
        return [*self.unsettled.jobs(), *self.doubt.sent_jobs()]
