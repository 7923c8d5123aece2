"""What jobs cost that wait or run, a worker that has none, and the store for each."""

from __future__ import annotations

import asyncio
import statistics
import time
from pathlib import Path
from typing import Final

from asyncjobs import AsyncJobs
from benchmarks import fleet, floor, timing
from benchmarks import in_flight as in_flight_memory
from benchmarks.asking import Asking
from benchmarks.shapes.running import Figures, run_all
from benchmarks.sizes import JOBS, count

__all__ = ["backlog", "idle", "in_flight", "store_cpu"]

TURNS: Final = 5


async def backlog(asking: Asking, size: float) -> Figures:
    """The rate with 1,000,000 jobs waiting, and while they are worked off, against that with
    10,000; and their memory."""
    app = AsyncJobs(asking.url, result_ttl=0)
    job = app.job(queue="bench", name="bench.noop")(timing.noop)
    few, many = (count(jobs, size) for jobs in JOBS["backlog"])
    figures: dict[str, tuple[float, str]] = {}
    rates: dict[int, list[float]] = {few: [], many: []}
    off = 0.0
    async with app:
        # Few before and after: the machine's mood changes meanwhile.
        for waiting_jobs in (few, many, few):
            before = asking.number("memory", "used_memory")
            await timing.fill(app, job, waiting_jobs)
            memory = asking.number("memory", "used_memory") - before
            cpu_s, taken = asking.cpu_s(), 0
            figures[f"store memory a job, {waiting_jobs:,} jobs"] = (memory / waiting_jobs, "B")
            spent_s = 0.0
            for turn in range(TURNS):
                seconds = await timing.seconds_of(app, "bench", concurrency=1_000, jobs=few)
                rates[waiting_jobs].append(few / seconds)
                spent_s, taken = spent_s + asking.cpu_s() - cpu_s, taken + few
                if turn < TURNS - 1:
                    await timing.fill(app, job, few)
                cpu_s = asking.cpu_s()
            figures[f"store CPU a job, {waiting_jobs:,} jobs"] = (spent_s / taken * 1e6, "µs")
            if waiting_jobs == many:
                left = many - few
                seconds = await timing.seconds_of(app, "bench", concurrency=1_000, jobs=left)
                off = left / seconds
            await asyncio.to_thread(asking.flush)
    base = statistics.median(rates[few])
    figures[f"rate, against {few:,}"] = (statistics.median(rates[many]) / base, "times")
    figures[f"rate of working all off, against {few:,}"] = (off / base, "times")
    return figures


async def in_flight(asking: Asking, size: float) -> Figures:
    """Jobs that all run at the same time in one process: memory of each."""
    figures: dict[str, tuple[float, str]] = {}
    for full in JOBS["in-flight"]:
        jobs = count(full, size)
        memory = await asyncio.to_thread(in_flight_memory.bytes_a_job, asking.url, jobs)
        figures[f"memory a job, {jobs:,} in flight"] = (memory / 1024, "KB")
    return figures


async def idle(asking: Asking, size: float) -> Figures:
    """What a worker costs that has nothing to do, on one queue and on ten."""
    seconds = max(2.0, 30 * size)
    figures: dict[str, tuple[float, str]] = {}
    for queue_count in (1, 10):
        queues = ",".join(fleet.QUEUES[:queue_count])
        with fleet.worker(asking.url, "--queues", queues) as process:
            await asyncio.sleep(min(2.0, seconds))
            commands, cpu_s = asking.client_commands(), _cpu_s(process.pid)
            started_s = time.perf_counter()
            await asyncio.sleep(seconds)
            passed_s = time.perf_counter() - started_s
            commands, cpu_s = asking.client_commands() - commands, _cpu_s(process.pid) - cpu_s
        name = "one queue" if queue_count == 1 else f"{queue_count} queues"
        figures[f"commands, {name}"] = (commands / passed_s, "commands/s")
        figures[f"CPU, {name}"] = (100 * cpu_s / passed_s, "% of a core")
    return figures


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


async def store_cpu(asking: Asking, size: float) -> Figures:
    """CPU time of the store for each job, from 100 callers' enqueues to the settlement."""
    jobs = count(JOBS["store-cpu"][0], size)
    app = AsyncJobs(asking.url, result_ttl=0)
    job = app.job(queue="bench", name="noop")(fleet.noop.function)

    async def caller(first: int) -> None:
        for number in range(first, jobs, floor.CALLERS):
            await job.enqueue(number, floor.filler(number))

    async with app:
        before = asking.cpu_s()
        async with asyncio.TaskGroup() as callers:
            for first in range(floor.CALLERS):
                callers.create_task(caller(first))
        enqueued = asking.cpu_s()
        await run_all(app, "bench", concurrency=1_000, jobs=jobs)
        done = asking.cpu_s()
    return {
        "enqueue": ((enqueued - before) / jobs * 1e6, "µs/job"),
        "take and settle": ((done - enqueued) / jobs * 1e6, "µs/job"),
        "both": ((done - before) / jobs * 1e6, "µs/job"),
    }
