"""What the cases are written with: a pinned clock, a store, workers on it."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import anyio
import pytest

from asyncjobs.model.clock import new_id
from asyncjobs.model.demand import Demand
from asyncjobs.model.job import JobRecord, NewJob, State, TakenJob
from asyncjobs.model.outcome import Outcome
from asyncjobs.model.refs import JobRef
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.answers import Exchange, Placed, Reclaimed
from asyncjobs.store.flows import Flows
from asyncjobs.store.inspect import QueueCounts
from asyncjobs.store.lease import Lease, LeaseSpec
from asyncjobs.store.schedules import Schedules
from asyncjobs.store.seam import Backend, Clock, EnqueueBatch, StoreSettings

LIMIT_S = 20.0
"""How long a case waits for what must happen; reached only when it fails."""
SHORT_S = 0.05
"""How long a case parks to see that nothing signals."""
LEASE_MS = 30_000
GRACE_MS = 12_000
QUEUE = "work"


MakeBackend: TypeAlias = Callable[[StoreSettings, Clock | None], Backend]


class PinnedClock:
    """Milliseconds since the epoch that move only when a case says so."""

    def __init__(self) -> None:
        self.ms = 1_800_000_000_000

    def __call__(self) -> int:
        return self.ms


def outcome(state: State = State.SUCCEEDED, value: object = None) -> bytes:
    """An encoded outcome."""
    return Outcome(state, value).encode()


def ref(id: str, queue: str = QUEUE) -> JobRef:
    return JobRef(queue, id)


def are_new(places: Sequence[Placed | None]) -> list[bool]:
    """For each job of a batch: whether it was stored as new."""
    return [place is None for place in places]


def ids(jobs: Sequence[TakenJob]) -> list[str]:
    return [job.id for job in jobs]


async def eventually(check: Callable[[], Awaitable[bool]]) -> None:
    """Wait until a fact holds in the store, which may need its real time."""
    with anyio.fail_after(LIMIT_S):
        while not await check():
            await anyio.sleep(0.01)


@dataclass
class Worker:
    """A registered lease with its rising sequence."""

    store: Backend
    lease: Lease
    sequence: int = 0

    async def exchange(
        self, *settlements: Settlement, demand: Mapping[str, Demand] | int = 0
    ) -> Exchange:
        """The next exchange; an int is the demand for each queue of the lease."""
        self.sequence += 1
        if isinstance(demand, int):
            demand = {q: Demand(demand, suspects=(demand,)) for q in self.lease.spec.queues}
        return await self.lease.exchange(self.sequence, settlements, demand)

    async def take(self, slots: int = 100, guard: int = 0) -> list[TakenJob]:
        """Take from every queue of the lease."""
        demand = {
            queue: Demand(slots, guard, suspects=(slots,)) for queue in self.lease.spec.queues
        }
        return (await self.exchange(demand=demand)).jobs

    async def take_one(self) -> TakenJob:
        """Take the next job; there must be one."""
        (job,) = await self.take(1)
        return job

    async def signalled(self, timeout_s: float = LIMIT_S) -> list[str]:
        """The queues that signalled within the time."""
        return list((await self.lease.park(timeout_s)).signalled)

    async def settle_signals(self) -> None:
        """Use up the signals from before."""
        while await self.signalled(SHORT_S):
            continue


@dataclass
class Store:
    """A backend, its clock, and short ways to fill it and look at it."""

    backend: Backend
    clock: PinnedClock
    settings: StoreSettings
    make: MakeBackend
    tokens: itertools.count[int] = field(default_factory=itertools.count)

    async def enqueue(
        self,
        *names: str,
        queue: str = QUEUE,
        priority: int = 2,
        delay_ms: int = 0,
        at_ms: int | None = None,
        token: str | None = None,
    ) -> list[bool]:
        """Store one job for each name; its envelope is its name. Raises why it was refused."""
        jobs = [NewJob(queue, n, priority, n.encode(), delay_ms, at_ms) for n in names]
        answer = await self.backend.enqueue(EnqueueBatch(token or self.token(), jobs))
        for refusal in answer.refused.values():
            raise refusal
        return are_new(answer.places)

    def token(self) -> str:
        return f"token-{next(self.tokens)}"

    async def worker(self, *queues: str, duration_ms: int = LEASE_MS) -> Worker:
        spec = LeaseSpec(new_id(), "worker", queues or (QUEUE,), duration_ms)
        return Worker(self.backend, await self.backend.lease(spec))

    async def pass_time(self, ms: int, *alive: Worker) -> None:
        """Let time pass in steps, with heartbeats of those who are alive."""
        end = self.clock.ms + ms
        while self.clock.ms < end:
            self.clock.ms = min(end, self.clock.ms + GRACE_MS)
            for worker in alive:
                await worker.lease.beat()

    async def end_leases(self, *alive: Worker, limit: int = 1000) -> Reclaimed:
        """Let all leases but those of `alive` end, and reclaim once."""
        await self.pass_time(LEASE_MS + 1, *alive)
        return await self.reclaim(limit=limit)

    async def reclaim(self, *queues: str, limit: int = 1000) -> Reclaimed:
        return await self.backend.reclaim(queues or (QUEUE,), GRACE_MS, limit)

    async def end_unheard(self, queue: str, limit: int = 1000) -> None:
        """Reclaim in a queue in which nobody was heard of for long: it waits one grace first."""
        assert (await self.reclaim(queue)).leases == 0
        self.clock.ms += GRACE_MS
        await self.reclaim(queue, limit=limit)

    async def look(self, id: str, queue: str = QUEUE) -> JobRecord:
        """The job's record; it must be known."""
        record = await self.find(id, queue)
        assert record is not None
        return record

    async def find(self, id: str, queue: str = QUEUE) -> JobRecord | None:
        (record,) = await self.backend.get([JobRef(queue, id)])
        return record

    async def state(self, id: str, queue: str = QUEUE) -> State:
        return (await self.look(id, queue)).state

    async def counts(self, queue: str = QUEUE) -> QueueCounts:
        (counts,) = await self.backend.inspect.queues.counts([queue])
        return counts


@pytest.fixture
def clock() -> PinnedClock:
    return PinnedClock()


@pytest.fixture
def new_settings() -> StoreSettings:
    """Settings with a prefix that no other test has."""
    return StoreSettings(prefix=f"test-{new_id()}")


@pytest.fixture
async def store(
    anyio_backend: str, make_backend: MakeBackend, new_settings: StoreSettings, clock: PinnedClock
) -> AsyncIterator[Store]:
    """An open, empty store."""
    backend = make_backend(new_settings, clock)
    try:
        await backend.open()
        yield Store(backend, clock, new_settings, make_backend)
    finally:
        await backend.close()


@pytest.fixture
def schedules(store: Store) -> Schedules:
    """The schedules of a store that keeps them."""
    if not store.backend.capabilities.schedules:
        pytest.skip("no capability schedules")
    return store.backend.schedules


@pytest.fixture
def flows(store: Store) -> Flows:
    """The flows of a store that keeps them."""
    if not store.backend.capabilities.flows:
        pytest.skip("no capability flows")
    return store.backend.flows
