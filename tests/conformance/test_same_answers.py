"""Any sequence of calls has the same answers on a server as in memory."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asyncjobs.backends.base import Demand, StaleSequence, StoreSettings
from asyncjobs.backends.letters import LetterKey, LetterQuery, Revival
from asyncjobs.backends.memory import MemoryBackend
from asyncjobs.backends.redis.backend import RedisBackend
from asyncjobs.clock import new_id
from asyncjobs.job import Priority, Settlement, TakenJob
from asyncjobs.testing.servers import Server
from tests.conformance.store import LEASE_MS, QUEUE, PinnedClock, Store, Worker, ref

pytestmark = pytest.mark.anyio

WORKERS = st.integers(0, 1)
NAMES = st.sampled_from([f"job-{number}" for number in range(5)])
ENDS = st.sampled_from(["succeeded", "discarded", "dead", "again", "soon", "release"])
ENQUEUE = st.tuples(
    st.just("enqueue"), NAMES, st.integers(0, 3), st.sampled_from([0, 0, 0, 500, 5000])
)
EXCHANGE = st.tuples(
    st.just("exchange"),
    WORKERS,
    st.lists(ENDS, max_size=2),
    st.integers(0, 4),
    st.integers(0, 2),
)
STEPS = st.one_of(
    # Named twice, for without jobs that run the other steps have little to do.
    ENQUEUE,
    ENQUEUE,
    EXCHANGE,
    EXCHANGE,
    st.tuples(st.just("cancel"), NAMES),
    st.tuples(st.just("pass"), st.sampled_from([1, 700, 6000, LEASE_MS + 1])),
    st.tuples(st.just("heartbeat"), WORKERS),
    st.tuples(st.just("reclaim"), st.sampled_from([0, 10_000])),
    st.tuples(st.just("resync"), WORKERS, st.booleans()),
    st.tuples(st.just("leave"), WORKERS),
    st.tuples(st.just("progress"), WORKERS),
    st.tuples(st.just("revive"), NAMES, st.sampled_from([None, *Priority]), st.booleans()),
    st.tuples(st.just("purge"), NAMES, st.booleans()),
)


class Player:
    """Plays steps on one store; answers hold nothing that depends on the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._workers: list[Worker] = []
        self._held: list[list[TakenJob]] = [[], []]
        self._serials = itertools.count(1)

    async def play(self, step: tuple[Any, ...]) -> Any:
        while len(self._workers) < 2:
            self._workers.append(await self._store.worker())
        play: Callable[..., Any] = getattr(self, f"_{step[0]}")
        return await play(*step[1:])

    async def look(self) -> Any:
        """Everything that can be seen from outside."""
        records = await self._store.backend.get([ref(f"job-{number}") for number in range(5)])
        labels = {worker.lease.entry(QUEUE): n for n, worker in enumerate(self._workers)}
        seen = [r and r._replace(holder=r.holder and str(labels.get(r.holder))) for r in records]
        (flow,) = await self._store.backend.flow([QUEUE])
        letters = await self._store.backend.letters(LetterQuery(QUEUE))
        # Ready times are those of the server's own clock.
        return seen, await self._store.counts(), flow._replace(oldest_ready_ms=None), letters

    async def _enqueue(self, name: str, priority: int, delay_ms: int) -> Any:
        # No two jobs are due at one time: which of them comes first is left open.
        delay_ms += next(self._serials) if delay_ms else 0
        return await self._store.enqueue(name, priority=priority, delay_ms=delay_ms)

    async def _exchange(self, number: int, ends: list[str], slots: int, guard: int) -> Any:
        worker, held = self._workers[number], self._held[number]
        settlements = [self._settlement(end, held.pop(0)) for end in ends if held]
        guard = min(guard, slots)
        answer = await worker.exchange(*settlements, demand={QUEUE: Demand(slots, guard)})
        held += answer.jobs
        if answer.lost:
            # What it held may be run by others now; it must not be able to settle it.
            worker.lease = worker.lease.renew(answer.lost, new_id())
            await self._store.backend.register(worker.lease, answer.lost)
        return (
            [(job.id, job.priority, job.envelope, job.crashes) for job in answer.jobs],
            sorted(settled.job.id for settled in answer.not_yours),
            sorted(answer.cancels),
            # A lease that is gone is told nothing but that, not even the time.
            answer._replace(
                jobs=[], not_yours=[], cancels=[], now_ms=0 if answer.lost else answer.now_ms
            ),
        )

    def _settlement(self, end: str, job: TakenJob) -> Settlement:
        if end == "release":
            return Settlement.release(job)
        if end == "dead":
            return Settlement.dead(job, b"letter of " + job.envelope)
        if end in ("again", "soon"):
            delay_ms = next(self._serials) + (0 if end == "again" else 500)
            return Settlement.reschedule(job, job.envelope + b"'", delay_ms)
        finish: Callable[[TakenJob], Settlement] = getattr(Settlement, end)
        return finish(job)

    async def _cancel(self, name: str) -> Any:
        return await self._store.backend.cancel([ref(name)], None, 0)

    async def _pass(self, ms: int) -> None:
        self._store.clock.ms += ms

    async def _heartbeat(self, number: int) -> Any:
        answer = await self._store.backend.heartbeat(self._workers[number].lease)
        return answer._replace(cancels=sorted(answer.cancels))

    async def _reclaim(self, grace_ms: int) -> Any:
        return await self._store.backend.reclaim([QUEUE], grace_ms, 1000)

    async def _resync(self, number: int, stale: bool) -> Any:
        worker = self._workers[number]
        worker.sequence += 0 if stale else 1
        try:
            answer = await self._store.backend.resync(
                worker.lease, worker.sequence, self._held[number][1:]
            )
        except StaleSequence:
            return "stale"
        return answer.applied, sorted(job.id for job in answer.missing), answer.lost

    async def _leave(self, number: int) -> None:
        await self._store.backend.deregister(self._workers[number].lease)
        # Its jobs were given back: it knows that it does not hold them.
        self._held[number] = []
        self._workers[number] = await self._store.worker()

    async def _progress(self, number: int) -> None:
        notes = [(job, str(next(self._serials)).encode()) for job in self._held[number][:2]]
        await self._store.backend.progress(self._workers[number].lease, notes)

    async def _key(self, name: str, stale: bool) -> LetterKey:
        (letter,) = await self._store.backend.find_letters([ref(name)])
        died_ms = 0 if letter is None else letter.key.died_ms - stale
        return LetterKey(ref(name), died_ms)

    async def _revive(self, name: str, priority: Priority | None, stale: bool) -> Any:
        revival = Revival(await self._key(name, stale), b"again")
        return await self._store.backend.revive([revival], priority=priority)

    async def _purge(self, name: str, stale: bool) -> Any:
        return await self._store.backend.purge([await self._key(name, stale)])


async def have_the_same_answers(
    server: Server, url: str, config: StoreSettings, steps: list[tuple[Any, ...]]
) -> None:
    """Play the steps on memory and on the server, and compare all that can be seen."""
    clock = PinnedClock()
    real = RedisBackend(url, config, now_ms=clock)
    memory_clock = PinnedClock()
    memory = MemoryBackend(config, now_ms=memory_clock)
    players = [
        Player(Store(memory, memory_clock, config, lambda *_: memory)),
        Player(Store(real, clock, config, lambda *_: real)),
    ]
    try:
        await real.open()
        for step in steps:
            expected, answer = [await player.play(step) for player in players]
            assert answer == expected, step
            expected, answer = [await player.look() for player in players]
            assert answer == expected, step
    finally:
        await real.close()
        server.command("FLUSHALL")


def new_config() -> StoreSettings:
    """Ids stay known for the whole case: when exactly they are forgotten is left open."""
    return StoreSettings(prefix=f"test-{new_id()}", id_ttl_ms=86_400_000)


@pytest.mark.parametrize("kind", ["valkey", "redis"])
@settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow])
@given(steps=st.lists(STEPS, min_size=20, max_size=80))
async def test_any_calls_have_the_same_answers(
    servers: Any, kind: str, steps: list[tuple[Any, ...]]
) -> None:
    server = servers.get(kind)
    await have_the_same_answers(server, server.url, new_config(), steps)
