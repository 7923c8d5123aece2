"""A store behind sentinels: worker and client follow the master, without a restart."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from typing import cast

import pytest
import redis

from asyncjobs import AsyncJobs, Worker
from asyncjobs.events import JobStarted, JobSucceeded, LeaseLost
from asyncjobs.testing.servers import ServerKind, available_servers
from tests.faults.sentinels import PATIENCE_S, Watched, ask, patiently
from tests.worker import jobs
from tests.worker.kit import Stage, events_of, register

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["valkey", "redis"])
def watched(request: pytest.FixtureRequest) -> Iterator[Watched]:
    kind = cast(ServerKind, request.param)
    if kind not in available_servers():
        pytest.skip(f"no {kind} server on this machine")
    with ExitStack() as stack:
        yield Watched(stack, kind)


async def test_a_killed_master_costs_no_job(
    watched: Watched, stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "asyncjobs.worker")
    await watched.ready()
    app = AsyncJobs(watched.url, connect_timeout=PATIENCE_S)
    started, succeeded, lost = (
        events_of(app, JobStarted),
        events_of(app, JobSucceeded),
        events_of(app, LeaseLost),
    )
    gated, note = register(app, jobs.gated), register(app, jobs.note)
    async with app, Worker(app, concurrency=10, lease=2, grace=2):
        running = [await gated.enqueue("g") for _ in range(10)]
        await stage.noted(("started", "g"), 10)
        waiting = [await note.enqueue(number) for number in range(100)]
        delayed = await note.options(delay=0.5).enqueue("delayed")
        waiters = [asyncio.create_task(handle.result(PATIENCE_S)) for handle in running]
        await watched.in_step()

        await asyncio.to_thread(watched.master.kill)
        during = asyncio.create_task(note.enqueue("during"))
        stage.open("g")

        assert await asyncio.gather(*waiters) == ["g"] * 10
        for handle in (*waiting, delayed, await during, await note.enqueue("after")):
            await handle.result(PATIENCE_S)
        assert f"{watched.replica.port}" not in app.store_info.address
    assert (len(started), len(succeeded), lost) == (113, 113, [])
    assert stage.count(("started", "g")) == 10
    assert caplog.text.count("store is back") == caplog.text.count("store is away") >= 1


# Sentinels wait ten seconds before they make a returned master a replica: on one kind only.
@pytest.mark.parametrize("watched", available_servers()[:1], indirect=True)
@pytest.mark.usefixtures("impatient")
async def test_a_stopped_master_that_returns_as_a_replica(watched: Watched, stage: Stage) -> None:
    await watched.ready()
    app = AsyncJobs(watched.url, connect_timeout=PATIENCE_S)
    lost = events_of(app, LeaseLost)
    gated, note = register(app, jobs.gated), register(app, jobs.note)
    async with app, Worker(app, concurrency=20, grace=2):
        running = [await gated.enqueue("g") for _ in range(10)]
        await stage.noted(("started", "g"), 10)
        await watched.in_step()
        # Nobody is told: the connections stay open, and nothing answers any more.
        os.kill(watched.master.pid, signal.SIGSTOP)
        try:
            await watched.failed_over()
            stage.open("g")
            for number in range(20):
                await (await note.enqueue(number)).result(PATIENCE_S)
            for handle in running:
                assert await handle.result(PATIENCE_S) == "g"
        finally:
            os.kill(watched.master.pid, signal.SIGCONT)

        async def is_replica() -> bool:
            try:
                role = await ask(watched.master, "ROLE")
            except redis.ConnectionError:
                return False  # sentinels close all connections of a server that they demote
            return bool(role[0] == b"slave" and role[3] == b"connected")

        await patiently(is_replica)
        for number in range(20, 40):
            await (await note.enqueue(number)).result(PATIENCE_S)
    assert lost == []
    assert stage.count(("started", "g")) == 10
    assert Counter(note for note in stage.notes if isinstance(note, int)) == Counter(range(40))
