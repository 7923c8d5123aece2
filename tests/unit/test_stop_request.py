"""The request to end a run: who made it, and whether it hurries."""

from __future__ import annotations

import asyncio

import pytest

from asyncjobs import AsyncJobs, Worker
from asyncjobs.events import LeaseLost, WorkerStopped
from asyncjobs.store.answers import Heartbeat
from asyncjobs.worker.stop_request import StopRequest
from tests.worker.kit import LIMIT_S, events_of

pytestmark = pytest.mark.anyio


async def test_nothing_is_asked_at_first() -> None:
    request = StopRequest()
    assert not request.is_made
    assert not request.is_from_outside
    assert not await request.is_hurried_within(0)


async def test_a_request_ends_the_wait() -> None:
    request = StopRequest()
    waiting = asyncio.create_task(request.wait())
    await asyncio.sleep(0)
    request.ask()
    async with asyncio.timeout(LIMIT_S):
        await waiting
    assert request.is_made
    assert request.is_from_outside
    assert not await request.is_hurried_within(0)


async def test_one_of_the_worker_itself_is_not_from_outside() -> None:
    request = StopRequest()
    request.ask_by_itself()
    assert request.is_made
    assert not request.is_from_outside


async def test_a_hurry_ends_the_wait_for_it_at_once() -> None:
    request = StopRequest()
    waiting = asyncio.create_task(request.is_hurried_within(10 * LIMIT_S))
    await asyncio.sleep(0)
    request.hurry()
    async with asyncio.timeout(LIMIT_S):
        assert await waiting
    assert await request.is_hurried_within(0)


async def test_a_beat_that_comes_after_the_farewell_loses_no_lease() -> None:
    app = AsyncJobs("memory://")
    lost = events_of(app, LeaseLost)
    stopped = events_of(app, WorkerStopped)
    async with app:
        async with Worker(app) as worker:
            shift = worker._shift
            assert shift is not None
        assert len(stopped) == 1
        beat = Heartbeat(lost=("default",), cancels=[], next_lease_end_ms=None, now_ms=0, ready=())
        shift._on_heartbeat(shift.session.spec, beat)
    assert lost == []


def test_a_worker_runs_again_on_another_loop() -> None:
    """Nothing of a run is bound to the worker: each has a request of its own."""
    worker = Worker(AsyncJobs("memory://"))
    for _ in range(2):
        asyncio.run(worker.run(burst=True, burst_wait=0))
