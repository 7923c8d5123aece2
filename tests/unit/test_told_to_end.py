"""A worker that is told to end says so to the store at once, not with its next heartbeat."""

from __future__ import annotations

import asyncio

import pytest

from asyncjobs import AsyncJobs, Worker
from asyncjobs.store.answers import Heartbeat
from asyncjobs.store.memory.lease import MemoryLease
from tests.hooked import HookedStore

pytestmark = pytest.mark.anyio


class Told(HookedStore):
    """Notes what heartbeats say of the worker's end."""

    def __init__(self) -> None:
        super().__init__()
        self.leaves: list[bool] = []
        self.is_told = asyncio.Event()

    async def beat(self, lease: MemoryLease, *, leaves: bool, info: bytes = b"") -> Heartbeat:
        self.leaves.append(leaves)
        if leaves:
            self.is_told.set()
        return await super().beat(lease, leaves=leaves, info=info)


async def test_it_is_told_at_once() -> None:
    store = Told()
    app = AsyncJobs(backend=store)
    # The next heartbeat by itself would come after five minutes.
    async with app, Worker(app, lease=1000) as worker:
        await asyncio.sleep(0)
        worker.expect_end()
        async with asyncio.timeout(20):
            await store.is_told.wait()
    assert set(store.leaves) == {True}
