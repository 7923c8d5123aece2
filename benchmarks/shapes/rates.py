"""Jobs a second, of no-ops in this process."""

from __future__ import annotations

import asyncio
import time

from asyncjobs import AsyncJobs
from benchmarks import fleet, floor, noop, timing
from benchmarks.asking import Asking
from benchmarks.shapes.running import Figures
from benchmarks.sizes import CONCURRENCIES, ENQUEUES, JOBS, count

__all__ = ["bulk", "enqueue", "results", "throughput"]


async def enqueue(asking: Asking, size: float) -> Figures:
    """Jobs enqueued a second, one at a time: by one caller, and by each of 100 at once."""
    figures: dict[str, tuple[float, str]] = {}
    for callers, name, full in zip((1, floor.CALLERS), ENQUEUES, JOBS["enqueue"], strict=True):
        jobs = count(full, size)
        seconds = await noop.enqueue(asking.url, jobs, callers=callers)
        figures[name] = (jobs / seconds, "jobs/s")
        await asyncio.to_thread(asking.flush)
    return figures


async def throughput(asking: Asking, size: float) -> Figures:
    """No-op jobs a second at several concurrencies, results off."""
    return await _noops(asking, size, "throughput", result_ttl=0)


async def results(asking: Asking, size: float) -> Figures:
    """The same with results kept."""
    return await _noops(asking, size, "results", result_ttl=None)


async def _noops(
    asking: Asking, size: float, shape: str, *, result_ttl: float | None
) -> dict[str, tuple[float, str]]:
    figures: dict[str, tuple[float, str]] = {}
    for concurrency, full in zip(CONCURRENCIES, JOBS[shape], strict=True):
        jobs = count(full, size)
        app = AsyncJobs(asking.url)
        job = app.job(queue="bench", name="bench.noop", result_ttl=result_ttl)(timing.noop)
        async with app:
            await timing.fill(app, job, jobs)
            seconds = await timing.seconds_of(app, "bench", concurrency=concurrency, jobs=jobs)
        figures[f"concurrency {concurrency:,}"] = (jobs / seconds, "jobs/s")
    return figures


async def bulk(asking: Asking, size: float) -> Figures:
    """Jobs a second by `enqueue_many`, 1,000 at a time."""
    jobs = count(JOBS["bulk"][0], size)
    app = AsyncJobs(asking.url)
    job = app.job(queue="bench", name="noop")(fleet.noop.function)
    async with app:
        started_s = time.perf_counter()
        for first in range(0, jobs, 1_000):
            numbers = range(first, min(first + 1_000, jobs))
            await app.enqueue_many([job.bind(n, floor.filler(n)) for n in numbers])
        return {"enqueue_many": (jobs / (time.perf_counter() - started_s), "jobs/s")}
