"""Context variables that travel with jobs past enqueue middleware, and one that cannot be read."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import Any

import pytest

from asyncjobs import AsyncJobs, EnqueueCall, JobFailed, JobHandle
from asyncjobs.jobs.enqueue_call import Send
from tests.worker import jobs
from tests.worker.kit import LIMIT_S, register, working

pytestmark = pytest.mark.anyio
tenant: ContextVar[str] = ContextVar("tenant", default="none")


async def tells() -> str:
    return tenant.get()


async def names_the_tenant(call: EnqueueCall, send: Send) -> JobHandle[Any]:
    """Enqueues for the tenant that the call names."""
    if tenant.get() != "none":
        return await send()
    token = tenant.set("default")
    try:
        return await send()
    finally:
        tenant.reset(token)


async def test_a_variable_that_cannot_be_loaded_fails_the_attempt(app: AsyncJobs) -> None:
    def load(stored: str) -> str:
        raise jobs.Broken(f"no {stored}")

    app.carry(tenant, dump=str, load=load)
    job = register(app, tells, retry=False)
    async with working(app):
        token = tenant.set("acme")
        handle = await job.enqueue()
        tenant.reset(token)
        with pytest.raises(JobFailed, match="no acme"):
            await handle.result(LIMIT_S)
        # The worker goes on.
        assert await (await job.enqueue()).result(LIMIT_S) == "none"


async def test_each_enqueue_carries_what_its_middleware_has_set(app: AsyncJobs) -> None:
    app.carry(tenant)
    job = register(app, tells, retry=False)
    job.enqueue_middleware(names_the_tenant)
    async with working(app):
        assert await (await job.enqueue()).result(LIMIT_S) == "default"
        # One call of the store takes many jobs, and each has passed a middleware of its own.
        handles = await app.enqueue_many([job.bind(), job.bind()])
        assert [await handle.result(LIMIT_S) for handle in handles] == ["default", "default"]


async def test_an_enqueue_of_a_thread_carries_the_variables_of_the_thread(app: AsyncJobs) -> None:
    app.carry(tenant)
    job = register(app, tells, retry=False)
    job.enqueue_middleware(names_the_tenant)

    def enqueue() -> JobHandle[str]:
        tenant.set("acme")
        return job.enqueue_sync()

    async with working(app):
        handle = await asyncio.to_thread(enqueue)
        assert await handle.result(LIMIT_S) == "acme"


async def test_a_call_that_is_added_while_others_are_stored_is_not_lost(app: AsyncJobs) -> None:
    job = register(app, tells)
    later = app.deferred()

    @job.enqueue_middleware
    async def adds_one(call: EnqueueCall, send: Send) -> JobHandle[Any]:
        if not adds_one_more:
            return await send()
        adds_one_more.pop()
        later.add(job.bind())
        return await send()

    adds_one_more = [True]
    async with app:
        later.add(job.bind())
        assert len(await later.send()) == 1
        assert len(later) == 1
        assert len(await later.send()) == 1
        assert len(later) == 0
