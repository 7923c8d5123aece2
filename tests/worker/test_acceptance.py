"""The two great numbers: 20,000 jobs of all kinds, and 5,000 at the same time."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from asyncjobs import AsyncJobs, JobCall, RetryPolicy, State, Worker, constant
from asyncjobs.events import JobRetryScheduled, JobSucceeded
from tests.worker import jobs
from tests.worker.kit import Stage, counts, eventually, is_settled, register, until

pytestmark = pytest.mark.anyio

JOBS = 20_000
CALLERS = 100
PRIORITIES = ("critical", "high", "normal", "low")
LONG_S = 60.0


async def test_every_job_is_recorded_succeeded_once(app: AsyncJobs, ledger: Path) -> None:
    seed = random.getrandbits(32)
    print(f"seed: {seed}")
    chance = random.Random(seed)
    retry = RetryPolicy(3, constant(0.1))
    in_loop = register(app, jobs.booked, retry=retry)
    in_thread = register(app, jobs.booked_in_thread, retry=retry)
    succeeded: Counter[str] = Counter()
    app.on(JobSucceeded, lambda event: succeeded.update((event.ref.id,)))
    retried: list[int] = []
    app.on(JobRetryScheduled, lambda event: retried.append(event.attempt))

    fails = {number: 2 if chance.random() < 0.1 else 0 for number in range(JOBS)}
    plan: list[JobCall[Any]] = []
    for number in range(JOBS):
        function = in_thread if chance.random() < 0.1 else in_loop
        function = function.options(
            id=str(number),
            priority=chance.choice(PRIORITIES),
            delay=chance.choice((None, None, chance.uniform(0, 2))),
        )
        plan.append(function.bind(number, fails[number]))

    async def caller(first: int) -> None:
        for call in plan[first::CALLERS]:
            assert (await call.function.enqueue(*call.args)).is_new

    async with app, Worker(app, concurrency=1000, grace=2):
        async with asyncio.timeout(LONG_S):
            await asyncio.gather(*(caller(first) for first in range(CALLERS)))
            while not (len(succeeded) == JOBS and await is_settled(app)):
                await asyncio.sleep(0.02)
        handles = [app.handle(str(number), "default") for number in range(0, JOBS, 97)]
        for handle in handles:
            assert await handle.status() is State.SUCCEEDED
            assert await handle.result(0) == int(handle.id)
        assert (await counts(app)).dead == 0

    assert succeeded == Counter(str(number) for number in range(JOBS))
    executions = Counter(ledger.read_bytes().splitlines())
    assert executions == Counter(
        f"{number} {attempt}".encode()
        for number in range(JOBS)
        for attempt in range(1, fails[number] + 2)
    )
    flaky = sum(1 for count in fails.values() if count)
    assert Counter(retried) == {1: flaky, 2: flaky}


async def test_five_thousand_at_a_time_on_six_connections(
    app: AsyncJobs, stage: Stage, kind: str, servers: Any
) -> None:
    job = register(app, jobs.meets)
    async with app, Worker(app, concurrency=5000, grace=2):
        await app.enqueue_many([job.bind(5000) for _ in range(5000)])
        # The last one in opens the gate, so at that moment all of them run.
        await until(lambda: stage.count("in") == 5000)
        if kind != "memory":
            listed = await asyncio.to_thread(servers.get(kind).command, "CLIENT", "LIST")
            assert 0 < listed.count(b"name=asyncjobs:") <= 6
        assert (await counts(app)).running == 5000

        async def done() -> bool:
            return await is_settled(app)

        await eventually(done)
