"""What a store answers, as plain values."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Literal, NamedTuple, TypeAlias

from asyncjobs.errors import StoreError
from asyncjobs.model.awaiting import Sent
from asyncjobs.model.job import TakenJob
from asyncjobs.model.refs import JobRef
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.control import Order

__all__ = [
    "CancelCall",
    "CancelVerdict",
    "Enqueued",
    "EventSent",
    "Exchange",
    "Heartbeat",
    "Parked",
    "Placed",
    "QueueChanged",
    "ReclaimDue",
    "Reclaimed",
    "Registered",
    "Relayed",
    "Resync",
    "Signal",
    "StaleSequence",
    "WorkerOrdered",
]

_NO_SUSPECTS: Final[Mapping[str, int]] = MappingProxyType({})


NONE_AWAY: Final[Mapping[str, StoreError]] = MappingProxyType({})
"""Every queue has answered."""


class Placed(NamedTuple):
    """The job that stands in the place of one that did not go its usual way.

    `how` is "there" when a job with this id or unique key existed and goes on unchanged. It is
    "replaced" when that job now has the new arguments and the new time. It is "held" for a new job
    that was stored, and waits until the holder of its unique key has ended. It is "cancelled" for
    one that has ended at once, for its gate had no room and asks for that (`Gate.when_full`).
    """

    ref: JobRef
    how: Literal["there", "replaced", "held", "cancelled"]

    @property
    def is_new(self) -> bool:
        """Whether the job itself was stored."""
        return self.how in ("held", "cancelled")


class EventSent(NamedTuple):
    """What became of an event in each queue, and the errors of the queues that have not answered.
    Of those it is not known whether they have it."""

    by_queue: Mapping[str, Sent]
    refused: Mapping[str, StoreError]


class Enqueued(NamedTuple):
    """The answer to a batch of new jobs.

    `places` is in the order of the jobs: None for a job that is stored and runs at its time, else
    what became of it. `refused` has the queues for which no job of this batch was stored, and why.
    The places of their jobs mean nothing. The jobs of all other queues are stored.
    """

    places: Sequence[Placed | None]
    refused: Mapping[str, StoreError] = NONE_AWAY


class Registered(NamedTuple):
    """The answer to a lease that enters its queues. `away` has those that it has not entered."""

    now_ms: int
    away: Mapping[str, StoreError] = NONE_AWAY


class Exchange(NamedTuple):
    """The answer to an exchange.

    Times are the store's, in milliseconds. When every queue is away there are none, and
    `now_ms` is 0.
    """

    jobs: list[TakenJob]
    not_yours: list[Settlement]
    """Settlements that had no effect: this lease does not hold their jobs any more."""
    lost: tuple[str, ...]
    """Queues in which the lease is gone. Nothing was settled or taken there."""
    cancels: list[JobRef]
    """Jobs of this lease that somebody wants to stop."""
    left_ready: frozenset[str]
    """Queues that still hold ready jobs."""
    next_due_ms: dict[str, int | None]
    """When the first scheduled job of each queue is due, or a limit opens that jobs wait at."""
    next_lease_end_ms: int | None
    """The earliest end of another worker's lease in these queues: a reclaim may be due then."""
    now_ms: int
    promoted: tuple[tuple[str, int], ...] = ()
    """Queues in which due jobs were made ready, and how many."""
    cancelled: Sequence[Settlement] = ()
    """Settlements that asked for a later attempt of a job that somebody wanted to stop. Such a
    job is cancelled instead."""
    suspects: Mapping[str, int] = _NO_SUSPECTS
    """Queues in which suspects wait, and the fewest crashes that one of them has been through."""
    away: Mapping[str, StoreError] = NONE_AWAY
    """Queues that have not answered, and why. Nothing is known of them: settlements may count or
    not, and the lease may hold jobs that nobody has told its worker of."""

    paused: frozenset[str] = frozenset()
    """Queues that hand out nothing, for somebody has paused them. They are not in `left_ready`,
    whatever they hold, and no suspects of them are named."""
    relay: frozenset[str] = frozenset()
    """Queues whose outbox holds something for other queues: see `Backend.relay`."""
    full: Sequence[Settlement] = ()
    """Settlements that had no effect, for the store has no room for the jobs that they cause. The
    lease still holds their jobs: send them again later."""

    @property
    def has_news(self) -> bool:
        """Whether there is more than jobs, and times at which to come back."""
        news = self.not_yours or self.cancels or self.lost or self.promoted or self.cancelled
        return bool(news or self.relay)


class Parked(NamedTuple):
    """The answer to `Lease.park`.

    `signalled` has the queues that signalled work, if any did. `exchange` is the answer to the
    offer; None without one, and when the store has refused it. It is refused after a resync.
    A caller that has not resynced must do so now: a copy of the offer has taken effect.
    """

    signalled: Collection[str]
    exchange: Exchange | None


class Heartbeat(NamedTuple):
    """The answer to a heartbeat.

    `lost` has the queues in which the lease is gone, and `away` those in which nothing was
    renewed. `ready` has the queues with ready or overdue jobs, whether or not they have
    signalled that. `next_lease_end_ms` is when a reclaim is due: at the earliest end of another
    worker's lease, or now while jobs of an ended one wait to be given back; None when there is
    neither.
    """

    lost: tuple[str, ...]
    cancels: list[JobRef]
    next_lease_end_ms: int | None
    now_ms: int
    ready: tuple[str, ...]
    away: Mapping[str, StoreError] = NONE_AWAY
    orders: Sequence[Order] = ()
    """What operators have ordered, whether or not the worker has followed it already."""


class Resync(NamedTuple):
    """What the store says after a lost reply.

    `applied` is the last exchange that took effect in each queue. `missing` are the jobs that
    this lease holds in the store and that the caller did not name. Nothing is known of queues
    that are `away`.
    """

    applied: dict[str, int]
    missing: list[TakenJob]
    lost: tuple[str, ...]
    away: Mapping[str, StoreError] = NONE_AWAY


class Reclaimed(NamedTuple):
    """The answer to a reclaim.

    `returned` is how many jobs are ready again, and `leases` how many leases have ended.
    `again_ms` says when to come back: 0 is at once, None is when nobody holds a lease. `away`
    has the queues that were not looked into.
    """

    returned: int
    leases: int
    again_ms: int | None
    now_ms: int
    away: Mapping[str, StoreError] = NONE_AWAY


class Relayed(NamedTuple):
    """The answer to a relay.

    `moved` is how many entries of outboxes have come to their queues. `left` are the outboxes that
    hold more, and those of queues that have noted something for others by it. `away` has the queues
    that have not answered: outboxes, and targets that keep them.
    """

    moved: int
    left: frozenset[str] = frozenset()
    away: Mapping[str, StoreError] = NONE_AWAY


class CancelVerdict(StrEnum):
    """What became of a cancel."""

    CANCELLED = "cancelled"
    REQUESTED = "requested"
    """The job is running: its worker has been asked to stop it."""
    FINISHED = "finished"
    UNKNOWN = "unknown"


class CancelCall(NamedTuple):
    """Somebody wants this running job to stop. `holder` is the entry of the lease that holds
    it."""

    holder: str
    ref: JobRef


class ReclaimDue(NamedTuple):
    """A lease in this queue has ended, or its worker is known to be dead: reclaim now."""

    queue: str


class QueueChanged(NamedTuple):
    """What an exchange may take from this queue has changed: ask it again. Nothing sends it
    yet, and workers ignore it."""

    queue: str


class WorkerOrdered(NamedTuple):
    """Somebody has given an order to the worker with this entry. Its next heartbeat brings it."""

    queue: str
    lease: str


Signal: TypeAlias = CancelCall | ReclaimDue | QueueChanged | WorkerOrdered
"""What `Lease.listen` answers. A listener ignores the signals that it has no use for."""


class StaleSequence(Exception):
    """An exchange whose number is not above the last one. It had no effect: resync."""
