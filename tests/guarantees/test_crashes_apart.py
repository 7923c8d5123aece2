"""1,000 jobs of which ten crash their process: the others succeed, and no worker dies."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asyncjobs import AsyncJobs, JobFailed, RetryPolicy, Worker, constant
from asyncjobs.events import WorkerStarted, WorkerStopped
from asyncjobs.model.clock import new_id
from tests.worker import process_jobs as jobs

# Some 8 ms of processor time each: too long for each run of all tests.
pytestmark = [pytest.mark.anyio, pytest.mark.long]
LIMIT_S = 300.0


@pytest.mark.parametrize("kind", ["memory", "valkey", "redis"])
async def test_ten_of_a_thousand_crash_and_nobody_else(kind: str, servers: Any) -> None:
    url = "memory:"
    if kind != "memory":
        url = servers.get(kind).url
    app = AsyncJobs(url, prefix=f"test-{new_id()}")
    seen: list[Any] = []
    app.on(WorkerStarted, seen.append)
    app.on(WorkerStopped, seen.append)
    options: Any = {"isolation": "process", "retry": RetryPolicy(2, constant(0))}
    job = app.job(name="segfaults_if", **options)(jobs.segfaults_if)
    async with app, Worker(app) as worker:
        lease = worker.lease
        handles = await app.enqueue_many(job.bind(number, 100) for number in range(1, 1001))
        waits = (handle.result(LIMIT_S) for handle in handles)
        found = await asyncio.gather(*waits, return_exceptions=True)
        assert worker.lease == lease
        assert len(seen) == 1
    dead = [number for number, value in enumerate(found, 1) if isinstance(value, JobFailed)]
    assert dead == list(range(100, 1001, 100))
    assert all("SIGSEGV" in str(value) for value in found if isinstance(value, JobFailed))
    assert sum(value == number for number, value in enumerate(found, 1)) == 990
