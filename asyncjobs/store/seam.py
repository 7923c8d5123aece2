"""The seam: what a store has to do for asyncjobs, and nothing of how.

Plain values in and out, batches everywhere. A backend never decides: what to take, how
to settle and when to retry is said by the floors above. Its clock rules; tests pin it
with the `now_ms` that every backend's constructor takes.

A worker speaks to the store through its lease (`lease.py`). What one looks at is in
`inspect.py`, dead letters are in `letters.py`, the answers in `answers.py`.

The promises that each method keeps are written once, as cases, in `tests/conformance/`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from asyncjobs.model.job import JobRecord, NewJob
from asyncjobs.model.refs import JobRef
from asyncjobs.model.terms import Barrier
from asyncjobs.store.answers import CancelVerdict, Enqueued, Reclaimed
from asyncjobs.store.inspect import Inspection
from asyncjobs.store.lease import Lease, LeaseSpec
from asyncjobs.store.letters import DeadLetters

__all__ = [
    "Backend",
    "Capabilities",
    "Clock",
    "EnqueueBatch",
    "StoreInfo",
    "StoreSettings",
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


class Backend(Protocol):
    """A store. Every method may raise StoreUnavailable; then nothing is known.

    A queue that fails by itself costs no other one: what a worker asks of several queues says
    in `away` which have not answered, an enqueue in `refused`. Where there is no such
    answer, a StoreError is raised when all others have been served.
    """

    @property
    def capabilities(self) -> Capabilities: ...

    @property
    def inspect(self) -> Inspection:
        """What command line, dashboard and warnings ask."""
        ...

    @property
    def dead(self) -> DeadLetters:
        """Jobs that have died and are kept."""
        ...

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

    async def wait_results(
        self, refs: Sequence[JobRef], timeout_s: float | None
    ) -> list[JobRecord | None]:
        """Return once at least one of these jobs is final, or after `timeout_s`.

        Answers like `get`; a final or unknown job among them is not waited for. Any
        number of callers at a time share one connection.
        """
        ...
