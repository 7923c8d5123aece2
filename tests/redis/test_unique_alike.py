"""Random calls of unique jobs: a server and the store in memory answer alike, one job has a key."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import pytest

from asyncjobs.model.clock import new_id
from asyncjobs.model.job import NewJob, State, TakenJob
from asyncjobs.model.settlement import Settlement
from asyncjobs.model.terms import Terms, Unique
from asyncjobs.store.changes import Target
from asyncjobs.store.letters import LetterQuery, Revival
from asyncjobs.store.memory import MemoryBackend
from asyncjobs.store.redis.backend import RedisBackend
from asyncjobs.store.seam import EnqueueBatch, StoreSettings
from asyncjobs.testing.conformance.store import PinnedClock, Store, Worker, ref

pytestmark = [pytest.mark.anyio, pytest.mark.unaudited("dead letters are left")]

T = TypeVar("T")
SEEDS = 20
STEPS = 60
KEYS = (b"one", b"two")
LONG_MS = 1_000_000_000
LIVE = (State.READY, State.RUNNING, State.SCHEDULED)


class Both:
    """The same store twice, and a worker for each. `took` are the jobs that the workers hold."""

    def __init__(self, clock: PinnedClock, stores: list[Store], workers: list[Worker]) -> None:
        self.clock = clock
        self.stores = stores
        self.workers = workers
        self.took: list[dict[str, TakenJob]] = [{}, {}]

    async def ask(self, question: Callable[[int], Awaitable[T]]) -> T:
        """The answer of both."""
        first, second = await question(0), await question(1)
        assert first == second
        return first

    async def exchange(self, *ends: Callable[[TakenJob], Settlement], id: str, demand: int) -> None:
        async def question(at: int) -> list[tuple[str, bytes]]:
            settlements = [end(self.took[at].pop(id)) for end in ends]
            answer = await self.workers[at].exchange(*settlements, demand=demand)
            assert answer.not_yours == []
            self.took[at] |= {job.id: job for job in answer.jobs}
            return [(job.id, job.envelope) for job in answer.jobs]

        await self.ask(question)


@pytest.fixture
async def both(servers: Any, anyio_backend: str) -> AsyncIterator[Both]:
    clock, settings = PinnedClock(), StoreSettings(prefix=f"test-{new_id()}")
    backends = [
        MemoryBackend(settings, now_ms=clock),
        RedisBackend(servers.get("valkey").url, settings, now_ms=clock),
    ]
    stores = [Store(each, clock, settings, lambda *_: backends[0]) for each in backends]
    try:
        for each in backends:
            await each.open()
        workers = [await each.worker(duration_ms=LONG_MS) for each in stores]
        yield Both(clock, stores, workers)
    finally:
        for each in backends:
            await each.close()


async def test_a_key_has_one_job_in_both_stores(both: Both) -> None:
    for seed in range(SEEDS):
        await _Run(both, random.Random(seed), f"{seed}-").go()


class _Run:
    """Random steps. `keys` says which key each job was stored for."""

    def __init__(self, both: Both, chance: random.Random, prefix: str) -> None:
        self.both = both
        self.chance = chance
        self.prefix = prefix
        self.keys: dict[str, bytes] = {}

    async def go(self) -> None:
        for step in range(STEPS):
            # Two jobs with one time would be due in any order.
            self.both.clock.ms += self.chance.choice([1, 1, 211, 3001])
            steps = [self.enqueue, self.enqueue, self.end, self.end, self.stop, self.revive]
            await self.chance.choice(steps)(f"{self.prefix}{step}")
            await self.check()
        for _ in range(STEPS):
            self.both.clock.ms += 5000
            for id in [*self.both.took[0]]:
                await self.both.exchange(Settlement.succeeded, id=id, demand=9)
            await self.both.exchange(id="", demand=9)
        counts = await self.both.ask(lambda at: self.both.stores[at].counts())
        assert (sum(counts.ready), counts.running, counts.scheduled, counts.held) == (0, 0, 0, 0)
        for store in self.both.stores:
            assert (await store.backend.inspect.unique.page("work")).locks == []

    def unique(self, key: bytes) -> Unique:
        replace, hold = self.chance.choice([(False, False), (True, False), (True, True)])
        return Unique(key, "finished", LONG_MS, replace, hold)

    async def enqueue(self, name: str) -> None:
        jobs = []
        for number in range(self.chance.randint(1, 3)):
            terms = Terms(unique=self.unique(self.chance.choice(KEYS)))
            delay_ms = self.chance.choice([0, self.chance.randint(100, 5000)])
            id = f"{name}-{number}"
            jobs.append(NewJob("work", id, 2, id.encode(), delay_ms, None, True, terms))
        batch = EnqueueBatch(name, jobs)
        for _ in range(2):
            # The second time as after a lost reply.
            answer = await self.both.ask(lambda at: self.both.stores[at].backend.enqueue(batch))
        for job, place in zip(jobs, answer.places, strict=True):
            assert job.terms is not None
            assert job.terms.unique is not None
            if place is None or place.is_new:
                self.keys[job.id] = job.terms.unique.key

    async def end(self, name: str) -> None:
        demand, delay_ms = self.chance.randint(0, 2), self.chance.randint(100, 5000)
        if not self.both.took[0]:
            await self.both.exchange(id="", demand=demand + 1)
            return
        ends: list[Callable[[TakenJob], Settlement]] = [
            Settlement.succeeded,
            Settlement.discarded,
            Settlement.release,
            lambda job: Settlement.dead(job, b"{}\n{}"),
            lambda job: Settlement.reschedule(job, name.encode(), delay_ms),
        ]
        id = self.chance.choice(sorted(self.both.took[0]))
        await self.both.exchange(self.chance.choice(ends), id=id, demand=demand)

    async def stop(self, name: str) -> None:
        """Cancel or delete some jobs, whatever they do."""
        some = [ref(id) for id in self.chance.sample(sorted(self.keys), min(3, len(self.keys)))]
        stores = self.both.stores
        if self.chance.random() < 0.5:
            await self.both.ask(lambda at: stores[at].backend.cancel(some, None, 0))
            return
        targets = [Target(each) for each in some]
        await self.both.ask(lambda at: stores[at].backend.inspect.jobs.delete(targets))

    async def revive(self, name: str) -> None:
        stores, query = self.both.stores, LetterQuery("work")
        pages = [(await store.backend.dead.page(query)).letters for store in stores]
        found = sorted(each.key for each in pages[0] if each.key.ref.id in self.keys)
        assert found == sorted(each.key for each in pages[1] if each.key.ref.id in self.keys)
        revivals = [
            Revival(each, name.encode(), self.unique(self.keys[each.ref.id])) for each in found
        ]
        await self.both.ask(lambda at: stores[at].backend.dead.revive(revivals))

    async def check(self) -> None:
        live: dict[bytes, list[str]] = {}
        held: dict[bytes, list[str]] = {}
        for id, key in self.keys.items():

            async def look(at: int, id: str = id) -> tuple[State, str | None] | None:
                record = await self.both.stores[at].find(id)
                return None if record is None else (record.state, record.held_by)

            found = await self.both.ask(look)
            if found is not None and found[0] in LIVE:
                live.setdefault(key, []).append(id)
            elif found is not None and found[0] is State.HELD:
                held.setdefault(key, []).append(id)
                assert found[1] is not None
        assert [ids for ids in live.values() if len(ids) > 1] == []
        assert [ids for ids in held.values() if len(ids) > 1] == []
        assert held.keys() <= live.keys()
