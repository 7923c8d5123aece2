"""The processor on a store in memory that loses what a test tells it to lose."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from asyncjobs import (
    AsyncJobs,
    ConfigError,
    JobFailed,
    JobFunction,
    RetryPolicy,
    StoreUnavailable,
    Worker,
    constant,
)
from asyncjobs.errors import StoreError
from asyncjobs.events import JobStarted, LeaseLost
from asyncjobs.model.clock import new_id
from asyncjobs.model.demand import Demand
from asyncjobs.model.envelope import Envelope
from asyncjobs.model.headers import Headers
from asyncjobs.model.job import TakenJob
from asyncjobs.model.settlement import Settlement
from asyncjobs.policy.fairness import QueueShares
from asyncjobs.store.answers import Exchange, Parked, Resync
from asyncjobs.store.lease import LeaseSpec, Offer
from asyncjobs.store.memory import MemoryBackend
from asyncjobs.store.memory.lease import MemoryLease
from asyncjobs.store.seam import EnqueueBatch, StoreSettings
from asyncjobs.worker.engine.bounds import Bounds
from asyncjobs.worker.engine.loop import Processor
from asyncjobs.worker.engine.threads import Threads
from asyncjobs.worker.lease.session import Session
from tests.hooked import HookedStore
from tests.tasks import every_task
from tests.worker import jobs
from tests.worker.kit import (
    LIMIT_S,
    Stage,
    counts,
    events_of,
    is_settled,
    processor_of,
    register,
    store_raw,
    until,
)

pytestmark = pytest.mark.anyio
AWAY = StoreUnavailable("the wire broke")


@pytest.fixture(autouse=True)
def _no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncjobs.worker.lease.session.BACKOFF_FIRST_S", 0.001)
    monkeypatch.setattr("asyncjobs.worker.lease.session.BACKOFF_MOST_S", 0.002)


@pytest.fixture
def stage() -> Iterator[Stage]:
    jobs.stage = Stage()
    yield jobs.stage
    jobs.stage.open_all()


async def test_crashes_before_a_put_back_count(stage: Stage) -> None:
    """As beside workers of an older release, which put back what kills the new ones."""
    app = AsyncJobs("memory:", max_crashes=3)
    job = register(app, jobs.note)
    async with app:
        for kept in (2, 3):
            headers = Headers({"crashes_kept": kept})
            envelope = Envelope(job.name, [kept], {}, enqueued_ms=1, headers=headers)
            await store_raw(app, envelope.encode(), id=f"kept-{kept}")
        await Worker(app).run(burst=True, burst_wait=0)
        assert stage.notes == [2]
        with pytest.raises(JobFailed, match="3 times"):
            await app.handle("kept-3", "default").result(0)


class LossyStore(HookedStore):
    """Loses requests or replies of exchanges and resyncs, by their number from 0."""

    def __init__(self) -> None:
        super().__init__()
        self.lost_requests: dict[int, Exception] = {}
        self.lost_replies: dict[int, Exception] = {}
        self.lost_resyncs: set[int] = set()
        self.exchanges = self.resyncs = self.losses = 0
        self.deregistered: list[str] = []

    async def exchange(
        self,
        lease: MemoryLease,
        sequence: int,
        settlements: Sequence[Settlement],
        demand: Mapping[str, Demand],
    ) -> Exchange:
        number, self.exchanges = self.exchanges, self.exchanges + 1
        await asyncio.sleep(0)
        if error := self.lost_requests.get(number):
            self.losses += 1
            raise error
        answer = await super().exchange(lease, sequence, settlements, demand)
        if error := self.lost_replies.get(number):
            self.losses += 1
            raise error
        return answer

    async def resync(
        self,
        lease: MemoryLease,
        sequence: int,
        holding: Collection[TakenJob],
        queues: Collection[str] | None,
    ) -> Resync:
        number, self.resyncs = self.resyncs, self.resyncs + 1
        answer = await super().resync(lease, sequence, holding, queues)
        if number in self.lost_resyncs:
            raise AWAY
        return answer

    async def leave(self, lease: MemoryLease, crashed: Collection[TakenJob]) -> None:
        self.deregistered.append(lease.spec.id)
        await super().leave(lease, crashed)


async def _run_all(store: LossyStore, stage: Stage, **options: Any) -> None:
    app = AsyncJobs(backend=store)
    started = events_of(app, JobStarted)
    note = register(app, jobs.note)
    flaky = register(app, jobs.flaky, retry=RetryPolicy(3, constant(0)))
    async with app:
        await app.enqueue_many([note.bind(f"n{number}") for number in range(30)])
        handles = await app.enqueue_many([flaky.bind(2) for _ in range(5)])
        report = await Worker(app, concurrency=4, **options).run(burst=True, burst_wait=1)
        assert [await handle.result(0) for handle in handles] == [3] * 5
        assert await is_settled(app)
        assert (await counts(app)).dead == 0
    assert Counter(stage.notes) == Counter([*(f"n{n}" for n in range(30)), *([1, 2, 3] * 5)])
    assert len(started) == report.taken == 45


@pytest.mark.parametrize("resync_too", [False, True])
@pytest.mark.parametrize("number", range(12))
async def test_a_lost_reply_runs_nothing_twice(stage: Stage, number: int, resync_too: bool) -> None:
    store = LossyStore()
    store.lost_replies[number] = AWAY
    store.lost_resyncs = {0, 1} if resync_too else set()
    await _run_all(store, stage)
    assert store.losses == 1


async def test_what_runs_while_a_reply_is_lost_is_not_started_again(stage: Stage) -> None:
    store = LossyStore()
    app = AsyncJobs(backend=store)
    gated, note = register(app, jobs.gated), register(app, jobs.note)
    async with app, Worker(app, concurrency=4, grace=1):
        runs = await gated.enqueue("g")
        await stage.noted(("started", "g"))
        store.lost_replies[store.exchanges] = AWAY
        assert await (await note.enqueue("n")).result(LIMIT_S) is None
        assert store.losses == 1
        assert stage.count(("started", "g")) == 1
        stage.open("g")
        assert await runs.result(LIMIT_S) == "g"
    assert stage.count(("started", "g")) == 1


@pytest.mark.parametrize("number", range(12))
async def test_a_lost_request_loses_nothing(stage: Stage, number: int) -> None:
    store = LossyStore()
    store.lost_requests[number] = AWAY
    await _run_all(store, stage)
    assert store.losses == 1


async def test_every_other_reply_lost(stage: Stage) -> None:
    store = LossyStore()
    store.lost_replies = dict.fromkeys(range(0, 1000, 2), AWAY)
    await _run_all(store, stage)
    assert store.losses > 5


async def test_an_exchange_that_is_refused_is_tried_again(stage: Stage) -> None:
    store = LossyStore()
    store.lost_requests = dict.fromkeys((3, 4, 5), StoreError("a script failed"))
    await _run_all(store, stage)


@pytest.mark.parametrize("error", [ConfigError("NOPERM"), RuntimeError("a bug of ours")])
async def test_a_worker_that_fails_gives_its_jobs_back(stage: Stage, error: Exception) -> None:
    store = LossyStore()
    app = AsyncJobs(backend=store)
    job = register(app, jobs.gated)
    async with app:
        run = asyncio.create_task(Worker(app, lease=1, concurrency=2).run())
        await job.enqueue("g")
        await stage.noted(("started", "g"))
        store.lost_requests = dict.fromkeys(range(store.exchanges, 10_000), error)
        await job.enqueue("h")
        with pytest.raises((type(error), BaseExceptionGroup)):
            async with asyncio.timeout(LIMIT_S):
                await run
        assert len(store.deregistered) == 1
        found = await counts(app)
        assert (found.running, found.workers, found.ready[2]) == (0, 0, 2)
    assert [t for t in every_task() if t.get_name().startswith("asyncjobs-")] == []


async def _processor(store: LossyStore) -> tuple[Processor, JobFunction[..., Any]]:
    """One that has entered its queue and taken nothing yet, and what it runs."""
    app = AsyncJobs(backend=store)
    job = register(app, jobs.note)
    session = await Session.begin(store, LeaseSpec("lease", "worker", ("default",), 60_000))
    processor = Processor(
        session,
        QueueShares({"default": 1}),
        app.registry.find,
        app.settings,
        app.events,
        middlewares=app.middlewares,
        concurrency=2,
        threads=Threads(1, {}),
        bounds=Bounds({}),
    )
    return processor, job


async def _store(store: LossyStore, job: JobFunction[..., Any], names: Sequence[str]) -> None:
    await store.enqueue(EnqueueBatch(new_id(), [job.new_job((name,), {}) for name in names]))


class StoppedStore(LossyStore):
    """The process is stopped (SIGSTOP) while a request leaves, for longer than the lease."""

    processor: Processor

    async def exchange(
        self,
        lease: MemoryLease,
        sequence: int,
        settlements: Sequence[Settlement],
        demand: Mapping[str, Demand],
    ) -> Exchange:
        if self.exchanges == 1:
            self.processor.session.confirmed_s = float("-inf")
        answer = await super().exchange(lease, sequence, settlements, demand)
        if self.exchanges == 1:
            # So the next trade leaves before what this one has brought is started.
            self.processor.hear_signal(["default"])
        return answer


async def test_nothing_is_started_after_a_stop_that_may_have_cost_the_lease(stage: Stage) -> None:
    store = StoppedStore()
    store.processor, job = await _processor(store)
    await _store(store, job, ["n0"])
    run = asyncio.create_task(store.processor.run())
    await until(lambda: store.exchanges == 2)
    for _ in range(10):
        await asyncio.sleep(0)
    assert (len(store.processor.running), stage.notes) == (0, [])
    assert len(store.processor.intake.holdings.arrived) == 1
    run.cancel()
    await asyncio.wait({run})
    await store.processor.close()


class OfferedStore(LossyStore):
    """Answers what waits behind a signal when a test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.offers: list[Mapping[str, Demand]] = []
        self.answers: asyncio.Queue[Parked | Exception] = asyncio.Queue()

    async def park(self, lease: MemoryLease, timeout_s: float, offer: Offer | None) -> Parked:
        assert offer is not None
        self.offers.append(offer.demand)
        answer = await self.answers.get()
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def brings(self, processor: Processor) -> Exchange:
        """What an exchange behind a signal would bring now, taken by another number."""
        session = processor.session
        demand = {"default": Demand(2)}
        lease = MemoryLease(self._queues, session.spec)
        return await lease.exchange(session.next_sequence(), [], demand)


@asynccontextmanager
async def _parked(store: OfferedStore) -> AsyncIterator[tuple[Processor, Exchange]]:
    """A worker whose offer stands, and what it would bring: one job."""
    processor, job = await _processor(store)
    run = asyncio.create_task(processor.run())
    await until(lambda: bool(store.offers))
    await _store(store, job, ["n0"])
    yield processor, await store.brings(processor)
    processor.quiet()
    async with asyncio.timeout(LIMIT_S):
        await run
    await processor.close()


async def test_a_worker_of_one_queue_offers_its_slots(stage: Stage) -> None:
    store = OfferedStore()
    async with _parked(store) as (_, brought):
        assert [demand["default"].slots for demand in store.offers] == [2]
        store.answers.put_nowait(Parked((), brought))
        await stage.noted("n0")


async def test_what_an_offer_brings_is_started_before_anything_is_asked(stage: Stage) -> None:
    """Also while no heartbeat has come: the exchange behind the signal has looked."""
    store = OfferedStore()
    async with _parked(store) as (_, brought):
        asked = store.exchanges
        store.answers.put_nowait(Parked(("default",), brought))
        await stage.noted("n0")
        await until(lambda: bool(store.offers[1:]))
        assert store.exchanges == asked + 1, "one that settles"


async def test_what_an_offer_brings_after_a_resync_is_not_started_again(stage: Stage) -> None:
    store = OfferedStore()
    async with _parked(store) as (processor, brought):
        processor.hear_fault(AWAY)
        await stage.noted("n0")
        assert store.resyncs == 1, "it has told of the job"
        exchanges = store.exchanges
        store.answers.put_nowait(Parked(("default",), brought))
        await until(lambda: store.exchanges > exchanges)
    assert stage.notes == ["n0"]


@pytest.mark.parametrize("answer", [AWAY, Parked((), None)])
async def test_an_offer_that_has_no_answer_leads_to_a_resync(
    stage: Stage, answer: Parked | Exception
) -> None:
    store = OfferedStore()
    async with _parked(store):
        store.answers.put_nowait(answer)
        await stage.noted("n0")
        assert store.resyncs == 1


async def test_a_job_taken_anew_is_not_taken_for_its_zombie(stage: Stage) -> None:
    """The attempt under the lost entry goes on; the reply that hands its job out again,
    under the new entry, is lost."""
    store = LossyStore()
    app = AsyncJobs(backend=store)
    job = register(app, jobs.stubborn)
    async with app, Worker(app, lease=60, grace=1) as worker:
        handle = await job.enqueue("s")
        await stage.noted(("started", "s"))
        processor = processor_of(worker)
        lease = processor.session.spec
        await MemoryLease(store._queues, lease).leave()
        store.lost_replies[store.exchanges] = AWAY
        processor.note_lost(lease, ["default"])
        await until(lambda: store.losses == 1)
        await stage.noted(("started", "s"), 2)
        stage.open("s")
        assert await handle.result(LIMIT_S) == "s"


class CountingStore(HookedStore):
    """Knows the suspects that the worker holds, and calls it again with each reply."""

    def __init__(self) -> None:
        super().__init__()
        self.worker: Worker | None = None
        self.held: dict[str, int] = {}
        self.most: list[list[int]] = []

    async def exchange(
        self,
        lease: MemoryLease,
        sequence: int,
        settlements: Sequence[Settlement],
        demand: Mapping[str, Demand],
    ) -> Exchange:
        answer = await super().exchange(lease, sequence, settlements, demand)
        if self.worker is not None and self.worker._shift is not None:
            for settlement in settlements:
                self.held.pop(settlement.job.id, None)
            self.held |= {job.id: job.crashes for job in answer.jobs if job.crashes}
            self.most.append(sorted(self.held.values()))
            if answer.jobs:
                processor_of(self.worker).intake.appetite.hear_signal(lease.spec.queues)
        return answer


async def _crash(store: MemoryBackend, queue: str, times: int) -> None:
    """Workers die so many times while they run all jobs of a queue."""
    for _ in range(times):
        dead = await store.lease(LeaseSpec(new_id(), "dead", (queue,), 1))
        await dead.exchange(1, [], {queue: Demand(80, suspects=(80,))})
        while not (await store.reclaim((queue,), 0, 80)).returned:
            await asyncio.sleep(0.001)


@pytest.mark.parametrize(("crashes", "most"), [(1, 50), (2, 13), (5, 1), (7, 1)])
async def test_suspects_that_have_not_started_yet_count(
    stage: Stage, crashes: int, most: int
) -> None:
    store = CountingStore()
    app = AsyncJobs(backend=store, max_crashes=9)
    job = register(app, jobs.gated)
    async with app:
        handles = await app.enqueue_many([job.bind("g") for _ in range(80)])
        await _crash(store, "default", crashes)
        store.worker = Worker(app, grace=2, concurrency=200)
        async with store.worker:
            await stage.noted(("started", "g"), most)
            stage.open("g")
            for handle in handles:
                await handle.result(LIMIT_S)
    assert max(len(held) for held in store.most) == most
    assert {held[-1] for held in store.most if held} == {crashes}


async def test_nothing_is_blamed_together_with_a_job_of_another_queue(stage: Stage) -> None:
    stage.open("g")
    store = CountingStore()
    app = AsyncJobs(backend=store)
    job = register(app, jobs.gated)
    async with app:
        handles = []
        for queue, crashes in (("a", 5), ("b", 1), ("c", 5)):
            calls = [job.options(queue=queue).bind("g") for _ in range(5)]
            handles += await app.enqueue_many(calls)
            await _crash(store, queue, crashes)
        store.worker = Worker(app, queues=["a", "b", "c"], grace=2)
        async with store.worker:
            for handle in handles:
                await handle.result(LIMIT_S)
    # A job that has to be the only suspect was one, and the others still ran side by side.
    assert [held for held in store.most if 5 in held and len(held) > 1] == []
    assert [1, 1, 1, 1, 1] in store.most


async def test_a_burst_does_not_end_before_the_suspects_of_every_queue(stage: Stage) -> None:
    stage.open("g")
    store = MemoryBackend(StoreSettings())
    app = AsyncJobs(backend=store)
    job = register(app, jobs.gated)
    async with app:
        for queue, crashes in (("a", 1), ("b", 5), ("c", 5), ("d", 1)):
            calls = [job.options(queue=queue).bind("g") for _ in range(3)]
            await app.enqueue_many(calls)
            await _crash(store, queue, crashes)
        worker = Worker(app, queues=["a", "b", "c", "d"], grace=2)
        async with asyncio.timeout(LIMIT_S):
            assert (await worker.run(burst=True, burst_wait=0)).taken == 12


async def test_suspects_of_every_queue_start_at_once(stage: Stage) -> None:
    """Not those of the first one alone, as many as there is room for."""
    store = CountingStore()
    app = AsyncJobs(backend=store)
    job = register(app, jobs.gated)
    queues = ["a", "b", "c"]
    async with app:
        handles = []
        for queue in queues:
            calls = [job.options(queue=queue).bind(queue) for _ in range(40)]
            handles += await app.enqueue_many(calls)
            await _crash(store, queue, 1)
        store.worker = Worker(app, queues=queues, concurrency=100, grace=2)
        async with store.worker:
            # There is room for 32, and none ends meanwhile.
            await until(lambda: len(store.held) == 32)
            for queue in queues:
                await stage.noted(("started", queue), 32 // 6)
                stage.open(queue)
            for handle in handles:
                await handle.result(LIMIT_S)
    assert max(len(held) for held in store.most) == 32


async def test_a_stop_in_an_outage_waits_for_what_has_ended(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asyncjobs.worker.shift.LEAVE_S", 0.02)
    store = LossyStore()
    app = AsyncJobs(backend=store)
    job = register(app, jobs.gated)
    async with app:
        handle = await job.enqueue("g")
        worker = Worker(app)
        run = asyncio.create_task(worker.run())
        await stage.noted(("started", "g"))
        store.lost_requests = dict.fromkeys(range(store.exchanges, 1_000_000), AWAY)
        store.lost_resyncs = set(range(store.resyncs, 1_000_000))
        stage.open("g")
        await until(lambda: store.losses > 0)
        worker.stop()
        # Much longer than LEAVE_S: each try comes a millisecond or two after the last.
        tries = store.resyncs
        await until(lambda: store.resyncs > tries + 300 or run.done())
        assert not run.done()
        store.lost_requests, store.lost_resyncs = {}, set()
        await run
        assert await handle.result(0) == "g"


async def test_a_burst_does_not_spin_while_a_lost_thread_uses_the_last_place(
    stage: Stage,
) -> None:
    gate, started = threading.Event(), threading.Event()

    def blocked() -> None:
        started.set()
        gate.wait(LIMIT_S)

    store = LossyStore()
    app = AsyncJobs(backend=store)
    job = app.job(name="blocked")(_module_level(blocked))
    lost = events_of(app, LeaseLost)
    async with app:
        await app.enqueue_many([job.bind(), job.bind()])
        run = asyncio.create_task(Worker(app, lease=1, threads=1).run(burst=True, burst_wait=0))
        try:
            await until(started.is_set)
            queue = store._queues.by_name["default"]
            _, held = queue.leases._held.popitem()
            for taken in list(held.jobs.values()):
                held.release(taken)
                queue.waiting.give_back(taken, 0)
            await until(lambda: bool(lost))
            before = store.exchanges
            for _ in range(2_000):
                await asyncio.sleep(0)
            assert store.exchanges - before < 100
        finally:
            gate.set()
        assert (await run).leases_lost == 1
        assert await is_settled(app)


def _module_level(function: Callable[[], None]) -> Callable[[], None]:
    """A job function has to be found again by its name; in this process nobody looks."""
    function.__qualname__ = function.__name__
    return function
