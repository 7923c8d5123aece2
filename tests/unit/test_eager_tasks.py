"""On a loop whose tasks start at once, one may be over before its maker has its name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from asyncjobs.model.job import NewJob
from tests.unit.test_client import opened
from tests.unit.test_parking import SignallingLease, parking_on, sleep

pytestmark = pytest.mark.anyio

EAGER: Any = getattr(asyncio, "eager_task_factory", None)


@pytest.fixture(autouse=True)
async def _eager(anyio_backend: object) -> AsyncIterator[None]:
    if EAGER is None:
        pytest.skip("from Python 3.12 on")
    loop = asyncio.get_running_loop()
    loop.set_task_factory(EAGER)
    yield
    loop.set_task_factory(None)


async def test_a_wait_that_is_answered_at_once_is_followed_by_another() -> None:
    lease = SignallingLease()
    parking, appetite = parking_on(lease)
    for waits in (1, 2):
        lease.signal("a")
        await sleep(parking)
        assert (appetite.signals.signalled, len(lease.offers)) == ({"a"}, waits)
        appetite.signals.signalled.clear()
    await parking.close()


async def test_a_batch_that_is_stored_at_once_is_followed_by_another() -> None:
    async with opened() as (client, store):
        for name in ("a", "b"):
            with anyio.fail_after(10):
                assert await client.enqueue_many([NewJob("default", name, 2, b"")], ["f"]) == [None]
        assert store.sizes() == [1, 1]
