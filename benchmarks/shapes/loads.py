"""Jobs as they are found in the wild: they wait, fail, are large, or many, in several processes."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final

from asyncjobs import AsyncJobs, RetryPolicy, Worker, constant
from benchmarks import fleet, timing
from benchmarks.asking import Asking
from benchmarks.shapes.running import LIMIT_S, Figures, fill, run_all
from benchmarks.sizes import JOBS, count

__all__ = ["mix", "payloads", "processes", "waiting"]

START_S: Final = 60.0
PAYLOADS: Final = {"100 B": 100, "1 KB": 1_000, "100 KB": 100_000}


async def waiting(asking: Asking, size: float) -> Figures:
    """Jobs that sleep 0.1 s, 1,000 at a time: how much longer than the ideal it takes."""
    jobs = count(JOBS["waiting"][0], size)
    app = AsyncJobs(asking.url, result_ttl=0)
    job = app.job(queue="bench", name="sleep")(fleet.sleep)
    async with app:
        await fill(app, [job.bind() for _ in range(jobs)])
        await run_all(app, "bench", concurrency=1_000, jobs=jobs)
    slept_s = fleet.slept_s
    if len(slept_s) != jobs:
        raise SystemExit(f"{len(slept_s):,} of {jobs:,} jobs have run")
    ideal_s = 0.1 * -(-jobs // 1_000)
    return {"time, against the ideal": ((slept_s[-1][1] - slept_s[0][0]) / ideal_s, "times")}


async def mix(asking: Asking, size: float) -> Figures:
    """1 KB arguments, one job in ten fails once, three priorities, results kept."""
    jobs = count(JOBS["mix"][0], size)
    # A short pause, so that the last retry does not decide; its 2,000 warnings are not written.
    app = AsyncJobs(asking.url, retry=RetryPolicy(max_attempts=3, backoff=constant(0.05)))
    logging.getLogger("asyncjobs").setLevel(logging.ERROR)
    job = app.job(queue="bench", name="flaky")(fleet.flaky.function)
    text = "x" * 1_000
    kinds = [job.options(priority=name) for name in ("high", "normal", "low")]
    async with app:
        await fill(app, [kinds[n % 3].bind(n, text) for n in range(jobs)])
        started_s = time.perf_counter()
        tries = jobs + -(-jobs // 10)
        await Worker(app, queues=["bench"], concurrency=1_000).run(burst=True, max_jobs=tries)
        rate = tries / (time.perf_counter() - started_s)
    return {"attempts": (rate, "attempts/s")}


async def payloads(asking: Asking, size: float) -> Figures:
    """Enqueued and run with arguments of 100 B, 1 KB and 100 KB."""
    figures: dict[str, tuple[float, str]] = {}
    for (name, length), full in zip(PAYLOADS.items(), JOBS["payloads"], strict=True):
        jobs = count(full, size)
        app = AsyncJobs(asking.url, result_ttl=0)
        job = app.job(queue="bench", name="noop")(fleet.noop.function)
        text = "x" * length
        async with app:
            started_s = time.perf_counter()
            await fill(app, [job.bind(n, text) for n in range(jobs)], 1_000)
            sent_s = time.perf_counter() - started_s
            rate = await run_all(app, "bench", concurrency=1_000, jobs=jobs)
        figures[f"enqueue_many, {name}"] = (jobs / sent_s, "jobs/s")
        figures[f"run, {name}"] = (rate, "jobs/s")
    return figures


async def processes(asking: Asking, size: float) -> Figures:
    """No-op jobs a second of 1, 2 and 4 worker processes, once all of them are at work."""
    figures: dict[str, tuple[float, str]] = {}
    queue = fleet.QUEUES[0]
    for processes, full in zip((1, 2, 4), JOBS["processes"], strict=True):
        jobs = count(full, size)
        app = AsyncJobs(asking.url, result_ttl=0)
        job = app.job(queue=queue, name=fleet.noop.name)(fleet.noop.function)
        options = ["--queues", queue, "--processes", str(processes), "--lease", "60s"]
        async with app:
            with fleet.worker(asking.url, *options) as process:
                await _at_work(app, queue, processes)
                with fleet.stopped(process):
                    await timing.fill(app, job, jobs)
                started_s = time.perf_counter()
                async with asyncio.timeout(LIMIT_S):
                    while await asking.unfinished(app, queue):  # noqa: ASYNC110 - nobody is told
                        await asyncio.sleep(0.005)
                passed_s = time.perf_counter() - started_s
        name = "1 process" if processes == 1 else f"{processes} processes"
        figures[name] = (jobs / passed_s, "jobs/s")
    return figures


async def _at_work(app: AsyncJobs, queue: str, processes: int) -> None:
    """Until each process has its lease, and those of the last round are gone."""
    try:
        async with asyncio.timeout(START_S):
            while (found := (await timing.counts_of(app, queue)).workers) != processes:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise SystemExit(
            f"{found} of {processes} worker processes were at work after {START_S:g} s; "
            "try again when the machine is less busy"
        ) from None
