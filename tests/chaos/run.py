"""One run: enqueue and break for so many seconds, let it drain, then ask what is left."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

from redis.exceptions import RedisError

from asyncjobs import AsyncJobsError, JobCancelled, JobDiscarded, JobFailed, State
from asyncjobs.errors import ResultError, StoreError
from asyncjobs.model.job import JobRecord
from asyncjobs.model.refs import JobRef
from asyncjobs.store.redis.backend import RedisBackend
from asyncjobs.store.seam import StoreSettings
from asyncjobs.testing.servers import Server
from tests.audit import audit, leftovers
from tests.audit.snapshot import connected, read
from tests.chaos import ledger
from tests.chaos.faults import Faults, schedule
from tests.chaos.fleet import Slot
from tests.chaos.jobs import PREFIX, QUEUES, SCHEDULE, Planned, app, plan
from tests.chaos.proxy import Proxy, proxy_to
from tests.chaos.rules import Operator, expected_ticks
from tests.chaos.verdict import Evidence, Verdict, judge

__all__ = ["Run"]

TICK_S: Final = 0.05
DRAIN_LIMIT_S: Final = 120.0
ENDS: Final = {
    JobFailed: State.DEAD,
    JobDiscarded: State.DISCARDED,
    JobCancelled: State.CANCELLED,
}
"""What a waiter is told, and the state that it stands for."""
UNCONFIRMED_MOST: Final = 100
"""Batches on their way at the most; while the store is away, the enqueuing rests."""


class Run:
    """Owns the fleet, the client and all that is known of one run."""

    def __init__(
        self,
        server: Server,
        folder: Path,
        seed: int,
        *,
        workers: int,
        rate: float,
        tell: Callable[[str], None],
    ) -> None:
        self._server = server
        self._folder = folder
        self._seed = seed
        self._workers = workers
        self._rate = rate
        self._tell = tell
        self._stack = AsyncExitStack()
        self._putting: set[asyncio.Task[None]] = set()
        self._beside: set[asyncio.Task[None]] = set()
        self._counters: dict[tuple[str, str], int] = {}
        self.planned: dict[str, Planned] = {}
        self.left_out: set[str] = set()
        """Jobs that were not stored, for another one has their unique key."""
        self.operator = Operator(seed)
        self.ticks: list[str] = []
        self.confirmed: list[str] = []
        self.failed_enqueues = 0
        self.seen: dict[str, bytes | None] = {}
        self.heard: dict[str, tuple[State | None, Any]] = {}
        self.violations: list[str] = []
        self.drain_s = 0.0
        self.faults: Faults
        self.executions: list[ledger.Execution] = []

    async def __call__(self, seconds: float) -> Verdict:
        """The whole run. Nothing of it is left behind, however it ends."""
        (self._folder / "ledger").mkdir()
        os.environ[ledger.ENV] = str(self._folder / "ledger")
        async with self._stack:
            slots, client = await self._start()
            self.faults = Faults(self._server, slots, client, self._tell)
            feeding = asyncio.create_task(self._feed())
            sampling = asyncio.create_task(self._sample())
            operating = asyncio.create_task(self.operator.run())
            try:
                chance = random.Random(f"{self._seed} faults")
                await self.faults.run(schedule(chance, seconds))
            finally:
                feeding.cancel()
                await _cancelled(operating)
            await self._drain(slots)
            sampling.cancel()
            for slot in slots:
                await slot.close()
                self.violations += slot.violations
            return await self._verdict()

    async def _start(self) -> tuple[list[Slot], Proxy]:
        client = await self._stack.enter_async_context(proxy_to(self._server.port))
        os.environ["ASYNCJOBS_URL"] = client.url
        slots = []
        for number in range(self._workers):
            proxy = await self._stack.enter_async_context(proxy_to(self._server.port))
            chance = random.Random(f"{self._seed} worker {number}")
            slot = Slot(number, proxy, self._folder, chance)
            running = asyncio.create_task(slot.run())
            self._stack.push_async_callback(_cancelled, running)
            slots.append(slot)
        await self._stack.enter_async_context(app)
        self._stack.push_async_callback(_cancelled, self._putting, self._beside)
        for slot in slots:
            await slot.started()
        return slots, client

    # -- enqueuing -------------------------------------------------------------------------

    async def _feed(self) -> None:
        """At a steady rate, whatever the store does."""
        chance = random.Random(f"{self._seed} jobs")
        start_s = time.monotonic()
        while True:
            await asyncio.sleep(TICK_S)
            if len(self._putting) >= UNCONFIRMED_MOST:
                start_s += TICK_S
                continue
            due = int((time.monotonic() - start_s) * self._rate) - len(self.planned)
            batch = [plan(chance, len(self.planned) + place) for place in range(max(due, 0))]
            if batch:
                self.planned.update((job.id, job) for job in batch)
                self._keep(self._putting, self._put(batch))

    def _keep(self, tasks: set[asyncio.Task[None]], work: Coroutine[Any, Any, None]) -> None:
        def done(task: asyncio.Task[None]) -> None:
            tasks.discard(task)
            if not task.cancelled() and (error := task.exception()) is not None:
                self.violations.append(f"the client raised {error!r}")

        task = asyncio.create_task(work)
        tasks.add(task)
        task.add_done_callback(done)

    async def _put(self, batch: Sequence[Planned]) -> None:
        """Repeat until it is confirmed: a failed call may have stored its jobs, or not."""
        while True:
            try:
                handles = await app.enqueue_many([job.call for job in batch])
                break
            except StoreError:
                self.failed_enqueues += 1
                await asyncio.sleep(0.2)
        for job, handle in zip(batch, handles, strict=True):
            if handle.id != job.id:
                self.left_out.add(job.id)
                continue
            self.confirmed.append(job.id)
            if job.cancel_after_s is not None:
                self._keep(self._beside, self._cancel(handle, job.cancel_after_s))
            elif handle.id.endswith("7"):
                self._keep(self._beside, self._await(handle))

    async def _cancel(self, handle: Any, after_s: float) -> None:
        await asyncio.sleep(after_s)
        while True:
            try:
                await handle.cancel()
                return
            except StoreError:
                await asyncio.sleep(0.2)

    async def _await(self, handle: Any) -> None:
        """A waiter must hear of the end, and through any fault."""
        while True:
            try:
                self.heard[handle.id] = (State.SUCCEEDED, await handle.result())
                return
            except ResultError as error:
                self.heard[handle.id] = (ENDS.get(type(error)), error)
                return
            except StoreError:
                await asyncio.sleep(0.2)

    async def _sample(self) -> None:
        """Look at outcomes early: they must be the same at the end."""
        chance = random.Random(self._seed)
        while True:
            await asyncio.sleep(1)
            known = [id for id in self.confirmed if id not in self.seen]
            refs = [self._ref(id) for id in chance.sample(known, min(len(known), 200))]
            try:
                records = await app.backend.get(refs)
                await asyncio.to_thread(self._look)
            except (AsyncJobsError, RedisError):
                continue
            self.seen |= {r.ref.id: r.outcome for r in records if r and r.state.is_final}

    def _ref(self, id: str) -> JobRef:
        return JobRef(self.planned[id].queue, id)

    def _look(self) -> None:
        """The keys must agree at any moment, not only at the end."""
        self._read_counters()
        self.violations += audit(self._server, PREFIX)

    def _read_counters(self) -> None:
        """The store keeps them for some minutes only."""
        with connected(self._server) as client:
            queues, _, _ = read(client, PREFIX)
        for queue in queues:
            for field, number in queue.hashes["stats"].items():
                key = (queue.name, field)
                self._counters[key] = max(int(number), self._counters.get(key, 0))

    # -- the end ----------------------------------------------------------------------------

    async def _drain(self, slots: Sequence[Slot]) -> None:
        """Wait until all is confirmed, has ended, and only living workers hold leases."""
        start_s = time.monotonic()
        backend = RedisBackend(self._server.url, StoreSettings(prefix=PREFIX))
        try:
            async with asyncio.timeout(DRAIN_LIMIT_S):
                await self.operator.end()
                await backend.schedules.pause([SCHEDULE], "the run is over")
                while self._putting:
                    await asyncio.wait(self._putting)
                while any(map(_holds, await backend.inspect.queues.counts(QUEUES))):
                    await asyncio.sleep(0.05)
                self.drain_s = time.monotonic() - start_s
                if self._beside:
                    await asyncio.wait(self._beside)
                while len(await backend.inspect.workers(QUEUES)) != len(slots) * len(QUEUES):
                    await asyncio.sleep(0.05)
        except TimeoutError:
            counts = await backend.inspect.queues.counts(QUEUES)
            self.violations.append(
                f"not drained within {DRAIN_LIMIT_S:g} s: batches unconfirmed "
                f"{len(self._putting)}, waiters {len(self._beside)}, {counts}, "
                f"{await backend.inspect.workers(QUEUES)}"
            )
        finally:
            await backend.close()

    async def _verdict(self) -> Verdict:
        planned = {id: job for id, job in self.planned.items() if id not in self.left_out}
        everything = [self._ref(id) for id in planned]
        # Dead letters are read before they are pruned.
        backend = RedisBackend(self._server.url, StoreSettings(prefix=PREFIX, dead_max_count=0))
        try:
            records: dict[str, JobRecord | None] = {}
            for first in range(0, len(everything), 500):
                refs = everything[first : first + 500]
                found = await backend.get(refs)
                records |= dict(zip((ref.id for ref in refs), found, strict=True))
            self.violations += audit(self._server, PREFIX)
            self.ticks = await expected_ticks(backend, SCHEDULE)
            while await backend.prune(QUEUES, 1000):
                pass
        finally:
            await backend.close()
        self.violations += leftovers(self._server, PREFIX)
        self._read_counters()
        counted: Counter[str] = Counter()
        for (_, field), number in self._counters.items():
            counted[field.partition(":")[2]] += number
        self.executions = ledger.executions(self._folder / "ledger")
        evidence = Evidence(planned, self.executions, self.faults.done, records)
        evidence.seen, evidence.heard, evidence.counted = self.seen, self.heard, counted
        evidence.ticks, evidence.paused = self.ticks, self.operator.done
        verdict = judge(evidence)
        # What the keys say wrong is found again at each look.
        verdict.violations = [*dict.fromkeys(self.violations), *verdict.violations]
        return verdict


def _holds(counts: Any) -> int:
    held: int = sum(counts.ready) + counts.running + counts.scheduled
    return held


async def _cancelled(*some: Any) -> None:
    tasks = [task for one in some for task in (one if isinstance(one, set) else {one})]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
