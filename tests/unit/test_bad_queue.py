"""A worker with one queue that fails: the others go on, and it is served when it is back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from asyncjobs import AsyncJobs, Worker
from asyncjobs.errors import StoreError
from asyncjobs.events import JobStarted, LeaseLost
from asyncjobs.model.demand import Demand
from asyncjobs.model.settlement import Settlement
from asyncjobs.policy.fairness import QueueShares
from asyncjobs.store.answers import Exchange, Heartbeat
from asyncjobs.store.memory import MemoryBackend
from asyncjobs.store.memory.lease import MemoryLease
from asyncjobs.worker.engine.doubt import InDoubt
from tests.hooked import HookedStore
from tests.worker import jobs
from tests.worker.kit import LIMIT_S, Stage, events_of, register, until

pytestmark = pytest.mark.anyio

BROKEN = StoreError("planted: WRONGTYPE")
JOBS = 30


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncjobs.worker.engine.doubt.FIRST_S", 0.01)
    monkeypatch.setattr("asyncjobs.worker.engine.doubt.MOST_S", 0.02)


@pytest.fixture
def stage() -> Iterator[Stage]:
    jobs.stage = Stage()
    yield jobs.stage
    jobs.stage.open_all()


class Counting(HookedStore):
    """Counts what is asked of the queue `bad`."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = self.exchanges = self.beats = 0
        self.breaks_heartbeats = False

    async def exchange(
        self,
        lease: MemoryLease,
        sequence: int,
        settlements: Sequence[Settlement],
        demand: Mapping[str, Demand],
    ) -> Exchange:
        self.exchanges += 1
        settled = {settlement.job.queue for settlement in settlements}
        self.asked += "bad" in {*demand, *settled}
        return await super().exchange(lease, sequence, settlements, demand)

    async def beat(self, lease: MemoryLease, *, leaves: bool, info: bytes = b"") -> Heartbeat:
        self.beats += 1
        lease.spec = replace(lease.spec, queues=self._renewed(lease.spec.queues))
        beat = await super().beat(lease, leaves=leaves, info=info)
        return beat._replace(away={"bad": BROKEN} if self.breaks_heartbeats else {})

    def _renewed(self, queues: Collection[str]) -> tuple[str, ...]:
        is_bad = {"bad"} if self.breaks_heartbeats else set()
        return tuple(queue for queue in queues if queue not in is_bad)


def _app(store: MemoryBackend) -> tuple[AsyncJobs, Any, Any]:
    app = AsyncJobs(backend=store)
    echo = register(app, jobs.echo)
    return app, echo.options(queue="good"), echo.options(queue="bad")


QUEUES = {"good": 1, "bad": 1}


async def _all(function: Any, numbers: Sequence[int]) -> list[Any]:
    handles = [await function.enqueue(number) for number in numbers]
    return [await handle.result(LIMIT_S) for handle in handles]


async def test_the_others_go_on_and_it_is_named_once(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    store = Counting()
    app, good, bad = _app(store)
    async with app, Worker(app, queues=QUEUES):
        assert await _all(bad, [1]) == [1]
        waiting = await bad.enqueue(2)
        store.break_queue("bad", BROKEN)
        store._queues.wakes.signal("bad")
        assert await _all(good, range(JOBS)) == list(range(JOBS))
        await until(lambda: "queue 'bad' is left out" in caplog.text)
        store.break_queue("bad", None)
        assert await waiting.result(LIMIT_S) == 2
        await until(lambda: "queue 'bad' is back" in caplog.text)
    told = [r.getMessage() for r in caplog.records if "left out" in r.getMessage()]
    assert len(told) == 1
    assert "planted: WRONGTYPE" in told[0]


async def test_what_ended_meanwhile_is_settled_when_it_is_back(stage: Stage) -> None:
    store = Counting()
    app, good, _ = _app(store)
    gated = register(app, jobs.gated).options(queue="bad")
    started, lost = events_of(app, JobStarted), events_of(app, LeaseLost)
    async with app, Worker(app, queues=QUEUES, grace=2):
        handles = [await gated.enqueue("g") for _ in range(5)]
        await stage.noted(("started", "g"), 5)
        store.break_queue("bad", BROKEN)
        stage.open("g")
        assert await _all(good, range(JOBS)) == list(range(JOBS))
        store.break_queue("bad", None)
        for handle in handles:
            assert await handle.result(LIMIT_S) == "g"
    assert len(started) == 5 + JOBS
    assert lost == []


async def test_it_is_asked_with_pauses(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And nothing spins meanwhile, also when it is the only queue."""
    monkeypatch.setattr("asyncjobs.worker.engine.doubt.FIRST_S", 1000.0)
    monkeypatch.setattr("asyncjobs.worker.engine.doubt.MOST_S", 1000.0)
    for queues in (QUEUES, {"bad": 1}):
        store = Counting()
        app, good, _ = _app(store)
        caplog.clear()
        async with app, Worker(app, queues=queues, grace=0):
            store.break_queue("bad", BROKEN)
            store._queues.wakes.signal("bad")
            await until(lambda: "is left out" in caplog.text)
            asked, exchanges = store.asked, store.exchanges
            if "good" in queues:
                assert await _all(good, range(JOBS)) == list(range(JOBS))
            store._queues.wakes.signal("bad")
            for _ in range(1000):
                await asyncio.sleep(0)
            assert store.asked == asked
            assert store.exchanges - exchanges <= 3 * JOBS
            store.break_queue("bad", None)


async def test_a_worker_starts_without_it_and_enters_it_later(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    store = Counting()
    app, good, bad = _app(store)
    lost = events_of(app, LeaseLost)
    store.break_queue("bad", BROKEN)
    async with app:
        worker = Worker(app, queues=QUEUES, lease=1)
        async with worker:
            assert await _all(good, range(JOBS)) == list(range(JOBS))
            store.break_queue("bad", None)
            assert await _all(bad, [1]) == [1]
    assert lost == []
    assert "queue 'bad' is back" in caplog.text


async def test_a_worker_none_of_whose_queues_answers_does_not_start(stage: Stage) -> None:
    store = Counting()
    app, *_ = _app(store)
    store.break_queue("bad", BROKEN)
    async with app:
        with pytest.raises(StoreError, match="planted"):
            await Worker(app, queues=["bad"]).run()


async def test_nothing_is_taken_where_the_lease_is_not_renewed(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    store = Counting()
    app, good, bad = _app(store)
    async with app, Worker(app, queues=QUEUES, lease=1):
        assert await _all(bad, [1]) == [1]
        store.breaks_heartbeats = True
        await until(lambda: "queue 'bad' is left out" in caplog.text)
        waiting = await bad.enqueue(2)
        # The others are renewed, for longer than a lease lasts.
        for beats in range(store.beats + 1, store.beats + 6):
            await until(lambda beats=beats: store.beats >= beats)
            assert await _all(good, [3]) == [3]
        assert (await waiting.status()).value == "ready"
        store.breaks_heartbeats = False
        assert await waiting.result(LIMIT_S) == 2


async def test_a_stop_does_not_wait_for_it(stage: Stage) -> None:
    store = Counting()
    app, good, _ = _app(store)
    async with app:
        async with asyncio.timeout(LIMIT_S):
            async with Worker(app, queues=QUEUES, grace=1000):
                store.break_queue("bad", BROKEN)
                store._queues.wakes.signal("bad")
                assert await _all(good, range(3)) == [0, 1, 2]
                await until(lambda: store.asked > 0)


async def test_a_burst_does_not_take_it_for_empty(stage: Stage) -> None:
    store = Counting()
    app, good, bad = _app(store)
    async with app:
        handle = await bad.enqueue(1)
        await good.enqueue(2)
        store.break_queue("bad", BROKEN)
        burst = asyncio.create_task(Worker(app, queues=QUEUES).run(burst=True, burst_wait=0))
        await until(lambda: store.exchanges > 0)
        for _ in range(1000):
            await asyncio.sleep(0)
        assert not burst.done()
        store.break_queue("bad", None)
        await burst
        assert await handle.result(0) == 1


def test_slots_are_shared_among_the_others() -> None:
    shares = QueueShares({"a": 1, "bad": 8, "b": 1})
    shares.demand(9, 0.0)
    shares.learn_suspects(["bad"], {"bad": 1})
    shares.leave_out({"bad": 1})
    assert not shares.wanting()
    shares.look = True
    demand = shares.demand(9, 1.0, signalled=["bad", "a"])
    assert set(demand) == {"a", "b"}
    assert sum(one.slots for one in demand.values()) == 9
    shares.look = False
    assert "bad" not in shares.demand(1, 9.0)
    shares.leave_out(())
    assert shares.look
    assert set(shares.demand(9, 9.1)) == {"a", "bad", "b"}


def test_pauses_grow_until_an_exchange_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    doubts = InDoubt()
    pauses = []
    for _ in range(3):
        doubts.add({"bad": BROKEN}, (), 100.0)
        pauses.append(doubts.wake_s(100.0) - 100)
        assert doubts.due(100.0) == []
        assert doubts.due(101.0) == ["bad"]
        assert doubts.due(101.0, ["bad"]) == []
        doubts.resolve(["bad"])
    assert pauses == pytest.approx([0.01, 0.02, 0.02])
    doubts.note_exchange(["bad"])
    doubts.add({"bad": BROKEN}, (), 100.0)
    assert doubts.wake_s(100.0) == pytest.approx(100.01)
    assert caplog.text.count("is left out") == 2
    assert caplog.text.count("is back") == 1
