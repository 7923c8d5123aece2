"""Dead jobs on a store, made without a worker, and what is left of them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from asyncjobs.model.clock import new_id, now_ms
from asyncjobs.model.demand import Demand
from asyncjobs.model.envelope import Envelope
from asyncjobs.model.headers import Headers
from asyncjobs.model.job import JobRecord, NewJob, State, TakenJob
from asyncjobs.model.outcome import Outcome, dead_letter
from asyncjobs.model.refs import JobRef
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.lease import LeaseSpec
from asyncjobs.store.letters import LetterQuery
from asyncjobs.store.redis.backend import RedisBackend
from asyncjobs.store.seam import EnqueueBatch, StoreSettings

T = TypeVar("T")


@dataclass
class Corpse:
    """A job that is to die, and what of."""

    id: str
    queue: str = "default"
    function: str = "tasks.fail"
    reason: str = "exhausted"
    error: str = "ValueError"
    message: str = "planted fault"
    attempts: int = 3
    args: list[Any] = field(default_factory=list)
    age_s: float = 0
    headers: dict[str, Any] | None = None
    letter: bytes | None = None
    priority: int = 2

    def settlement(self, job: TakenJob) -> Settlement:
        outcome = Outcome(
            State.DEAD,
            name="" if self.reason == "unknown" else self.function,
            attempt=0 if self.reason == "unknown" else self.attempts,
            finished_ms=now_ms(),
            reason=self.reason,
            error_type=self.error,
            message=self.message,
            traceback=f"Traceback: in {self.function}",
        )
        letter = dead_letter(outcome.encode(), job.envelope) if self.letter is None else self.letter
        return Settlement.dead(job, letter, outcome.encode(), 60_000)

    @property
    def envelope(self) -> bytes:
        return Envelope(
            self.function,
            self.args,
            {},
            enqueued_ms=now_ms(),
            attempt=self.attempts,
            headers=Headers.of(self.headers),
        ).encode()


def on_store(url: str, do: Callable[[RedisBackend], Awaitable[T]], age_s: float = 0) -> T:
    """Run `do` on the store, `age_s` ago by its clock."""

    async def run() -> T:
        pinned = (lambda: now_ms() - round(age_s * 1000)) if age_s else None
        store = RedisBackend(url, StoreSettings(), now_ms=pinned)
        await store.open()
        try:
            return await do(store)
        finally:
            await store.close()

    return asyncio.run(run())


def bury(url: str, *corpses: Corpse) -> None:
    """Let these jobs end dead; the older ones have to come first."""
    for age_s, group in itertools.groupby(corpses, key=lambda corpse: corpse.age_s):
        on_store(url, partial(_bury, corpses=list(group)), age_s)


def enqueue(url: str, *corpses: Corpse) -> None:
    """Store these jobs; none of their ids may be known."""
    assert all(on_store(url, lambda store: _enqueue(store, corpses)))


async def _enqueue(store: RedisBackend, corpses: Sequence[Corpse]) -> list[bool]:
    jobs = [NewJob(c.queue, c.id, c.priority, c.envelope) for c in corpses]
    answer = await store.enqueue(EnqueueBatch(new_id(), jobs))
    return [place is None for place in answer.places]


async def _bury(store: RedisBackend, corpses: Sequence[Corpse]) -> None:
    await _enqueue(store, corpses)
    by_id = {(corpse.queue, corpse.id): corpse for corpse in corpses}
    queues = tuple(dict.fromkeys(corpse.queue for corpse in corpses))
    lease = await store.lease(LeaseSpec(new_id(), "test", queues, 60_000))
    demand, sequence, taken = dict.fromkeys(queues, Demand(len(corpses))), 0, list[TakenJob]()
    while len(taken) < len(corpses):
        # Large ones come a few at a time.
        sequence += 1
        jobs = (await lease.exchange(sequence, [], demand)).jobs
        assert jobs
        taken += jobs
    dead = [by_id[job.queue, job.id].settlement(job) for job in taken]
    assert not (await lease.exchange(sequence + 1, dead, {})).not_yours
    await lease.leave()


def left(url: str, queue: str = "default") -> list[str]:
    """The ids of the queue's dead letters, the oldest first."""

    async def look(store: RedisBackend) -> list[str]:
        page = await store.dead.page(LetterQuery(queue, oldest_first=True, limit=1000, cut=0))
        return [letter.key.ref.id for letter in page.letters]

    return on_store(url, look)


def record(url: str, ref: str) -> JobRecord | None:
    """What is known of the job `queue/id`."""

    async def look(store: RedisBackend) -> JobRecord | None:
        queue, _, job_id = ref.partition("/")
        (found,) = await store.get([JobRef(queue, job_id)])
        return found

    return on_store(url, look)
