"""The seam: what a store has to do for asyncjobs, and nothing of how.

Plain values go in and out, always in batches. A backend never decides: the floors above say
what to take, how to settle and when to retry. The store's clock is the only one that counts.
Tests pin it with the `now_ms` that every backend's constructor takes.

A worker speaks to the store through its lease (`lease.py`). What people look at is in
`inspect.py`, what they do to queues and workers in `control.py`, dead letters are in `letters.py`,
schedules in `schedules.py`, limits in `limits.py`, flows in `flows.py`, and the answers are in
`answers.py`.

The promises of each method are written once, as cases, in `asyncjobs/testing/conformance/`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from asyncjobs.model.awaiting import NewEvent
from asyncjobs.model.figures import Figures
from asyncjobs.model.job import JobRecord, NewJob
from asyncjobs.model.refs import JobRef
from asyncjobs.model.terms import Barrier
from asyncjobs.store.answers import (
    CancelVerdict,
    Enqueued,
    EventSent,
    Reclaimed,
    Relayed,
)
from asyncjobs.store.control import Control
from asyncjobs.store.flows import Flows
from asyncjobs.store.inspect import Inspection
from asyncjobs.store.lease import Lease, LeaseSpec
from asyncjobs.store.letters import DeadLetters
from asyncjobs.store.limits import Limits
from asyncjobs.store.schedules import Schedules

__all__ = [
    "Backend",
    "Capabilities",
    "Clock",
    "EnqueueBatch",
    "StoreInfo",
    "StoreSettings",
]

Clock = Callable[[], int]
"""Milliseconds since the epoch. A backend that is given one uses it in place of the store's."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do. Tests skip by capability, never by backend name."""

    durable: bool
    """Jobs survive the process that enqueued them."""
    shared: bool
    """Several processes can use one store."""
    threaded_heartbeat: bool
    """`for_thread()` makes a twin for another event loop. So a worker whose loop is blocked
    still renews its lease."""
    unique: bool = False
    """Keeps `Terms.unique`: at most one job holds a key."""
    gates: bool = False
    """Keeps `Terms.gate`: limits by key, and turns between keys."""
    flows: bool = False
    """Keeps barriers: jobs that wait for the ends of others."""
    notes: bool = False
    """Keeps named values of running jobs."""
    events: bool = False
    """Lets jobs wait for events, and sends these: `Lease.await_events`, `Backend.send_event`."""
    schedules: bool = False
    """Keeps rules that make jobs at set times."""
    transactions: bool = False
    """Enqueues and settles within a transaction of the caller."""
    across_queues: bool = False
    """The effects of a settlement may be for another queue than that of its job."""
    control: bool = False
    """Pauses and empties queues, and gives orders to workers: `Backend.control`."""
    lease_by_queue: bool = False
    """Each queue may be on a server of its own, so a worker has one lease for each queue."""


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """The settings of an app that its backend needs. Times are in milliseconds."""

    prefix: str = "asyncjobs"
    connect_timeout_s: float = 5.0
    command_timeout_s: float = 10.0
    """How long one round trip may take. After that its connection is given up."""
    id_ttl_ms: int = 600_000
    token_ttl_ms: int = 60_000
    # A dead letter goes when one of the three is exceeded, the oldest first.
    dead_max_age_ms: int = 30 * 86_400_000
    dead_max_count: int = 100_000
    dead_max_bytes: int = 256 << 20
    history: int = 1_000
    """How many jobs that have ended the history of each queue keeps; 0: there is none."""
    # An event goes when one of the three is exceeded, the oldest first.
    event_ttl_ms: int = 86_400_000
    """For how long an event is kept for jobs that do not wait for it yet."""
    event_max_count: int = 10_000
    event_max_bytes: int = 16 << 20
    wait_replicas: int = 0
    """How many replicas have to confirm an enqueue before it returns."""


class StoreInfo(NamedTuple):
    """The server behind the backend, for banners and error texts. Holds no secret."""

    name: str
    version: str
    address: str
    warnings: tuple[str, ...] = ()


class EnqueueBatch(NamedTuple):
    """Jobs to store in one go.

    The answer to a `token` is kept for `token_ttl_ms`; None: as long as the settings of the
    store say. A batch that is sent again with its token is given that answer, so no job is
    stored twice when a reply was lost.
    """

    token: str
    jobs: Sequence[NewJob]
    barriers: Sequence[Barrier] = ()
    token_ttl_ms: int | None = None


class Backend(Protocol):
    """A store. Every method may raise StoreUnavailable. Then it is not known what took effect.

    A queue that fails by itself does no harm to the others. The answers to a worker name in
    `away` the queues that have not answered, and the answer to an enqueue names them in
    `refused`. A method without such an answer serves all other queues, then raises StoreError.
    """

    @property
    def capabilities(self) -> Capabilities: ...

    @property
    def inspect(self) -> Inspection:
        """What command line, dashboard and warnings ask about the store."""
        ...

    @property
    def dead(self) -> DeadLetters:
        """Jobs that have died and are kept."""
        ...

    @property
    def schedules(self) -> Schedules:
        """Rules that make jobs at set times. Raises MissingCapability without
        `capabilities.schedules`."""
        ...

    @property
    def control(self) -> Control:
        """What operators do to queues and workers."""
        ...

    @property
    def address(self) -> str:
        """Where the store is, without credentials."""
        ...

    @property
    def limits(self) -> Limits:
        """Bounds by key that jobs wait at. Raises MissingCapability without
        `capabilities.gates`."""
        ...

    @property
    def flows(self) -> Flows:
        """Records of jobs that wait for each other. Raises MissingCapability without
        `capabilities.flows`."""
        ...

    async def open(self) -> StoreInfo:
        """Connect and check the store.

        Raises ConfigError for a store that is set up to lose jobs, and UnsupportedLayout for
        one whose data another release has written.
        """
        ...

    async def close(self) -> None: ...

    def for_thread(self) -> Backend:
        """A twin of this store for another event loop, to be opened and closed there.

        Needs `capabilities.threaded_heartbeat`.
        """
        ...

    async def enqueue(self, batch: EnqueueBatch) -> Enqueued:
        """Store the jobs of each queue in one step.

        An id is taken while its job lives, and for `id_ttl_ms` after it has finished. A queue
        whose jobs are not stored stands in `refused`, with StoreFull when the store has no
        memory left. Raises MissingCapability for terms that this store cannot keep; then
        nothing is stored.
        """
        ...

    async def lease(self, spec: LeaseSpec) -> Lease:
        """Enter all queues of `spec`. Those that have not answered are in `entered.away`."""
        ...

    def attach(self, spec: LeaseSpec) -> Lease:
        """A lease object for entries that stand in the store already. Enters nothing.

        The heartbeat's thread uses it: each beat attaches to the present `spec`, on the twin
        of that thread.
        """
        ...

    async def relay(self, queues: Sequence[str], limit: int = 100) -> Relayed:
        """Bring what the outboxes of these queues hold to its targets, at most `limit` entries of
        each.

        A settlement writes an entry, in its own step, for jobs and arrivals of other queues. Any
        number of workers may relay at once, and each may die at any point: an entry takes effect
        once, and those of one outbox in their order.
        """
        ...

    async def reclaim(
        self, queues: Sequence[str], grace_ms: int, limit: int, *, dead: str = ""
    ) -> Reclaimed:
        """Make the jobs of ended leases ready again, at most `limit` a queue.

        When no worker was heard of for longer than `grace_ms`, the store was down. Then live
        workers have so long to renew before a lease is ended.

        `dead` is the id of a lease whose process is known to have ended. It ends at once, under
        each name that it has in these queues. A crash is counted as for any other lease.
        """
        ...

    async def prune(self, queues: Sequence[str], limit: int) -> int:
        """Drop up to `limit` dead letters that are over their age, number or bytes; returns how
        many."""
        ...

    async def get(self, refs: Sequence[JobRef]) -> list[JobRecord | None]:
        """What is known of these jobs; None for an unknown id."""
        ...

    async def cancel(
        self, refs: Sequence[JobRef], outcome: bytes | None, result_ttl_ms: int
    ) -> list[CancelVerdict]:
        """Remove ready and scheduled jobs, and ask the workers of running ones to stop them.

        What their ends cause in other queues is relayed before this returns, if it can be; so it
        is for deletes, purges and starts of flows. Nobody may be there to relay it.
        """
        ...

    async def send_event(self, event: NewEvent, queues: Sequence[str]) -> EventSent:
        """Send an event to these queues: all jobs there that wait for it get it, each once.

        It is kept for `event_ttl_ms`, within the bounds of the settings, for jobs that wait for it
        later. A queue that does not exist keeps it, too. Each queue is served by itself, and many
        waiting jobs are woken in parts. A call that fails may have had its effect, whole or in
        part. Made again it is another event.
        """
        ...

    async def add_figures(self, figures: Sequence[Figures]) -> None:
        """Add what a worker has counted to the figures of the history, by minute and by hour.

        A call without an answer may have counted or not, and is not made again: figures may miss
        what one worker has counted in some seconds, and are never too high.
        """
        ...

    async def wait_results(
        self, refs: Sequence[JobRef], timeout_s: float | None
    ) -> list[JobRecord | None]:
        """Return once at least one of these jobs is final, or after `timeout_s`.

        Answers like `get`. When one of them is final or unknown already, it returns at once.
        Any number of callers share one connection.
        """
        ...
