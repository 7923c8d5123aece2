"""What command line, dashboard and warnings ask of a store: `store.inspect`.

There is one small protocol for each subject, and a store has all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

from asyncjobs.model.job import State
from asyncjobs.model.notes import Notes
from asyncjobs.model.refs import JobRef
from asyncjobs.store.changes import JobChanges
from asyncjobs.store.history import History
from asyncjobs.store.listing import JobListing
from asyncjobs.store.locks import UniqueKeys

__all__ = [
    "Finding",
    "Inspection",
    "JobInspection",
    "Leftover",
    "QueueCounts",
    "QueueFlow",
    "QueueInspection",
    "Survey",
    "Verdict",
    "WorkerEntry",
]


class QueueCounts(NamedTuple):
    """One queue at one moment."""

    queue: str
    ready: tuple[int, int, int, int]
    """By priority, most urgent first."""
    running: int
    scheduled: int
    dead: int
    workers: int
    """Leases that have not ended."""
    held: int = 0


class QueueFlow(NamedTuple):
    """What happened in one queue in the last minute, in numbers of jobs.

    A store counts by the minute. So these are estimates: they take their share of the minute
    before, and are floats.
    """

    queue: str
    now_ms: int
    oldest_ready_ms: int | None
    """When the oldest ready job became ready; None without one."""
    enqueued: float
    """New jobs, and dead ones that were revived."""
    rescheduled: float
    """Attempts that were followed by a retry or a snooze."""
    ended: dict[State, float]
    next_due_ms: int | None = None
    """When the first scheduled job is due. In the past until somebody promotes it."""
    outbox: int = 0
    """Entries for other queues that have not come there, or came there only now."""
    oldest_outbox_ms: int | None = None
    """When the oldest of those that have not come there was written; None without one."""


class WorkerEntry(NamedTuple):
    """A lease as it stands in one queue. It is over when `end_ms` is not after `now_ms`."""

    queue: str
    lease: str
    end_ms: int
    now_ms: int
    info: bytes
    """What the worker has said about itself, as JSON; see `LeaseSpec`."""
    running: int = 0
    """How many jobs of this queue it holds."""
    leaves: bool = False
    """It was told to end, and has said so."""
    ordered: str = ""
    """The state that an operator has ordered last, '' without an order."""


class Survey(NamedTuple):
    """Some names of queues. Of all workers that ask, one looks through the queues for all.

    `is_turn` is False while another worker looks. `is_last` is True when these were the last
    names, and the next look begins at the first one. A name may come twice in a round.
    """

    is_turn: bool
    is_last: bool
    queues: list[str]


class Leftover(NamedTuple):
    """What is left in a queue, and keeps it from being forgotten. Without any it is forgotten."""

    queue: str
    ready: int = 0
    running: int = 0
    scheduled: int = 0
    dead: int = 0
    workers: int = 0
    """Leases that have not ended."""
    indexed: int = 0
    """Jobs that the store's index names. More than there are if somebody has removed some by
    hand."""
    awaited: int = 0
    """1 when somebody waits for the result of a job."""
    wait_ms: int = 0
    """How long its past is still needed: ids of jobs that have ended, or when it was used."""
    paused: int = 0
    """1 when the queue is paused, and one more for each job function that is."""
    schedules: int = 0
    """Schedules that feed it."""
    flows: int = 0
    """Flows that are kept in it: its home is this queue."""
    barriers: int = 0
    """Barriers that have not fallen."""
    outbox: int = 0
    """Entries for other queues that have not come there, or came there only now."""

    @property
    def is_forgotten(self) -> bool:
        return not any(self[1:])


class Verdict(StrEnum):
    """What a setting of a store means for its jobs."""

    OK = "ok"
    NOTE = "note"
    """It is worth knowing, or it could not be read."""
    WARNING = "warning"
    """Something suffers, but no job is lost."""
    PROBLEM = "problem"
    """Jobs are or will be lost."""


class Finding(NamedTuple):
    """One setting of a store: what it is, and what to change."""

    setting: str
    verdict: Verdict
    found: str
    change: tuple[str, ...] = ()
    """Lines to give to the store, or advice to follow. Empty when nothing is to be done."""


class QueueInspection(Protocol):
    """Questions about queues, and forgetting them."""

    async def names(self) -> list[str]:
        """Every queue that has had a job or a worker, and was not forgotten since; sorted."""
        ...

    async def forget(self, queues: Sequence[str], idle_ms: int) -> list[Leftover]:
        """Drop queues without jobs and workers: their names and what they have kept.

        A queue is dropped only if no worker was heard of for `idle_ms`. When it is used again
        it is there again. Results stay readable for their time.
        """
        ...

    async def survey(self, asker: str, about: int, turn_ms: int) -> Survey:
        """The next names of queues, `about` so many.

        Only one of all askers gets names: the one that has begun. Another one takes over when
        the first has not asked for `turn_ms`.
        """
        ...

    async def counts(self, queues: Sequence[str]) -> list[QueueCounts]:
        """How many jobs there are in each state."""
        ...

    async def flow(self, queues: Sequence[str]) -> list[QueueFlow]:
        """What happened in the last minute."""
        ...

    async def put_back(self, queues: Sequence[str], limit: int) -> list[list[bytes]]:
        """For each queue, envelopes of jobs that workers put back because they do not have their
        function.

        Only the `limit` scheduled jobs that are due next are looked at. A job whose arguments
        contain the same mark may be among them.
        """
        ...


class JobInspection(JobListing, JobChanges, Protocol):
    """Questions about many jobs, and actions on those that have not started."""


class Inspection(Protocol):
    """Looks at a store. It changes what an operator asks for, and nothing else."""

    @property
    def queues(self) -> QueueInspection: ...

    @property
    def history(self) -> History: ...

    @property
    def jobs(self) -> JobInspection: ...

    @property
    def unique(self) -> UniqueKeys: ...

    async def workers(self, queues: Sequence[str]) -> list[WorkerEntry]:
        """The leases in these queues, also those that are over; at most 1,000 in each."""
        ...

    async def notes(self, ref: JobRef, *, is_dead: bool) -> Notes:
        """The notes of a job that has not ended, or of a dead one; empty without any.

        Unlike `Lease.notes` it asks nobody whether the job is its own.
        """
        ...

    async def diagnose(self) -> list[Finding]:
        """The settings of the store that decide whether jobs are lost.

        Works also for a store that `open` refuses.
        """
        ...
