"""The store goes away under a running worker and comes back: nothing is lost."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from asyncjobs import AsyncJobs, JobCancelled, State, StoreFull, StoreUnavailable, Worker
from asyncjobs.events import JobStarted, JobSucceeded, LeaseLost
from asyncjobs.testing.servers import Server
from tests.worker import jobs
from tests.worker.kit import LIMIT_S, Stage, counts, events_of, eventually, register, until

pytestmark = pytest.mark.anyio


async def test_a_killed_store_costs_no_job(
    durable: Server, stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "asyncjobs.worker")
    app = AsyncJobs(durable.url, connect_timeout=5)
    started, succeeded, lost = (
        events_of(app, JobStarted),
        events_of(app, JobSucceeded),
        events_of(app, LeaseLost),
    )
    job, echo = register(app, jobs.gated), register(app, jobs.echo)
    async with app, Worker(app, grace=2):
        before, during = await job.enqueue("before"), await job.enqueue("during")
        waiting = await echo.options(delay=0.5).enqueue("delayed")
        await stage.noted(("started", "during"))
        stage.open("before")
        assert await before.result(LIMIT_S) == "before"

        await asyncio.to_thread(durable.kill)
        stage.open("during")
        await until(lambda: "store is away" in caplog.text)
        await stage.noted(("left", "during"))
        await asyncio.to_thread(durable.restart)

        assert await during.result(LIMIT_S) == "during"
        assert await waiting.result(LIMIT_S) == "delayed"
        assert await (await echo.enqueue("after")).result(LIMIT_S) == "after"
        assert await before.result(LIMIT_S) == "before"
    assert (len(started), len(succeeded), lost) == (4, 4, [])
    assert caplog.text.count("store is away") == 1
    assert caplog.text.count("store is back") == 1


async def test_jobs_that_run_through_an_outage_keep_their_place(
    durable: Server, stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    app = AsyncJobs(durable.url, connect_timeout=5)
    job = register(app, jobs.gated)
    async with app, Worker(app, grace=2, lease=2):
        handles = [await job.enqueue("g") for _ in range(50)]
        await stage.noted(("started", "g"), 50)
        await asyncio.to_thread(durable.kill)
        # Longer than the lease: it is over, but nobody has taken it away.
        await asyncio.sleep(2.5)
        await asyncio.to_thread(durable.restart)

        async def back() -> bool:
            try:
                return (await counts(app)).running == 50
            except StoreUnavailable:
                return False

        await eventually(back)
        stage.open("g")
        for handle in handles:
            assert await handle.result(LIMIT_S) == "g"
    assert stage.count(("started", "g")) == 50
    assert ("stopped", "g") not in stage.notes


async def test_an_idle_worker_survives_an_outage(durable: Server) -> None:
    app = AsyncJobs(durable.url, connect_timeout=5)
    job = register(app, jobs.echo)
    async with app, Worker(app):
        assert await (await job.enqueue(1)).result(LIMIT_S) == 1
        for number in range(2):
            await asyncio.to_thread(durable.kill)
            await asyncio.to_thread(durable.restart)
            assert await (await job.enqueue(number)).result(LIMIT_S) == number


async def test_a_store_that_forgot_everything_is_entered_anew(server: Server, stage: Stage) -> None:
    app = AsyncJobs(server.url, connect_timeout=5)
    lost = events_of(app, LeaseLost)
    job, echo = register(app, jobs.gated), register(app, jobs.echo)
    async with app, Worker(app, grace=2, lease=1):
        await job.enqueue("g")
        await stage.noted(("started", "g"))
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.restart)
        await stage.noted(("stopped", "g"))
        assert await (await echo.enqueue(1)).result(LIMIT_S) == 1
    assert len(lost) == 1


async def test_stopping_without_a_store_ends(
    server: Server, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asyncjobs.worker.shift.LEAVE_S", 0.2)
    app = AsyncJobs(server.url, connect_timeout=0.3)
    job = register(app, jobs.gated)
    async with app:
        worker = Worker(app, grace=0)
        run = asyncio.create_task(worker.run())
        await job.enqueue("g")
        await stage.noted(("started", "g"))
        await asyncio.to_thread(server.kill)
        worker.stop()
        assert (await run).taken == 1
        assert ("stopped", "g") in stage.notes


async def test_waiters_and_enqueues_go_through_an_outage(durable: Server, stage: Stage) -> None:
    app = AsyncJobs(durable.url, connect_timeout=LIMIT_S)
    job = register(app, jobs.gated)
    async with app, Worker(app, grace=2):
        handle = await job.enqueue("g")
        await stage.noted(("started", "g"))
        waiter = asyncio.create_task(handle.result(LIMIT_S))
        await eventually(lambda: _is_subscribed(durable))
        await asyncio.to_thread(durable.kill)
        enqueue = asyncio.create_task(job.options(id="later").enqueue("h"))
        stage.open("g", "h")
        await asyncio.to_thread(durable.restart)
        assert await waiter == "g"
        later = await enqueue
        assert later.is_new
        assert await later.result(LIMIT_S) == "h"


async def _is_subscribed(server: Server) -> bool:
    """Whether somebody waits for a result, on the connection for that."""
    listed = await asyncio.to_thread(server.command, "CLIENT", "LIST")
    return any(
        b"name=asyncjobs:results " in line and b" sub=0 " not in line
        for line in listed.splitlines()
    )


async def _kill_clients(server: Server, label: str) -> int:
    """Close all connections of this name, from the server's side."""
    listed = await asyncio.to_thread(server.command, "CLIENT", "LIST")
    killed = 0
    for line in listed.decode().splitlines():
        fields = dict(part.split("=", 1) for part in line.split())
        if fields["name"] == f"asyncjobs:{label}":
            killed += await asyncio.to_thread(server.command, "CLIENT", "KILL", "ID", fields["id"])
    return killed


@pytest.mark.parametrize("label", ["client", "exchange", "wait", "results"])
async def test_a_killed_connection_is_opened_again(
    server: Server, stage: Stage, label: str
) -> None:
    app = AsyncJobs(server.url, connect_timeout=5)
    started = events_of(app, JobStarted)
    job, echo = register(app, jobs.gated), register(app, jobs.echo)
    async with app, Worker(app, grace=2, lease=2):
        handle = await job.enqueue("g")
        await stage.noted(("started", "g"))
        waiter = asyncio.create_task(handle.result(LIMIT_S))
        await eventually(lambda: _is_subscribed(server))
        assert await _kill_clients(server, label) >= 1
        for number in range(3):
            assert await (await echo.enqueue(number)).result(LIMIT_S) == number
        stage.open("g")
        assert await waiter == "g"
        assert await handle.status() is State.SUCCEEDED
    assert len(started) == 4


async def test_an_idle_connection_that_was_closed_is_no_outage(server: Server) -> None:
    # Servers and firewalls close what was idle for long; the next question is no failure.
    app = AsyncJobs(server.url, connect_timeout=5)
    job = register(app, jobs.echo)
    async with app:
        handle = await job.options(delay=600).enqueue(1)
        await _kill_clients(server, "client")
        assert await handle.status() is State.SCHEDULED
        await _kill_clients(server, "client")
        assert (await handle.info()).args == [1]
        await _kill_clients(server, "client")
        assert await handle.cancel()
        await _kill_clients(server, "client")
        with pytest.raises(JobCancelled):
            await handle.result(LIMIT_S)


async def test_connections_killed_under_load(server: Server, stage: Stage) -> None:
    app = AsyncJobs(server.url, connect_timeout=5)
    job = register(app, jobs.note)
    async with app, Worker(app, concurrency=50, grace=2):
        handles: list[Any] = []
        for round_ in range(10):
            handles += await app.enqueue_many([job.bind((round_ * 100) + n) for n in range(100)])
            await _kill_clients(server, "exchange")
        for handle in handles:
            await handle.result(LIMIT_S)
    assert sorted(stage.notes) == list(range(1000))


async def test_forgotten_scripts_are_loaded_again(server: Server, stage: Stage) -> None:
    app = AsyncJobs(server.url)
    started = events_of(app, JobStarted)
    job, echo = register(app, jobs.gated), register(app, jobs.echo)
    async with app, Worker(app, grace=2, lease=1):
        handle = await job.enqueue("g")
        await stage.noted(("started", "g"))
        for number in range(3):
            await asyncio.to_thread(server.command, "SCRIPT", "FLUSH")
            assert await (await echo.enqueue(number)).result(LIMIT_S) == number
        await asyncio.to_thread(server.command, "SCRIPT", "FLUSH")
        stage.open("g")
        assert await handle.result(LIMIT_S) == "g"
    assert len(started) == 4


async def test_a_lost_consumer_group_is_made_again(server: Server, stage: Stage) -> None:
    app = AsyncJobs(server.url)
    job = register(app, jobs.echo)
    async with app, Worker(app):
        assert await (await job.enqueue(1)).result(LIMIT_S) == 1
        key = "{asyncjobs:default}:ready:2"
        await asyncio.to_thread(server.command, "DEL", key)
        assert await (await job.enqueue(2)).result(LIMIT_S) == 2


async def test_a_full_store_refuses_new_jobs_only(server: Server, stage: Stage) -> None:
    app = AsyncJobs(server.url)
    job, echo = register(app, jobs.gated), register(app, jobs.echo)
    async with app, Worker(app, grace=2, lease=1):
        handles = [await job.enqueue("g") for _ in range(20)]
        queued = await echo.options(delay=0.2).enqueue("was there")
        await stage.noted(("started", "g"), 20)
        await asyncio.to_thread(server.command, "CONFIG", "SET", "maxmemory", "1mb")
        with pytest.raises(StoreFull, match="maxmemory"):
            await job.enqueue("refused")
        stage.open("g")
        for handle in handles:
            assert await handle.result(LIMIT_S) == "g"
        assert await queued.result(LIMIT_S) == "was there"
        await asyncio.to_thread(server.command, "CONFIG", "SET", "maxmemory", "0")
        assert await (await job.enqueue("g")).result(LIMIT_S) == "g"


async def test_a_stop_that_has_nothing_to_wait_for_does_not_wait_out_the_grace(
    durable: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "asyncjobs.worker")
    app = AsyncJobs(durable.url, connect_timeout=2)
    worker = Worker(app, grace=300)
    async with app:
        run = asyncio.create_task(worker.run())
        await until(lambda: worker._shift is not None)
        await asyncio.to_thread(durable.kill)
        async with asyncio.timeout(30):
            while "store is away" not in caplog.text:
                await asyncio.sleep(0.01)
        worker.stop()
        async with asyncio.timeout(60):
            assert (await run).released == 0
