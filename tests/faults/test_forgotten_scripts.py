"""A server that forgets its scripts (a restart, SCRIPT FLUSH): nobody hears of it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Any

import pytest

from asyncjobs import AsyncJobs, StoreUnavailable, Worker
from asyncjobs.store.redis.address import Address
from asyncjobs.store.redis.link import MOST_LOADS, Command, Link
from asyncjobs.testing.servers import Server
from tests.worker import jobs
from tests.worker.kit import LIMIT_S, register

pytestmark = pytest.mark.anyio

CALLERS = 2_000


async def tell(server: Server, *command: str) -> Any:
    return await asyncio.to_thread(server.command, *command)


async def _calls(server: Server, command: str) -> int:
    """How often clients have called this command, by the server's own count."""
    text: str = (await tell(server, "INFO", "commandstats")).decode()
    for line in text.splitlines():
        if line.startswith(f"cmdstat_{command}:"):
            return int(line.partition("calls=")[2].partition(",")[0])
    return 0


class Flushes:
    """Makes the server forget its scripts in front of the next trips that call one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, server: Server, times: int) -> None:
        self.left = times
        self._server = server
        self._send = Link._send
        monkeypatch.setattr(Link, "_send", lambda link, *args: self.send(link, *args))

    async def send(
        self, link: Link, commands: Sequence[Command], timeout_s: float, keeps_cancelled: bool
    ) -> list[Any]:
        """What a flush between the load of a script and its call comes to."""
        if self.left and any(command[0] == b"SCRIPT" for command in commands):
            self.left -= 1
            load, *calls = commands
            (loaded,) = await self._send(link, (load,), timeout_s, keeps_cancelled)
            await tell(self._server, "SCRIPT", "FLUSH")
            return [loaded, *await self._send(link, calls, timeout_s, keeps_cancelled)]
        return await self._send(link, commands, timeout_s, keeps_cancelled)


async def test_many_callers_load_a_script_once(app: AsyncJobs, server: Server) -> None:
    job = register(app, jobs.echo)
    async with app:
        handle = await job.enqueue(0)
        await tell(server, "SCRIPT", "FLUSH")
        before = await _calls(server, "script|load")
        states = await asyncio.gather(*(handle.status() for _ in range(CALLERS)))
        assert len(states) == CALLERS
        assert await _calls(server, "script|load") == before + 1


async def test_what_others_wait_for_is_loaded_once_too(app: AsyncJobs, server: Server) -> None:
    """Also when the server forgets the script again, before the second try."""
    job = register(app, jobs.echo)
    async with app:
        handle = await job.enqueue(0)
        with pytest.MonkeyPatch.context() as patches:
            flushes = Flushes(patches, server, 1)
            await tell(server, "SCRIPT", "FLUSH")
            before = await _calls(server, "script|load")
            states = await asyncio.gather(*(handle.status() for _ in range(CALLERS)))
            assert flushes.left == 0
        assert len(states) == CALLERS
        assert await _calls(server, "script|load") == before + 2


@pytest.mark.parametrize("times", [1, MOST_LOADS - 1])
async def test_enqueues_and_results_outlast_further_flushes(
    app: AsyncJobs, server: Server, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    job = register(app, jobs.echo)
    async with app, Worker(app, grace=2, lease=5):
        assert await (await job.enqueue(0)).result(LIMIT_S) == 0
        flushes = Flushes(monkeypatch, server, times)
        await tell(server, "SCRIPT", "FLUSH")
        alone = await job.enqueue(1)
        many = await app.enqueue_many([job.bind(number) for number in range(2, 50)])
        results = [handle.result(LIMIT_S) for handle in (alone, *many)]
        assert await asyncio.gather(*results) == list(range(1, 50))
        assert flushes.left == 0


async def test_a_server_that_forgets_each_time_is_unavailable(
    app: AsyncJobs, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No internal error, and no call that never ends."""
    job = register(app, jobs.echo)
    async with app:
        handle = await job.enqueue(0)
        flushes = Flushes(monkeypatch, server, 1_000_000)
        await tell(server, "SCRIPT", "FLUSH")
        with pytest.raises(StoreUnavailable, match="has forgotten a script"):
            await handle.status()
        with pytest.raises(StoreUnavailable, match="SCRIPT FLUSH"):
            await job.enqueue(1)
        flushes.left = 0
        assert (await job.enqueue(2)).is_new


async def test_one_call_outlasts_further_flushes(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On its own: callers try again after a failure, and would hide one."""
    flushes = Flushes(monkeypatch, server, MOST_LOADS - 1)
    link = Link(Address.parse(server.url), label="test", connect_timeout_s=5, timeout_s=5)
    text = b"return 1"
    call = (b"EVALSHA", hashlib.sha1(text).hexdigest().encode(), b"0")
    try:
        assert await link.script_calls(text, [call]) == [1]
    finally:
        await link.close()
    assert flushes.left == 0
