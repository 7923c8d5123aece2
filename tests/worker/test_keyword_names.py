"""A parameter of a job function may have any name, also one that our own methods use."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from asyncjobs import INJECTED, AsyncJobs, JobContext
from tests.worker.kit import LIMIT_S, working

pytestmark = pytest.mark.anyio

NAMES = (
    "self",
    "cls",
    "args",
    "kwargs",
    "function",
    "func",
    "name",
    "options",
    "job",
    "run",
    "call",
    "handle",
    "id",
    "queue",
    "delay",
    "at",
    "timeout",
    "retry",
    "context",
    "begin",
    "event",
)


async def anything(**given: Any) -> dict[str, Any]:
    return given


def in_thread(**given: Any) -> dict[str, Any]:
    return given


async def owned(self: str, *, ctx: JobContext = INJECTED) -> str:
    return f"{self} {ctx.attempt}"


@pytest.mark.parametrize("function", [anything, in_thread])
async def test_any_name_reaches_the_function(app: AsyncJobs, function: Any) -> None:
    job = app.job(function)
    given = {name: number for number, name in enumerate(NAMES)}
    async with working(app):
        handles = [
            await job.enqueue(**given),
            await job.options(priority="high").enqueue(**given),
            *await app.enqueue_many([job.bind(**given)]),
        ]
        for handle in handles:
            assert await handle.result(LIMIT_S) == given
        assert await job(**given) == given


async def test_self_may_be_a_parameter(app: AsyncJobs) -> None:
    job = app.job(owned)
    async with working(app):
        assert await (await job.enqueue(self="me")).result(LIMIT_S) == "me 1"
        assert await job(self="me") == "me 1"


async def test_from_a_thread(app: AsyncJobs) -> None:
    job = app.job(anything)
    handles = []

    def enqueue() -> None:
        handles.append(job.enqueue_sync(self=1, kwargs=2))

    async with working(app):
        thread = threading.Thread(target=enqueue)
        thread.start()
        async with asyncio.timeout(LIMIT_S):
            while thread.is_alive():
                await asyncio.sleep(0.01)
        assert await handles[0].result(LIMIT_S) == {"self": 1, "kwargs": 2}
