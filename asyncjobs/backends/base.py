"""The seam: what a store has to do for asyncjobs, and nothing of how.

Plain values in and out, batches everywhere. A backend never decides: what to take, how
to settle and when to retry is said by the floors above. Its clock rules; tests pin it
with the `now_ms` that every backend's constructor takes.

The promises that each method keeps are written once, as cases, in `tests/conformance/`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol, runtime_checkable

from asyncjobs.backends.answers import (
    CancelCall,
    CancelVerdict,
    Enqueued,
    Exchange,
    Heartbeat,
    Parked,
    Placed,
    QueueChanged,
    ReclaimDue,
    Reclaimed,
    Registered,
    Resync,
    Signal,
    StaleSequence,
)
from asyncjobs.backends.lease import Lease, LeaseSpec, Offer
from asyncjobs.backends.letters import LetterCalls
from asyncjobs.job import (
    Barrier,
    Demand,
    JobRecord,
    JobRef,
    NewJob,
    Note,
    Notes,
    Settlement,
    State,
    TakenJob,
)

__all__ = [
    "Backend",
    "CancelCall",
    "CancelVerdict",
    "Capabilities",
    "Clock",
    "Demand",
    "EnqueueBatch",
    "Enqueued",
    "Exchange",
    "Finding",
    "Heartbeat",
    "Inspector",
    "Lease",
    "LeaseSpec",
    "Leftover",
    "Offer",
    "Parked",
    "Placed",
    "QueueChanged",
    "QueueCounts",
    "QueueFlow",
    "ReclaimDue",
    "Reclaimed",
    "Registered",
    "Resync",
    "Signal",
    "StaleSequence",
    "StoreInfo",
    "StoreSettings",
    "Survey",
    "Verdict",
    "WorkerEntry",
]

Clock = Callable[[], int]
"""Milliseconds since the epoch; given to a backend it takes the place of the store's."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do. Tests skip by capability, never by backend name."""

    durable: bool
    """Jobs survive the process that enqueued them."""
    shared: bool
    """Several processes can use one store."""
    threaded_heartbeat: bool
    """`for_thread()` gives a twin for another event loop, so that a blocked loop keeps
    its lease."""
    unique: bool = False
    """Keeps `Terms.unique`: at most one job holds a key."""
    gates: bool = False
    """Keeps `Terms.gate`: limits by key, and turns."""
    flows: bool = False
    """Keeps barriers: jobs that wait for the ends of others."""
    notes: bool = False
    """Keeps named values of running jobs."""
    schedules: bool = False
    """Keeps rules that make jobs."""
    transactions: bool = False
    """Stores and settles within a transaction of the caller's own."""
    across_queues: bool = False
    """The effects of a settlement may be for other queues than its own."""
    lease_by_queue: bool = False
    """Each queue may be on a server of its own, so a lease is one for each."""


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """The settings of an app that its backend needs. Times in milliseconds."""

    prefix: str = "asyncjobs"
    connect_timeout_s: float = 5.0
    command_timeout_s: float = 10.0
    """How long one exchange with the store may take before its connection is given up."""
    id_ttl_ms: int = 600_000
    token_ttl_ms: int = 60_000
    dead_max_age_ms: int = 30 * 86_400_000
    dead_max_count: int = 100_000
    dead_max_bytes: int = 256 << 20
    wait_replicas: int = 0
    """Copies that have to confirm an enqueue before it returns."""


class StoreInfo(NamedTuple):
    """The server behind the backend, for banners and error texts; holds no secret."""

    name: str
    version: str
    address: str
    warnings: tuple[str, ...] = ()


class EnqueueBatch(NamedTuple):
    """Jobs to store in one go.

    The answer to a `token` is kept for `token_ttl_ms` (None: as long as the settings of the
    store say) and repeated, so sending a batch again after a lost reply never stores a job twice.
    """

    token: str
    jobs: Sequence[NewJob]
    barriers: Sequence[Barrier] = ()
    token_ttl_ms: int | None = None


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


class QueueFlow(NamedTuple):
    """What happened in one queue in the last minute, to within a few seconds' worth.

    Numbers of jobs, as floats: part of an older minute is counted in.
    """

    queue: str
    now_ms: int
    oldest_ready_ms: int | None
    """Since when the job is ready that is ready for longest; None without ready jobs."""
    enqueued: float
    """Dead jobs that were revived are counted too."""
    rescheduled: float
    """Attempts that were followed by a retry or a snooze."""
    ended: dict[State, float]
    next_due_ms: int | None = None
    """When the first scheduled job is due; in the past while nobody has promoted it."""


class WorkerEntry(NamedTuple):
    """A lease as it stands in one queue; over when `end_ms` is not after `now_ms`."""

    queue: str
    lease: str
    end_ms: int
    now_ms: int
    info: bytes
    """What the worker said of itself, as JSON; see `LeaseSpec`."""


class Survey(NamedTuple):
    """Some of all queues, for one of all who look through them.

    `is_turn`: False while somebody else looks; `is_last`: these were the last names, and
    the next look begins anew. A name may come twice in a round.
    """

    is_turn: bool
    is_last: bool
    queues: list[str]


class Leftover(NamedTuple):
    """Why a queue is not forgotten: what is left in it. When nothing is, it has been."""

    queue: str
    ready: int = 0
    running: int = 0
    scheduled: int = 0
    dead: int = 0
    workers: int = 0
    """Leases that have not ended."""
    indexed: int = 0
    """Jobs that the index knows; somebody else may have removed some by hand."""
    awaited: int = 0
    """1 when somebody waits for the result of a job."""
    wait_ms: int = 0
    """How long its past is needed yet: ids of jobs that have ended, or that it was used."""

    @property
    def is_forgotten(self) -> bool:
        return not any(self[1:])


class Verdict(StrEnum):
    """What a setting of a store means for its jobs."""

    OK = "ok"
    NOTE = "note"
    """Worth knowing, or it could not be read."""
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
    """Lines to give the store, or to follow; empty when nothing is to be done."""


class Backend(Protocol):
    """A store. Every method may raise StoreUnavailable; then nothing is known.

    A queue that fails by itself costs no other one: what a worker asks of several queues says
    in `away` which have not answered, an enqueue in `refused`. Where there is no such
    answer, a StoreError is raised when all others have been served.
    """

    @property
    def capabilities(self) -> Capabilities: ...

    @property
    def address(self) -> str:
        """Where the store is, without credentials."""
        ...

    async def open(self) -> StoreInfo:
        """Connect and check the store. Raises ConfigError for one that loses jobs,
        UnsupportedLayout for one of another release."""
        ...

    async def close(self) -> None: ...

    def for_thread(self) -> Backend:
        """A twin for another event loop, to be opened and closed there.

        Only with `capabilities.threaded_heartbeat`.
        """
        ...

    async def enqueue(self, batch: EnqueueBatch) -> Enqueued:
        """Store the jobs, each queue's by itself.

        An id is taken while its job lives and for `id_ttl_ms` after it has finished. What the
        store refuses is refused by queue, with StoreFull when it has no memory left. Raises
        MissingCapability, and stores nothing, for terms that this store cannot keep.
        """
        ...

    async def lease(self, spec: LeaseSpec) -> Lease:
        """Enter all queues of `spec`; those that have not answered are in `entered.away`."""
        ...

    def attach(self, spec: LeaseSpec) -> Lease:
        """A lease object over entries that stand in the store; enters nothing.

        For another thread: each beat attaches to the present `spec` on its own twin.
        """
        ...

    async def register(self, lease: LeaseSpec, queues: Sequence[str] | None = None) -> Registered:
        """Enter the lease into `queues` (None: all of its own)."""
        ...

    async def deregister(self, lease: LeaseSpec, crashed: Collection[TakenJob] = ()) -> None:
        """Leave: jobs still held are released and the entry goes.

        No crash is counted, but one for each of `crashed` that the lease still holds.
        """
        ...

    async def heartbeat(self, lease: LeaseSpec) -> Heartbeat:
        """Renew the entries that still exist, also ones that are over.

        The answer says where work is: an idle worker learns so what no call has told it.
        """
        ...

    async def exchange(
        self,
        lease: LeaseSpec,
        sequence: int,
        settlements: Sequence[Settlement],
        demand: Mapping[str, Demand],
    ) -> Exchange:
        """Settle finished jobs and take new ones, in one round trip.

        Covers the queues of `demand` and of `settlements`. For each: check the lease
        and that `sequence` is above the last applied, settle what this lease still
        owns, promote due jobs, take. Raises StaleSequence without any effect.

        A success stores its `effects` in the same step, and only if it counts: never when it is
        among `not_yours`, so what is sent again stores nothing twice. A job whose id is there
        is not stored again. Effects are never refused for memory: they are bounded, and a
        settlement must always be possible. Raises UsageError, before anything is sent, for effects
        of anything but a success, for another queue or over their bounds; MissingCapability for
        terms that this store cannot keep.
        """
        ...

    async def resync(
        self, lease: LeaseSpec, sequence: int, holding: Collection[TakenJob]
    ) -> Resync:
        """After an exchange whose reply was lost; no exchange may be in flight.

        `sequence` must be above every one used before; exchanges at or below it that
        arrive late have no effect any more. `holding`: the jobs the caller knows of,
        running or with a settlement not yet confirmed.
        """
        ...

    async def wait(self, lease: LeaseSpec, timeout_s: float) -> Collection[str]:
        """Park until there may be work, at most `timeout_s`; takes nothing.

        Returns the queues that called, if it was a call. A caller that was called must
        exchange on these queues, with demand or without: that passes the call on.
        """
        ...

    async def wait_and_take(
        self, lease: LeaseSpec, timeout_s: float, sequence: int, demand: Mapping[str, Demand]
    ) -> Parked:
        """`wait`, and behind it an exchange that settles nothing, sent in one trip: what
        calls is here without another one.

        `sequence` is of the same row as those of exchanges, and these do not make it stale:
        others may go on meanwhile, so the demand must leave them out. A resync does. No
        suspects are handed out, whatever the demand says. Jobs that were given back may be
        left as well, told of as `left_ready`, and due ones, told of as `next_due_ms`: the next
        exchange brings them. `next_lease_end_ms` may be left out. After an error the jobs may
        be taken: resync.
        """
        ...

    async def listen(self, lease: LeaseSpec, timeout_s: float) -> Collection[CancelCall]:
        """Park until somebody cancels a running job of these queues, at most `timeout_s`.

        What is cancelled between two calls is heard by the next one; before the first
        call has returned, and while the store cannot be reached, it may be missed: the
        marks that heartbeats and exchanges bring are what counts. Jobs of other workers
        may be among them.
        """
        ...

    async def reclaim(self, queues: Sequence[str], grace_ms: int, limit: int) -> Reclaimed:
        """Make the jobs of ended leases ready again, at most `limit` a queue.

        `grace_ms`: when no worker was heard of for longer than that, the store was
        down; then live workers get that long to renew before anything is taken.
        """
        ...

    async def prune(self, queues: Sequence[str], limit: int) -> int:
        """Drop what is over its age, count or bytes; returns how many dead letters went."""
        ...

    async def get(self, refs: Sequence[JobRef]) -> list[JobRecord | None]:
        """What is known of these jobs; None for an unknown id."""
        ...

    async def cancel(
        self, refs: Sequence[JobRef], outcome: bytes | None, result_ttl_ms: int
    ) -> list[CancelVerdict]:
        """Remove queued and scheduled jobs, ask for the end of running ones."""
        ...

    async def note(self, lease: LeaseSpec, notes: Sequence[Note]) -> list[bool]:
        """See `Lease.note`."""
        ...

    async def notes(self, lease: LeaseSpec, jobs: Sequence[TakenJob]) -> list[Notes | None]:
        """See `Lease.notes`."""
        ...

    async def wait_results(
        self, refs: Sequence[JobRef], timeout_s: float | None
    ) -> list[JobRecord | None]:
        """Return once at least one of these jobs is final, or after `timeout_s`.

        Answers like `get`; a final or unknown job among them is not waited for. Any
        number of callers at a time share one connection.
        """
        ...


@runtime_checkable
class Inspector(LetterCalls, Protocol):
    """What command line, dashboard and warnings ask of a store. Optional."""

    async def queues(self) -> list[str]:
        """Every queue that has had a job or a worker and was not forgotten since, sorted."""
        ...

    async def forget(self, queues: Sequence[str], idle_ms: int) -> list[Leftover]:
        """Drop what queues without jobs and workers have kept, and their names.

        One that is used again is there again. `idle_ms`: only if no worker was heard of for so
        long. Results that are kept stay readable for their time.
        """
        ...

    async def survey(self, asker: str, about: int, turn_ms: int) -> Survey:
        """The next names of queues, `about` so many, for one of all who ask: whoever has
        begun goes on, and another one takes over when it has not asked for `turn_ms`."""
        ...

    async def counts(self, queues: Sequence[str]) -> list[QueueCounts]: ...

    async def flow(self, queues: Sequence[str]) -> list[QueueFlow]: ...

    async def put_back(self, queues: Sequence[str], limit: int) -> list[list[bytes]]:
        """By queue: envelopes of jobs that were put back, since no worker that took them has
        their function. Only the next `limit` due ones are looked at; others may be among
        them, whose arguments look like it."""
        ...

    async def workers(self, queues: Sequence[str]) -> list[WorkerEntry]:
        """The leases in these queues, also ones that are over; at most 1,000 a queue."""
        ...

    async def diagnose(self) -> list[Finding]:
        """The store's settings that decide whether jobs are lost.

        Also for a store that `open` refuses.
        """
        ...
