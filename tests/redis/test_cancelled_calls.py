"""Callers who leave while their enqueue is on its way."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest

from asyncjobs import AsyncJobs
from asyncjobs.store.redis.address import Address
from asyncjobs.store.redis.link import Link
from asyncjobs.testing.servers import Server, start_server

pytestmark = pytest.mark.anyio


async def never_run(number: int) -> None:
    """No worker is here."""


def _connections(server: Server) -> int:
    text = bytes(server.command("INFO", "stats")).decode()
    (line,) = [line for line in text.splitlines() if line.startswith("total_connections")]
    return int(line.partition(":")[2])


async def test_a_caller_who_leaves_costs_no_connection() -> None:
    """And the answers that come after it are those of the others."""
    with start_server("valkey") as server:
        await _leave_often(server)


async def _leave_often(server: Server) -> None:
    app = AsyncJobs(server.url)
    note = app.job(never_run)

    async with app:
        await note.enqueue(0)
        before = await anyio.to_thread.run_sync(_connections, server)
        left = 0
        for number in range(1, 31):
            task = asyncio.create_task(note.enqueue(number))
            # A turn to begin, one in which others may join; in the third it has been sent.
            for _ in range(2 + number % 3):
                await asyncio.sleep(0)
            task.cancel()
            done = await asyncio.gather(task, return_exceptions=True)
            left += isinstance(done[0], asyncio.CancelledError)
            handle = await note.options(id=f"after-{number}").enqueue(number)
            assert handle.is_new
            again = await note.options(id=f"after-{number}").enqueue(number)
            assert not again.is_new
        assert left > 0
        assert await anyio.to_thread.run_sync(_connections, server) == before


async def test_a_connection_that_opens_when_its_caller_leaves_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    link = Link(Address.parse("redis://localhost"), label="test", connect_timeout_s=9, timeout_s=9)
    gate: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    discarded: list[Any] = []

    begun = asyncio.Event()

    async def opened() -> Any:
        begun.set()
        return await gate

    async def discard(connection: Any) -> None:
        discarded.append(connection)

    monkeypatch.setattr(link, "_open", opened)
    monkeypatch.setattr(link, "_discard", discard)
    caller = asyncio.create_task(link.connect())
    await begun.wait()
    gate.set_result("a connection")
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert discarded == ["a connection"]
