"""Queues without a worker: who looks, at how many, and how much is said."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, cast

import pytest

from asyncjobs.errors import StoreError
from asyncjobs.model.clock import now_ms
from asyncjobs.store.control import Pause
from asyncjobs.store.inspect import QueueCounts, Survey
from asyncjobs.store.memory.inspection import MemoryQueueInspection
from asyncjobs.store.memory.operating import MemoryQueueControl
from asyncjobs.store.memory.queues import Queues
from asyncjobs.store.seam import StoreSettings
from asyncjobs.worker.duties.unattended import LOOK, MOST_LINES, NEXT_S, Unattended

pytestmark = pytest.mark.anyio


class Fleet(MemoryQueueInspection):
    """A store with queues that nobody serves, and what it was asked."""

    def __init__(self, number: int, *, jobs: int = 3, workers: int = 0) -> None:
        super().__init__(Queues(StoreSettings(), now_ms))
        self.all_names = [f"queue-{number:05}" for number in range(number)]
        self.asked: list[int] = []
        self.jobs = jobs
        self.workers_there = workers
        cast(dict[str, Any], self._queues.by_name).update(dict.fromkeys(self.all_names))

    async def counts(self, queues: Sequence[str]) -> list[QueueCounts]:
        self.asked.append(len(queues))
        return [
            QueueCounts(queue, (0, 0, self.jobs, 0), 0, 0, 0, self.workers_there)
            for queue in queues
        ]

    async def names(self) -> list[str]:
        raise AssertionError("all queues in one go")


async def one_round(duty: Unattended) -> None:
    while await duty.run() == NEXT_S:
        continue


@pytest.fixture(autouse=True)
def heard(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.WARNING, "asyncjobs.worker")
    return caplog


async def test_each_look_is_bounded_and_so_is_the_log(heard: pytest.LogCaptureFixture) -> None:
    store = Fleet(1_050)
    duty = Unattended(store, "one", ["queue-00000"])
    await one_round(duty)
    assert store.asked == [LOOK - 1, LOOK, LOOK, LOOK, LOOK, 50]
    lines = [record.getMessage() for record in heard.records]
    assert len(lines) == MOST_LINES + 1
    assert lines[0].startswith("queue 'queue-00001' has no live worker; jobs waiting there: 3;")
    assert lines[-1].startswith(f"{1_049 - MOST_LINES} more queues hold jobs and have no live")
    await one_round(duty)
    assert len(heard.records) == MOST_LINES + 1


async def test_a_paused_queue_is_not_told(heard: pytest.LogCaptureFixture) -> None:
    store = Fleet(3)
    control = MemoryQueueControl(store._queues)
    paused = {"queue-00000": None, "queue-00001": "send"}

    async def which(queues: Sequence[str]) -> list[list[Pause]]:
        return [[Pause(q, paused[q], 0, b"{}")] if q in paused else [] for q in queues]

    control.paused = which  # type: ignore[method-assign]
    await one_round(Unattended(store, "one", [], control))
    lines = [record.getMessage() for record in heard.records]
    assert [line.split("'")[1] for line in lines] == ["queue-00001", "queue-00002"]


async def test_one_worker_of_the_fleet_looks() -> None:
    store = Fleet(300)
    first, second = Unattended(store, "one", []), Unattended(store, "two", [])
    assert await first.run() == NEXT_S
    assert await second.run() >= 20
    await one_round(first)
    assert await second.run() >= 20
    assert store.asked == [LOOK, 100]


async def test_a_queue_that_was_served_in_between_is_told_again(
    heard: pytest.LogCaptureFixture,
) -> None:
    store = Fleet(1)
    duty = Unattended(store, "one", [])
    told = []
    for workers, jobs in [(0, 3), (0, 3), (1, 3), (0, 3), (0, 0), (0, 3)]:
        store.workers_there, store.jobs = workers, jobs
        await one_round(duty)
        told.append(len(heard.records))
    assert told == [1, 1, 1, 2, 2, 3]


async def test_when_it_is_not_its_turn_nothing_is_asked() -> None:
    class Busy(Fleet):
        async def survey(self, asker: str, about: int, turn_ms: int) -> Survey:
            return Survey(is_turn=False, is_last=False, queues=[])

    store = Busy(3)
    assert await Unattended(store, "one", []).run() >= 20
    assert store.asked == []


class Broken(Fleet):
    """A store in which one queue cannot be read."""

    def __init__(self, number: int, broken: str) -> None:
        super().__init__(number)
        self.broken: str | None = broken

    async def counts(self, queues: Sequence[str]) -> list[QueueCounts]:
        if self.broken in queues:
            raise StoreError("planted: WRONGTYPE")
        return await super().counts(queues)


async def test_a_queue_that_cannot_be_read_hides_no_other(
    heard: pytest.LogCaptureFixture,
) -> None:
    store = Broken(7, "queue-00003")
    duty = Unattended(store, "one", [])
    await one_round(duty)
    await one_round(duty)
    lines = [record.getMessage() for record in heard.records]
    assert len([line for line in lines if "has no live worker" in line]) == 6
    broken = "queue 'queue-00003' cannot be read: planted: WRONGTYPE"
    assert lines.count(broken) == 1
    store.broken = None
    await one_round(duty)
    store.broken = "queue-00003"
    await one_round(duty)
    assert [record.getMessage() for record in heard.records].count(broken) == 2
    # The errors that it raised may keep it for a while, and its queues are names alone.
    store._queues.by_name.clear()
