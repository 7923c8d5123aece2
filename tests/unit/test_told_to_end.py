"""A worker that is told to end says so to the store at once, not with its next heartbeat."""

from __future__ import annotations

import asyncio

import pytest

from asyncjobs import AsyncJobs, Worker
from asyncjobs.backends.base import Heartbeat, LeaseSpec, StoreSettings
from asyncjobs.backends.memory import MemoryBackend

pytestmark = pytest.mark.anyio


class Told(MemoryBackend):
    """Notes what heartbeats say of the worker's end."""

    def __init__(self) -> None:
        super().__init__(StoreSettings())
        self.leaves: list[bool] = []
        self.is_told = asyncio.Event()

    async def heartbeat(self, lease: LeaseSpec) -> Heartbeat:
        self.leaves.append(lease.leaves)
        if lease.leaves:
            self.is_told.set()
        return await super().heartbeat(lease)


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
