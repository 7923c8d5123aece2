"""Memory has run out: new jobs are refused, and all else goes on until there is room."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asyncjobs import AsyncJobs, JobCancelled, JobFunction, State, StoreFull, Worker
from asyncjobs.events import JobsReclaimed, LeaseLost
from asyncjobs.model.clock import new_id
from asyncjobs.model.demand import Demand
from asyncjobs.model.notes import PROGRESS, Note
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.lease import LeaseSpec
from asyncjobs.store.redis.backend import RedisBackend
from asyncjobs.testing.servers import Server
from tests.worker import jobs
from tests.worker.kit import LIMIT_S, Stage, ended, events_of, eventually, is_settled, register

pytestmark = pytest.mark.anyio

FILLER = "x" * 60_000


async def test_a_full_store_is_drained_by_everything_but_enqueue(
    server: Server, stage: Stage
) -> None:
    app = AsyncJobs(server.url, result_ttl=60)
    gated, flaky, echo = (
        register(app, jobs.gated),
        register(app, jobs.flaky, retry=5),
        register(app, jobs.echo),
    )
    fill = register(app, jobs.note, result_ttl=0)
    reclaimed, lost = events_of(app, JobsReclaimed), events_of(app, LeaseLost)
    async with app:
        left = await gated.options(priority="critical").enqueue("left")
        dead_worker = RedisBackend(server.url)
        gone = await dead_worker.lease(LeaseSpec(new_id(), "gone", ("default",), 300))
        (taken,) = (await gone.exchange(1, [], {"default": Demand(1)})).jobs
        assert taken.id == left.id
        await dead_worker.close()

        released = await gated.options(priority="high").enqueue("released")
        marked = await gated.options(priority="high").enqueue("marked")
        again = await flaky.enqueue(2)
        later = await echo.options(delay=0.1).enqueue("later")
        removed = await echo.options(delay=3600).enqueue("removed")
        used = int((await info(server))["used_memory"])
        await asyncio.to_thread(server.command, "CONFIG", "SET", "maxmemory", used + 4_000_000)
        filled = await fill_up(fill)
        assert filled > 10

        # Registering, taking, renewing, cancelling what runs and what does not, releasing.
        async with Worker(app, concurrency=2, lease=1, grace=0):
            await stage.noted(("started", "released"))
            await stage.noted(("started", "marked"))
            with pytest.raises(StoreFull, match="maxmemory"):
                await echo.enqueue("refused")
            assert await removed.cancel()
            await marked.cancel()
            with pytest.raises(JobCancelled):
                await marked.result(LIMIT_S)
        assert await released.status() is not State.RUNNING
        # Reclaiming, settling, retrying, promoting.
        stage.open("left", "released")
        async with Worker(app, concurrency=20, lease=1, grace=2):
            assert await left.result(LIMIT_S) == "left"
            assert await released.result(LIMIT_S) == "released"
            assert await again.result(LIMIT_S) == 3
            assert await later.result(LIMIT_S) == "later"
            await ended(app, removed.id, State.CANCELLED)
            await eventually(lambda: is_settled(app))
            assert await (await echo.enqueue("room again")).result(LIMIT_S) == "room again"
    assert sum(event.jobs for event in reclaimed) == 1
    assert lost == []
    assert len([note for note in stage.notes if str(note).startswith("xxx")]) == filled


async def test_each_call_but_enqueue_is_answered(server: Server) -> None:
    """Also by a server that has forgotten the scripts."""
    app = AsyncJobs(server.url, prefix="full")
    fill = register(app, jobs.note)
    async with app:
        used = int((await info(server))["used_memory"])
        await asyncio.to_thread(server.command, "CONFIG", "SET", "maxmemory", used + 4_000_000)
        await fill_up(fill)
        await asyncio.to_thread(server.command, "CONFIG", "SET", "maxmemory", used)
        store = RedisBackend(server.url, app.settings.store())
        await asyncio.to_thread(server.command, "SCRIPT", "FLUSH")
        try:
            await store.open()
            await store.lease(LeaseSpec(new_id(), "other", ("default", "mail"), 1))
            mine = await store.lease(LeaseSpec(new_id(), "mine", ("default",), 60_000))
            taken = (await mine.exchange(1, [], {"default": Demand(4)})).jobs
            await mine.note([Note(taken[0], PROGRESS, b"half")])
            await mine.beat()
            assert len((await mine.resync(2, taken[:2])).missing) == 2
            await store.cancel([job.ref for job in taken[:2]], None, 0)
            done = [Settlement.succeeded(job) for job in taken[:2]]
            again = [Settlement.release(taken[2]), Settlement.reschedule(taken[3], b"again", 0)]
            assert not (await mine.exchange(3, [*done, *again], {})).not_yours
            await eventually(lambda: ended_leases(store))
            await store.prune(["default"], 10)
            await store.inspect.queues.counts(["default"])
            await store.get([job.ref for job in taken])
            await mine.leave()
        finally:
            await store.close()
        with pytest.raises(StoreFull):
            await fill.enqueue("refused")


async def ended_leases(store: RedisBackend) -> bool:
    return (await store.reclaim(["default", "mail"], 10_000, 100)).leases > 0


async def fill_up(fill: JobFunction[..., Any]) -> int:
    """Enqueue until the store refuses; how many it took."""
    filled = 0
    while True:
        try:
            await fill.enqueue(FILLER + str(filled))
        except StoreFull:
            return filled
        filled += 1


async def info(server: Server) -> dict[str, str]:
    text: bytes = await asyncio.to_thread(server.command, "INFO", "memory")
    return dict(line.split(":", 1) for line in text.decode().splitlines() if ":" in line)
