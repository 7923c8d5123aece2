"""Which queues a round over all of them forgets, and how often that is tried."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pytest

from asyncjobs.errors import StoreError
from asyncjobs.model.clock import now_ms
from asyncjobs.model.job import NewJob
from asyncjobs.store.inspect import Leftover, QueueCounts
from asyncjobs.store.lease import LeaseSpec
from asyncjobs.store.memory import MemoryBackend
from asyncjobs.store.memory.inspection import MemoryQueueInspection
from asyncjobs.store.memory.queues import Queues
from asyncjobs.store.seam import EnqueueBatch, StoreSettings
from asyncjobs.testing.conformance.store import LEASE_MS, PinnedClock
from asyncjobs.worker.duties.unattended import NEXT_S, Unattended
from asyncjobs.worker.idle_queues import EVERY_S, IDLE_MS, MOST_NAMED, IdleQueues

pytestmark = pytest.mark.anyio


class Asked(MemoryQueueInspection):
    """Forgets what it is asked to, and notes it."""

    def __init__(self, *, broken: str | None = None) -> None:
        super().__init__(Queues(StoreSettings(), now_ms))
        self.asked: list[list[str]] = []
        self.broken = broken

    async def forget(self, queues: Sequence[str], idle_ms: int) -> list[Leftover]:
        assert idle_ms == IDLE_MS
        if self.broken in queues:
            raise StoreError("planted: WRONGTYPE")
        self.asked.append(list(queues))
        return [Leftover(queue, wait_ms=int(queue == "young")) for queue in queues]


def count(queue: str, **numbers: int) -> QueueCounts:
    all_ = {"running": 0, "scheduled": 0, "dead": 0, "workers": 0} | numbers
    ready = all_.pop("ready", 0)
    return QueueCounts(queue, (0, 0, ready, 0), **all_)


@pytest.fixture(autouse=True)
def heard(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "asyncjobs.worker")
    return caplog


async def test_only_those_that_look_empty_are_asked_about(
    heard: pytest.LogCaptureFixture,
) -> None:
    store = Asked()
    idle = IdleQueues(store)
    full = [count(name, **{name: 1}) for name in ("ready", "running", "scheduled", "dead")]
    await idle.look([*full, count("served", workers=1), count("old"), count("young")])
    assert store.asked == [["old", "young"]]
    idle.end_round()
    (line,) = [record.getMessage() for record in heard.records]
    assert line == "forgotten, with no job left and no worker for a day: 1 queues: old"


async def test_one_that_cannot_be_read_keeps_no_other() -> None:
    store = Asked(broken="b")
    await IdleQueues(store).look([count("a"), count("b"), count("c")])
    assert [name for asked in store.asked for name in asked] == ["a", "c"]


async def test_a_round_in_an_hour_asks(heard: pytest.LogCaptureFixture) -> None:
    now_s = 5.0
    store = Asked()
    idle = IdleQueues(store, lambda: now_s)
    names = [f"queue-{number:02}" for number in range(MOST_NAMED + 1)]
    for _ in range(3):
        await idle.look([count(name) for name in names[:6]])
        await idle.look([count(name) for name in names[6:]])
        idle.end_round()
    assert len(store.asked) == 2
    (line,) = [record.getMessage() for record in heard.records]
    assert line.endswith("11 queues: " + ", ".join(names[:-1]) + ", ...")
    now_s += EVERY_S
    await idle.look([count("a")])
    assert len(store.asked) == 2
    idle.end_round()
    await idle.look([count("a")])
    assert len(store.asked) == 3


async def test_a_worker_of_other_queues_forgets_those_that_were_left() -> None:
    clock = PinnedClock()
    store = MemoryBackend(StoreSettings(), now_ms=clock)
    for queue in ("gone", "full", "served"):
        lease = await store.lease(LeaseSpec("lease", "worker", (queue,), LEASE_MS))
        if queue != "served":
            await lease.leave()
    await store.enqueue(EnqueueBatch("token", [NewJob("full", "a", 2, b"{}")]))
    clock.ms += IDLE_MS
    await lease.beat()
    duty = Unattended(store.inspect.queues, "one", [])
    while await duty.run() == NEXT_S:
        continue
    assert await store.inspect.queues.names() == ["full", "served"]
