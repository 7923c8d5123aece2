"""What is measured of asyncjobs beside the floor: one function a shape.

Each is run in a process of its own on an empty server (`python -m benchmarks run`), and
returns its figures by name, each with its unit. `size` scales what it does: 1 for figures
that count, less for a smoke.
"""

from __future__ import annotations

import asyncio
import logging
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

from asyncjobs import AsyncJobs, RetryPolicy, Worker, constant
from asyncjobs.cli.collector import spare_the_collector
from benchmarks import fleet, floor, load, noop, takeover, timing
from benchmarks import in_flight as in_flight_memory
from benchmarks.asking import Asking
from benchmarks.sizes import CONCURRENCIES, ENQUEUES, JOBS, count

__all__ = ["SHAPES", "Figures"]

Figures = Mapping[str, tuple[float, str]]

LIMIT_S: Final = 240.0
SPIN_S: Final = 0.002
TURNS: Final = 5
START_S: Final = 60.0
PAYLOADS: Final = {"100 B": 100, "1 KB": 1_000, "100 KB": 100_000}


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
    return await _noops(asking, size, "throughput", result_ttl=0)


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


async def results(asking: Asking, size: float) -> Figures:
    """The same with results kept."""
    return await _noops(asking, size, "results", result_ttl=None)


async def enqueue(asking: Asking, size: float) -> Figures:
    """Jobs enqueued a second, one at a time: by one caller, and by each of 100 at once."""
    figures: dict[str, tuple[float, str]] = {}
    for callers, name, full in zip((1, floor.CALLERS), ENQUEUES, JOBS["enqueue"], strict=True):
        jobs = count(full, size)
        seconds = await noop.enqueue(asking.url, jobs, callers=callers)
        figures[name] = (jobs / seconds, "jobs/s")
        await asyncio.to_thread(asking.flush)
    return figures


async def reclaim(asking: Asking, size: float) -> Figures:
    """Seconds from the end of a dead worker's lease until another runs its jobs again."""
    # A smoke waits for a short lease.
    jobs, lease_s = count(JOBS["reclaim"][0], size), 15 if size == 1 else 2
    found = await asyncio.to_thread(
        takeover.measure, asking.url, jobs=jobs, lease=f"{lease_s}s", seconds=0.0
    )
    return {
        "first runs again, after the lease": (found.first_began - lease_s, "s"),
        "last runs again, after the lease": (found.last_began - lease_s, "s"),
        "all done, after the lease": (found.last_ended - lease_s, "s"),
    }


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


async def waiting(asking: Asking, size: float) -> Figures:
    """Jobs that sleep 0.1 s, 1,000 at a time: how much longer than the ideal it takes."""
    jobs = count(JOBS["waiting"][0], size)
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
        return await _latency(asking, count(JOBS["pickup"][0], size))


async def half_load(asking: Asking, size: float) -> Figures:
    """The same beside a steady load of half of what the worker can do."""
    jobs = count(40_000, size)
    app = AsyncJobs(asking.url, result_ttl=0)
    job = app.job(queue="bench", name="bench.noop")(timing.noop)
    async with app:
        await timing.fill(app, job, jobs)
        rate = jobs / await timing.seconds_of(app, "bench", concurrency=1_000, jobs=jobs)
    half = max(100, int(rate / 2))
    with (
        fleet.worker(asking.url, "--queues", fleet.QUEUES[0]),
        load.beside(asking.url, fleet.QUEUES[0], half) as other,
    ):
        figures = await _latency(asking, count(JOBS["half-load"][0], size))
    return {**figures, "load beside": (other.rate, "jobs/s")}


async def _latency(asking: Asking, jobs: int) -> dict[str, tuple[float, str]]:
    """From the planned time of sending, so that a late sender hides nothing."""
    app = AsyncJobs(asking.url, result_ttl=60)
    late = app.job(queue=fleet.QUEUES[0], name=fleet.late.name)(fleet.late.function)
    found: list[float] = []

    async def one(planned_s: float) -> None:
        await _until(planned_s)
        handle = await late.enqueue(planned_s)
        found.append(await handle.result(timeout=LIMIT_S))

    async with app:
        started_s = time.time() + 0.1
        async with asyncio.TaskGroup() as group:
            for number in range(jobs):
                group.create_task(one(started_s + number / 100))
    found.sort()
    return {
        f"p{percent}": (found[min(jobs - 1, jobs * percent // 100)], "ms")
        for percent in (50, 95, 99)
    }


async def _until(planned_s: float) -> None:
    # Timers of a loop are late by up to a millisecond or two, as much as what is measured.
    await asyncio.sleep(max(0.0, planned_s - SPIN_S - time.time()))
    while time.time() < planned_s:  # noqa: ASYNC110 - only the clock says it
        await asyncio.sleep(0)


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
        await _fill(app, [kinds[n % 3].bind(n, text) for n in range(jobs)])
        started_s = time.perf_counter()
        tries = jobs + -(-jobs // 10)
        await Worker(app, queues=["bench"], concurrency=1_000).run(burst=True, max_jobs=tries)
        rate = tries / (time.perf_counter() - started_s)
    return {"attempts": (rate, "attempts/s")}


async def backlog(asking: Asking, size: float) -> Figures:
    """The rate with 1,000,000 jobs waiting against that with 10,000, and their memory."""
    app = AsyncJobs(asking.url, result_ttl=0)
    job = app.job(queue="bench", name="bench.noop")(timing.noop)
    few, many = (count(jobs, size) for jobs in JOBS["backlog"])
    figures: dict[str, tuple[float, str]] = {}
    rates: dict[int, list[float]] = {few: [], many: []}
    async with app:
        # Few before and after: the machine's mood changes meanwhile.
        for waiting_jobs in (few, many, few):
            before = asking.number("memory", "used_memory")
            await timing.fill(app, job, waiting_jobs)
            memory = asking.number("memory", "used_memory") - before
            cpu_s, taken = asking.cpu_s(), 0
            figures[f"store memory a job, {waiting_jobs:,} jobs"] = (memory / waiting_jobs, "B")
            spent_s = 0.0
            for _ in range(TURNS):
                seconds = await timing.seconds_of(app, "bench", concurrency=1_000, jobs=few)
                rates[waiting_jobs].append(few / seconds)
                spent_s, taken = spent_s + asking.cpu_s() - cpu_s, taken + few
                await timing.fill(app, job, few)
                cpu_s = asking.cpu_s()
            figures[f"store CPU a job, {waiting_jobs:,} jobs"] = (spent_s / taken * 1e6, "µs")
            await asyncio.to_thread(asking.flush)
    ratio = statistics.median(rates[many]) / statistics.median(rates[few])
    return {**figures, f"rate, against {few:,}": (ratio, "times")}


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
            await _fill(app, [job.bind(n, text) for n in range(jobs)], 1_000)
            sent_s = time.perf_counter() - started_s
            rate = await _run_all(app, "bench", concurrency=1_000, jobs=jobs)
        figures[f"enqueue_many, {name}"] = (jobs / sent_s, "jobs/s")
        figures[f"run, {name}"] = (rate, "jobs/s")
    return figures


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
        await _run_all(app, "bench", concurrency=1_000, jobs=jobs)
        done = asking.cpu_s()
    return {
        "enqueue": ((enqueued - before) / jobs * 1e6, "µs/job"),
        "take and settle": ((done - enqueued) / jobs * 1e6, "µs/job"),
        "both": ((done - before) / jobs * 1e6, "µs/job"),
    }


SHAPES: Final[Mapping[str, Callable[[Asking, float], Awaitable[Figures]]]] = {
    "enqueue": enqueue,
    "throughput": throughput,
    "results": results,
    "bulk": bulk,
    "waiting": waiting,
    "pickup": pickup,
    "half-load": half_load,
    "mix": mix,
    "payloads": payloads,
    "processes": processes,
    "backlog": backlog,
    "reclaim": reclaim,
    "in-flight": in_flight,
    "idle": idle,
    "store-cpu": store_cpu,
}
