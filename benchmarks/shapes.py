"""What is measured of asyncjobs beside the floor: one function a shape.

Each is run in a process of its own on an empty server (`python -m benchmarks run`), and
returns its figures by name, each with its unit. `size` scales what it does: 1 for figures
that count, less for a smoke.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

from asyncjobs import AsyncJobs, RetryPolicy, Worker, constant
from asyncjobs.cli.collector import spare_the_collector
from benchmarks import fleet, floor
from benchmarks.asking import Asking

__all__ = ["SHAPES", "Figures"]

Figures = Mapping[str, tuple[float, str]]

LIMIT_S: Final = 240.0
CONCURRENCIES: Final = (1, 10, 100, 1_000)
PAYLOADS: Final = {"100 B": 100, "1 KB": 1_000, "100 KB": 100_000}


def _count(full: int, size: float) -> int:
    return max(10, int(full * size))


async def _fill(app: AsyncJobs, calls: list[Any], step: int = 10_000) -> None:
    for first in range(0, len(calls), step):
        await app.enqueue_many(calls[first : first + step])


async def _run_all(app: AsyncJobs, queue: str, *, concurrency: int, jobs: int) -> float:
    """Jobs a second of a worker in this process, from its start to the last settlement."""
    spare_the_collector()  # as the worker command does when it has started
    started_s = time.perf_counter()
    await Worker(app, queues=[queue], concurrency=concurrency).run(burst=True, max_jobs=jobs)
    return jobs / (time.perf_counter() - started_s)


async def throughput(asking: Asking, size: float) -> Figures:
    """No-op jobs a second at several concurrencies, results off."""
    figures: dict[str, tuple[float, str]] = {}
    for concurrency in CONCURRENCIES:
        jobs = _count(min(20_000, 2_000 * concurrency), size)
        app = AsyncJobs(asking.url, result_ttl=0)
        job = app.job(queue="bench", name="noop")(fleet.noop.function)
        async with app:
            await _fill(app, [job.bind(n, floor.filler(n)) for n in range(jobs)])
            rate = await _run_all(app, "bench", concurrency=concurrency, jobs=jobs)
        figures[f"concurrency {concurrency:,}"] = (rate, "jobs/s")
    return figures


async def bulk(asking: Asking, size: float) -> Figures:
    """Jobs a second by `enqueue_many`, 1,000 at a time."""
    jobs = _count(100_000, size)
    app = AsyncJobs(asking.url)
    job = app.job(queue="bench", name="noop")(fleet.noop.function)
    async with app:
        started_s = time.perf_counter()
        for first in range(0, jobs, 1_000):
            numbers = range(first, min(first + 1_000, jobs))
            await app.enqueue_many([job.bind(n, floor.filler(n)) for n in numbers])
        return {"enqueue_many": (jobs / (time.perf_counter() - started_s), "jobs/s")}


async def waiting(asking: Asking, size: float) -> Figures:
    """Jobs that sleep 0.1 s, 1,000 at a time: how much longer than the ideal it takes."""
    jobs = _count(5_000, size)
    app = AsyncJobs(asking.url, result_ttl=0)
    job = app.job(queue="bench", name="sleep")(fleet.sleep)
    async with app:
        await _fill(app, [job.bind() for _ in range(jobs)])
        await _run_all(app, "bench", concurrency=1_000, jobs=jobs)
    slept_s = fleet.slept_s
    if len(slept_s) != jobs:
        raise SystemExit(f"{len(slept_s):,} of {jobs:,} jobs have run")
    ideal_s = 0.1 * -(-jobs // 1_000)
    return {"time, against the ideal": ((slept_s[-1][1] - slept_s[0][0]) / ideal_s, "times")}


async def pickup(asking: Asking, size: float) -> Figures:
    """Milliseconds until an idle worker starts a job, 100 jobs a second."""
    with fleet.worker(asking.url, "--queues", fleet.QUEUES[0]):
        return await _latency(asking, _count(1_000, size), background=0)


async def half_load(asking: Asking, size: float) -> Figures:
    """The same beside a steady load of half of what the worker can do."""
    jobs = _count(40_000, size)
    app = AsyncJobs(asking.url, result_ttl=0)
    job = app.job(queue="bench", name="noop")(fleet.noop.function)
    async with app:
        await _fill(app, [job.bind(n, floor.filler(n)) for n in range(jobs)])
        rate = await _run_all(app, "bench", concurrency=1_000, jobs=jobs)
    with fleet.worker(asking.url, "--queues", fleet.QUEUES[0]):
        return await _latency(asking, _count(1_000, size), background=int(rate / 200))


async def _latency(asking: Asking, jobs: int, background: int) -> Figures:
    app = AsyncJobs(asking.url, result_ttl=60)
    late = app.job(queue=fleet.QUEUES[0], name=fleet.late.name)(fleet.late.function)
    noop = app.job(queue=fleet.QUEUES[0], name=fleet.noop.name, result_ttl=0)(fleet.noop.function)
    async with app:
        handles = []
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        for number in range(jobs):
            await asyncio.sleep(max(0.0, started_s + number / 100 - loop.time()))
            handles.append(await late.enqueue(time.time()))
            if background:
                await app.enqueue_many([noop.bind(n, "x") for n in range(background)])
        found = sorted([await handle.result(timeout=LIMIT_S) for handle in handles])
    # The first ones find a worker that has just started.
    return {
        f"p{percent}": (found[min(len(found) - 1, len(found) * percent // 100)], "ms")
        for percent in (50, 95, 99)
    }


async def mix(asking: Asking, size: float) -> Figures:
    """1 KB arguments, one job in ten fails once, three priorities, results kept."""
    jobs = _count(20_000, size)
    # A short pause, so that the last retry does not decide; its 2,000 warnings are not written.
    app = AsyncJobs(asking.url, retry=RetryPolicy(max_attempts=3, backoff=constant(0.05)))
    logging.getLogger("asyncjobs").setLevel(logging.ERROR)
    job = app.job(queue="bench", name="flaky")(fleet.flaky.function)
    text = "x" * 1_000
    kinds = [job.options(priority=name) for name in ("high", "normal", "low")]
    async with app:
        await _fill(app, [kinds[n % 3].bind(n, text) for n in range(jobs)])
        started_s = time.perf_counter()
        tries = jobs + -(-jobs // 10)
        await Worker(app, queues=["bench"], concurrency=1_000).run(burst=True, max_jobs=tries)
        rate = tries / (time.perf_counter() - started_s)
    return {"attempts": (rate, "attempts/s")}


async def backlog(asking: Asking, size: float) -> Figures:
    """The rate with 1,000,000 jobs waiting against that with 10,000, and their memory."""
    app = AsyncJobs(asking.url, result_ttl=0)
    job = app.job(queue="bench", name="noop")(fleet.noop.function)
    rates, figures = [], {}
    many = _count(1_000_000, size)
    async with app:
        for jobs in (_count(10_000, size), many):
            before = asking.number("memory", "used_memory")
            for first in range(0, jobs, 10_000):
                numbers = range(first, min(first + 10_000, jobs))
                await app.enqueue_many([job.bind(n, floor.filler(n)) for n in numbers])
            memory = asking.number("memory", "used_memory") - before
            figures[f"store memory a job, {jobs:,} jobs"] = (memory / jobs, "B")
            taken = min(jobs, _count(50_000, size))
            cpu_s = asking.cpu_s()
            rates.append(await _run_all(app, "bench", concurrency=1_000, jobs=taken))
            cost = (asking.cpu_s() - cpu_s) / taken * 1e6
            figures[f"store CPU a job, {jobs:,} jobs"] = (cost, "µs")
            await asyncio.to_thread(asking.flush)
    return {**figures, "rate, against 10,000": (rates[1] / rates[0], "times")}


async def in_flight(asking: Asking, size: float) -> Figures:
    """Jobs that all run at the same time in one process: memory of each."""
    jobs = _count(100_000, size)
    app = AsyncJobs(asking.url, result_ttl=0, timeout=None)
    job = app.job(queue="bench", name="hold")(fleet.hold)
    gate = fleet.gate
    gate.wanted = jobs
    async with app:
        await _fill(app, [job.bind() for _ in range(jobs)])
        worker = Worker(app, queues=["bench"], concurrency=jobs)
        before = _rss()
        work = asyncio.create_task(worker.run(burst=True, max_jobs=jobs))
        async with asyncio.timeout(LIMIT_S):
            await gate.is_open.wait()
            grown = _peak() - before
            report = await work
    if report.leases_lost or gate.inside != jobs:
        raise SystemExit(f"{gate.inside:,} of {jobs:,} jobs ran, {report.leases_lost} leases lost")
    return {f"memory a job, {jobs:,} in flight": (grown / jobs / 1024, "KB")}


def _rss() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


async def idle(asking: Asking, size: float) -> Figures:
    """What a worker costs that has nothing to do, on one queue and on ten."""
    seconds = max(2.0, 30 * size)
    figures: dict[str, tuple[float, str]] = {}
    for count in (1, 10):
        queues = ",".join(fleet.QUEUES[:count])
        with fleet.worker(asking.url, "--queues", queues) as process:
            await asyncio.sleep(min(2.0, seconds))
            commands, cpu_s = asking.client_commands(), _cpu_s(process.pid)
            started_s = time.perf_counter()
            await asyncio.sleep(seconds)
            passed_s = time.perf_counter() - started_s
            commands, cpu_s = asking.client_commands() - commands, _cpu_s(process.pid) - cpu_s
        name = "one queue" if count == 1 else f"{count} queues"
        figures[f"commands, {name}"] = (commands / passed_s, "commands/s")
        figures[f"CPU, {name}"] = (100 * cpu_s / passed_s, "% of a core")
    return figures


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


async def processes(asking: Asking, size: float) -> Figures:
    """No-op jobs a second of 1, 2 and 4 worker processes, once all of them are at work."""
    figures: dict[str, tuple[float, str]] = {}
    jobs = _count(200_000, size)
    queue = fleet.QUEUES[0]
    for count in (1, 2, 4):
        app = AsyncJobs(asking.url, result_ttl=0)
        job = app.job(queue=queue, name=fleet.noop.name)(fleet.noop.function)
        async with app:
            for first in range(0, jobs, 10_000):
                numbers = range(first, min(first + 10_000, jobs))
                await app.enqueue_many([job.bind(n, floor.filler(n)) for n in numbers])
            with fleet.worker(asking.url, "--queues", queue, "--processes", str(count)):
                # The first part is run while processes start, the last one by some of them.
                started_s, most = await _until(asking, app, queue, jobs * 7 // 10)
                ended_s, least = await _until(asking, app, queue, jobs // 10)
                await _until(asking, app, queue, 0)
        name = "1 process" if count == 1 else f"{count} processes"
        rate = (most - least) / (ended_s - started_s) if most > least else float("nan")
        figures[name] = (rate, "jobs/s")
    return figures


async def _until(asking: Asking, app: AsyncJobs, queue: str, left: int) -> tuple[float, int]:
    """When at most so many jobs are left, and how many these were."""
    async with asyncio.timeout(LIMIT_S):
        while (now_left := await asking.unfinished(app, queue)) > left:  # noqa: ASYNC110 - nobody is told
            await asyncio.sleep(0.01)
    return time.perf_counter(), now_left


async def payloads(asking: Asking, size: float) -> Figures:
    """Enqueued and run with arguments of 100 B, 1 KB and 100 KB."""
    figures: dict[str, tuple[float, str]] = {}
    for name, length in PAYLOADS.items():
        jobs = _count(min(20_000, 100_000_000 // length), size)
        app = AsyncJobs(asking.url, result_ttl=0)
        job = app.job(queue="bench", name="noop")(fleet.noop.function)
        text = "x" * length
        async with app:
            started_s = time.perf_counter()
            await _fill(app, [job.bind(n, text) for n in range(jobs)], 1_000)
            sent_s = time.perf_counter() - started_s
            rate = await _run_all(app, "bench", concurrency=1_000, jobs=jobs)
        figures[f"enqueue_many, {name}"] = (jobs / sent_s, "jobs/s")
        figures[f"run, {name}"] = (rate, "jobs/s")
    return figures


async def store_cpu(asking: Asking, size: float) -> Figures:
    """CPU time of the store for each job, from 100 callers' enqueues to the settlement."""
    jobs = _count(50_000, size)
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
        await _run_all(app, "bench", concurrency=1_000, jobs=jobs)
        done = asking.cpu_s()
    return {
        "enqueue": ((enqueued - before) / jobs * 1e6, "µs/job"),
        "take and settle": ((done - enqueued) / jobs * 1e6, "µs/job"),
        "both": ((done - before) / jobs * 1e6, "µs/job"),
    }


SHAPES: Final[Mapping[str, Callable[[Asking, float], Awaitable[Figures]]]] = {
    "throughput": throughput,
    "bulk": bulk,
    "waiting": waiting,
    "pickup": pickup,
    "half-load": half_load,
    "mix": mix,
    "payloads": payloads,
    "processes": processes,
    "backlog": backlog,
    "in-flight": in_flight,
    "idle": idle,
    "store-cpu": store_cpu,
}
