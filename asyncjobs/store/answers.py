"""What a store answers a worker, and what a cancel comes to: plain values."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Literal, NamedTuple, TypeAlias

from asyncjobs.errors import StoreError
from asyncjobs.model.job import TakenJob
from asyncjobs.model.refs import JobRef
from asyncjobs.model.settlement import Settlement

__all__ = [
    "CancelCall",
    "CancelVerdict",
    "Enqueued",
    "Exchange",
    "Heartbeat",
    "Parked",
    "Placed",
    "QueueChanged",
    "ReclaimDue",
    "Reclaimed",
    "Registered",
    "Resync",
    "Signal",
    "StaleSequence",
]

_NO_SUSPECTS: Final[Mapping[str, int]] = MappingProxyType({})


NONE_AWAY: Final[Mapping[str, StoreError]] = MappingProxyType({})
"""Every queue has answered."""


class Placed(NamedTuple):
    """The job that stands in the place of one that was not stored as new.

    `how`: it was "there" before, by its id or its unique key, and goes on unchanged; or it was
    "replaced", and runs with the new arguments at the new time.
    """

    ref: JobRef
    how: Literal["there", "replaced"]


class Enqueued(NamedTuple):
    """The answer to a batch of new jobs.

    `places`, in the order of the jobs: None for one that is stored now, else the job in its
    place. `refused`: queues of which the store has taken no job of this batch, and why; their
    places say nothing. The others have theirs.
    """

    places: Sequence[Placed | None]
    refused: Mapping[str, StoreError] = NONE_AWAY


class Registered(NamedTuple):
    """The answer to a lease that enters its queues. `away`: those that it has not entered."""

    now_ms: int
    away: Mapping[str, StoreError] = NONE_AWAY


class Exchange(NamedTuple):
    """The answer to an exchange. Times are the store's, in milliseconds; all are missing, and
    `now_ms` is 0, when every queue is away."""

    jobs: list[TakenJob]
    not_yours: list[Settlement]
    """Settlements that had no effect: another worker owns these jobs, or nobody."""
    lost: tuple[str, ...]
    """Queues in which the lease is gone: nothing was settled or taken there."""
    cancels: list[JobRef]
    """Jobs of this lease that somebody wants to stop."""
    left_ready: frozenset[str]
    """Queues that still hold ready jobs."""
    next_due_ms: dict[str, int | None]
    """For each queue asked: when its earliest scheduled job is due."""
    next_lease_end_ms: int | None
    """The earliest end of another worker's lease in the queues asked."""
    now_ms: int
    promoted: tuple[tuple[str, int], ...] = ()
    """Queues in which jobs became due and were made ready, and how many."""
    cancelled: Sequence[Settlement] = ()
    """Settlements for a later attempt, of jobs that somebody wanted to stop: there is none, and
    these jobs are cancelled."""
    suspects: Mapping[str, int] = _NO_SUSPECTS
    """Queues in which suspects wait, and the fewest crashes that one of them has been through."""

    away: Mapping[str, StoreError] = NONE_AWAY
    """Queues that have not answered, and why. Nothing is known of them: what was settled there
    may count or not, and jobs of theirs may be held."""

    @property
    def has_news(self) -> bool:
        """Whether it says more than what was taken, and when to come back."""
        told = self.not_yours or self.cancels or self.lost or self.promoted or self.cancelled
        return bool(told)


class Parked(NamedTuple):
    """The answer to a wait with an exchange behind it.

    `signalled`: the queues that signalled work, if any did; `exchange`: None when the store has
    refused it, as it does after a resync. To a caller that has not resynced it means that
    a copy of it has taken effect: then it is time to.
    """

    signalled: Collection[str]
    exchange: Exchange | None


class Heartbeat(NamedTuple):
    """The answer to a heartbeat.

    `ready`: queues of the lease that hold jobs which are ready or overdue, whether or not
    anybody was signalled for them. `next_lease_end_ms`: when a reclaim is due, that is the
    earliest end of another worker's lease, or now while jobs of an ended one wait to be
    given back; None when there is neither. `away`: queues in which nothing is renewed.
    """

    lost: tuple[str, ...]
    cancels: list[JobRef]
    next_lease_end_ms: int | None
    now_ms: int
    ready: tuple[str, ...]
    away: Mapping[str, StoreError] = NONE_AWAY


class Resync(NamedTuple):
    """What the store says after a lost reply.

    `applied`: for each queue the last exchange that took effect; `missing`: jobs that
    this lease holds in the store and the caller did not name. Of queues that are `away`
    nothing is said.
    """

    applied: dict[str, int]
    missing: list[TakenJob]
    lost: tuple[str, ...]
    away: Mapping[str, StoreError] = NONE_AWAY


class Reclaimed(NamedTuple):
    """The answer to a reclaim.

    `returned` jobs are ready again; `leases` that ended; `again_ms`: when to come back
    (0 = at once, None = nobody else holds a lease). `away`: queues that were not looked into.
    """

    returned: int
    leases: int
    again_ms: int | None
    now_ms: int
    away: Mapping[str, StoreError] = NONE_AWAY


class CancelVerdict(StrEnum):
    """What a cancel came to."""

    CANCELLED = "cancelled"
    REQUESTED = "requested"
    """The job is running: its worker has been asked to stop it."""
    FINISHED = "finished"
    UNKNOWN = "unknown"


class CancelCall(NamedTuple):
    """Somebody wants this running job to stop; `holder` is the entry of the lease it runs
    under."""

    holder: str
    ref: JobRef


class ReclaimDue(NamedTuple):
    """A lease in this queue has ended, or its worker is known to be dead: reclaim now."""

    queue: str


class QueueChanged(NamedTuple):
    """What an exchange may take from this queue has changed: ask it again."""

    queue: str


Signal: TypeAlias = CancelCall | ReclaimDue | QueueChanged
"""What `Lease.listen` answers. Who knows no use for one of them passes over it."""


class StaleSequence(Exception):
    """An exchange at or below the last one applied: it had no effect. Resync."""
