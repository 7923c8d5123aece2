"""The control connection: cut, half-open, away. A cancel is late then, and never lost."""

from __future__ import annotations

import asyncio
import logging
import re

import pytest

from asyncjobs import AsyncJobs, State, Worker
from asyncjobs.errors import StoreUnavailable
from asyncjobs.model.clock import new_id
from asyncjobs.store.lease import LeaseSpec
from asyncjobs.store.redis.backend import RedisBackend
from asyncjobs.store.redis.leases import RedisLease
from asyncjobs.store.seam import StoreSettings
from asyncjobs.testing.servers import Server
from tests.faults.proxy import proxy_to
from tests.worker import jobs
from tests.worker.kit import LIMIT_S, Stage, ended, eventually, listens, processor_of, register

pytestmark = pytest.mark.anyio


def commands(server: Server) -> int:
    """How many commands the server has had."""
    found = re.search(rb"total_commands_processed:(\d+)", server.command("INFO", "stats"))
    assert found
    return int(found[1])


async def test_a_cut_connection_is_made_anew(
    server: Server, stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    async with proxy_to(server.port) as proxy:
        app, direct = AsyncJobs(proxy.url), AsyncJobs(server.url)
        job = register(app, jobs.gated)
        async with app, direct, Worker(app, lease=600, grace=2):
            handle = await job.enqueue("g")
            await stage.noted(("started", "g"))
            await listens(direct)
            proxy.cut("control")

            async def is_heard() -> bool:
                await direct.handle(handle.id).cancel()
                return ("stopped", "g") in stage.notes

            await eventually(is_heard)
            await ended(direct, handle.id, State.CANCELLED)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_half_open_connection_is_found_out(
    server: Server, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asyncjobs.worker.lease.cancels.LISTEN_S", 0.2)
    async with proxy_to(server.port) as proxy:
        app, direct = AsyncJobs(proxy.url), AsyncJobs(server.url)
        job = register(app, jobs.gated)
        async with app, direct, Worker(app, lease=600, grace=2) as worker:
            handle = await job.enqueue("g")
            await stage.noted(("started", "g"))
            await listens(direct)
            processor = processor_of(worker)
            lease = processor.session.lease
            assert isinstance(lease, RedisLease)
            channel = lease.links.control
            channel._link.timeout_s = 0.3
            proxy.freeze("control")
            async with asyncio.timeout(LIMIT_S):
                while channel._is_subscribed:
                    await asyncio.sleep(0.01)
            proxy.thaw()
            proxy.cut("control")
            await listens(direct)
            async with asyncio.timeout(LIMIT_S):
                while not channel._is_subscribed:
                    await asyncio.sleep(0.01)
            assert await direct.handle(handle.id).cancel()
            await stage.noted(("stopped", "g"))


async def test_silence_is_an_error_and_a_slow_word_is_none(server: Server) -> None:
    async with proxy_to(server.port) as proxy:
        backend = RedisBackend(proxy.url, StoreSettings(command_timeout_s=0.3))
        lease = backend.attach(LeaseSpec(new_id(), "w", ("work",), 1000))
        try:
            for _ in range(3):
                assert await lease.listen(0.05) == ()
            proxy.freeze("control")
            with pytest.raises(StoreUnavailable, match="has not answered in 0"):
                await lease.listen(0.05)
            proxy.thaw()
            assert await lease.listen(0.05) == ()
        finally:
            await backend.close()


async def test_nothing_is_asked_while_nothing_is_said(server: Server) -> None:
    backend = RedisBackend(server.url)
    lease = backend.attach(LeaseSpec(new_id(), "w", ("work", "mail"), 1000))
    try:
        await lease.listen(0.01)
        before = commands(server)
        await lease.listen(0.5)
        after = commands(server)
    finally:
        await backend.close()
    # The end of the silent call, and one of these two looks.
    assert after - before <= 2
