"""What a simulated job has gone through: each time that it was in a worker's hands."""

from __future__ import annotations

from asyncjobs.model.envelope import Envelope, name_in
from asyncjobs.model.job import NewJob, State, TakenJob
from asyncjobs.model.refs import JobRef
from tests.simulation.loop import Process

__all__ = ["JobStory", "Taking", "crashes_after"]


class Taking:
    """A job in the hands of one worker, once: from the exchange to the settlement."""

    __slots__ = (
        "attempt",
        "crashes",
        "ended_s",
        "entry",
        "heard_s",
        "how",
        "lapsed",
        "process",
        "receipt",
        "settled",
        "started_s",
        "taken_s",
    )

    def __init__(
        self, process: Process, entry: tuple[str, str], job: TakenJob, now_s: float
    ) -> None:
        self.process = process
        self.entry = entry
        self.receipt = job.receipt
        self.attempt = Envelope.decode(job.envelope).attempt
        self.crashes = job.crashes
        self.taken_s = now_s
        self.heard_s = now_s
        """Until when its worker cannot know that it has the job, though nothing ails it."""
        self.started_s: float | None = None
        self.ended_s: float | None = None
        self.how = ""
        self.settled: str | None = None
        self.lapsed = False
        """True when the lease ended before the job was settled."""


class JobStory:
    """One job: what is expected of it, and its takings in their order."""

    __slots__ = (
        "asked_s",
        "attempts",
        "budget",
        "expected",
        "finals",
        "function",
        "gate",
        "holder",
        "is_accepted",
        "is_cancelled",
        "is_free_at_start",
        "is_stored",
        "key",
        "priority",
        "ref",
        "stands_for",
        "takings",
        "turn",
    )

    def __init__(self, job: NewJob, expected: State, budget: int) -> None:
        unique = None if job.terms is None else job.terms.unique
        self.ref = job.ref
        self.function = name_in(job.envelope)
        self.priority = job.priority
        self.key = b"" if unique is None else unique.key
        self.is_free_at_start = unique is not None and unique.until == "started"
        self.gate = None if job.terms is None else job.terms.gate
        self.is_stored = False
        self.stands_for: JobRef | None = None
        """The job that has its key, when it was not stored for that reason."""
        self.turn = 0
        """Its place among the jobs that were ready at once; 0 when that is not known."""
        self.expected = expected
        self.budget = budget
        self.takings: list[Taking] = []
        self.holder: Taking | None = None
        self.attempts = 1
        self.finals = 0
        self.is_accepted = False
        """True once an enqueue of it has returned."""
        self.is_cancelled = False
        """True once somebody wants to cancel it: it may end so, or as expected."""
        self.asked_s: float | None = None
        """When the store took note that this job, which was running, shall stop."""


def crashes_after(before: Taking | None) -> tuple[int, ...]:
    """How many workers can have died with a job since it became ready."""
    if before is None or before.settled in ("retry", "snooze"):
        return (0,)
    if before.settled == "release":
        return (before.crashes,)
    if before.settled == "release or lapse" or (not before.settled and before.process.was_told):
        return before.crashes, before.crashes + 1
    return (before.crashes + 1,)
