"""A job: before it is stored, while it runs, and as the store knows it."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import NamedTuple

from asyncjobs.model.refs import JobRef
from asyncjobs.model.terms import Terms

__all__ = [
    "JobRecord",
    "NewJob",
    "Priority",
    "State",
    "TakenJob",
    "held_at",
    "held_behind",
    "held_by",
]


class State(StrEnum):
    """Where a job is: scheduled → ready → running → one of the final states.

    A running job that is retried becomes scheduled again. A held job waits for the end of the one
    that holds its unique key, of all jobs in front of it, or for room at a limit. The
    final states are succeeded, dead, discarded and cancelled.
    """

    HELD = "held"
    SCHEDULED = "scheduled"
    READY = "ready"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    DEAD = "dead"
    DISCARDED = "discarded"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether the job has finished and will not run again."""
        return self not in _LIVE


# Live states, not final ones, so that a new final state is only a row in ends.py.
_LIVE = frozenset({State.HELD, State.SCHEDULED, State.READY, State.RUNNING})


class Priority(IntEnum):
    """The priority of a job. The ready jobs of a queue are taken in this order, `CRITICAL` first.

    One slot in 20 takes less urgent jobs first, so that they are never starved under load.
    """

    CRITICAL = 0
    HIGH = 1
    NORMAL = 2
    LOW = 3


class NewJob(NamedTuple):
    """A job to store. It is ready at once, after `delay_ms`, or at `at_ms` (epoch).

    `has_new_id`: the id was made for this job. Then a store need not look for a finished job with
    the same id. If the batch is sent again, the store knows it by its token.
    """

    queue: str
    id: str
    priority: int
    envelope: bytes
    delay_ms: int = 0
    at_ms: int | None = None
    has_new_id: bool = False
    terms: Terms | None = None

    @property
    def is_plain(self) -> bool:
        """Whether it is ready at once, without terms, and has an id that was made for it."""
        return self.has_new_id and self.at_ms is None and self.delay_ms <= 0 and self.terms is None

    @property
    def ref(self) -> JobRef:
        return JobRef(self.queue, self.id)


class TakenJob(NamedTuple):
    """A job that an exchange has handed to a lease.

    Only the backend knows what `receipt` means: it names this one taking. `crashes` counts the
    workers that died while they ran the job, since it last became ready. `ready_ms` is when it
    became ready, by the store's clock. `holder` is the entry of the lease that has taken it.
    """

    queue: str
    id: str
    priority: int
    receipt: bytes
    envelope: bytes
    crashes: int
    ready_ms: int
    holder: str = ""

    @property
    def ref(self) -> JobRef:
        return JobRef(self.queue, self.id)


def held_by(ref: JobRef) -> str:
    """`JobRecord.held_by` of a job that waits for the end of this one."""
    return f"job {ref}"


def held_behind(barrier: str) -> str:
    """`JobRecord.held_by` of a job that waits for this barrier to fall."""
    return f"barrier {barrier}"


def held_at(limit: str, key: str) -> str:
    """`JobRecord.held_by` of a job that waits for room at this key of a limit."""
    # A limit without keys has an empty one.
    return f"limit {limit} {key}".rstrip()


class JobRecord(NamedTuple):
    """What the store knows of a job. What it does not know is None.

    `envelope` is there until the job has finished, `due_ms` while it is scheduled. `outcome` is
    there as long as the result is kept, `dead_letter` as long as that is kept. `holder` is the id
    of the lease that holds the running job, since `taken_ms` by the store's clock.
    `is_cancelled`: the job was asked to stop. `held_by` says for what a held job waits: "job" and
    the ref of the one that has to end before it, "barrier" and its id, or "limit", its name and
    key. Of a scheduled job it is there, too, when an event makes it ready before its time: "event",
    its name and key.
    """

    ref: JobRef
    state: State
    priority: int | None = None
    due_ms: int | None = None
    envelope: bytes | None = None
    outcome: bytes | None = None
    progress: bytes | None = None
    holder: str | None = None
    dead_letter: bytes | None = None
    taken_ms: int | None = None
    is_cancelled: bool = False
    held_by: str | None = None
