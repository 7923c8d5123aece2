"""Memory runs out between two queues of one batch: each caller hears of its own queue."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asyncjobs import AsyncJobs, JobHandle, StoreFull
from asyncjobs.testing.servers import Server
from tests.faults.test_full import info
from tests.worker import jobs
from tests.worker.kit import register

pytestmark = pytest.mark.anyio

PAYLOAD = "x" * 400_000
STEP = 100_000


async def test_what_a_caller_hears_is_what_became_of_its_job(server: Server) -> None:
    app = AsyncJobs(server.url, connect_timeout=2)
    note = register(app, jobs.note)
    mail, shop = note.options(queue="mail"), note.options(queue="shop")
    split = 0
    async with app:
        await asyncio.gather(mail.enqueue("first"), shop.enqueue("first"))
        for spare in range(2 * STEP, 30 * STEP, STEP):
            used = int((await info(server))["used_memory"])
            await asyncio.to_thread(server.command, "CONFIG", "SET", "maxmemory", used + spare)
            before = await _stored(app)
            answers = await asyncio.gather(
                mail.enqueue(PAYLOAD), shop.enqueue(PAYLOAD), return_exceptions=True
            )
            assert all(isinstance(answer, JobHandle | StoreFull) for answer in answers)
            told = [_is_stored(answer) for answer in answers]
            assert [
                now - then for now, then in zip(await _stored(app), before, strict=True)
            ] == told
            split += told == [True, False]
            if all(told):
                break
        # With so much to spare for one of them, and not for the other.
        assert split


def _is_stored(answer: Any) -> int:
    return int(isinstance(answer, JobHandle))


async def _stored(app: AsyncJobs) -> list[int]:
    counts = await app.backend.inspect.queues.counts(["mail", "shop"])
    return [sum(count.ready) for count in counts]
