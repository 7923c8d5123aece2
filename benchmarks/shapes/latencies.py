"""How soon a job starts: on an idle worker, on a busy one, after the death of one."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from asyncjobs import AsyncJobs
from benchmarks import fleet, load, takeover, timing
from benchmarks.asking import Asking
from benchmarks.shapes.running import LIMIT_S, Figures
from benchmarks.sizes import JOBS, count

__all__ = ["half_load", "pickup", "reclaim"]

SPIN_S: Final = 0.002


async def pickup(asking: Asking, size: float) -> Figures:
    """Milliseconds until an idle worker starts a job, 100 jobs a second."""
    with fleet.worker(asking.url, "--queues", fleet.QUEUES[0]):
        return await _latency(asking, count(JOBS["pickup"][0], size))


async def half_load(asking: Asking, size: float) -> Figures:
    """The same beside a steady load of half of what store, client and worker can do together.

    All of them share the cores of one machine, so the time for an enqueue counts as well as
    that for the run.
    """
    jobs = count(40_000, size)
    app = AsyncJobs(asking.url, result_ttl=0)
    job = app.job(queue="bench", name="bench.noop")(timing.noop)
    async with app:
        began_s = time.perf_counter()
        await timing.fill(app, job, jobs)
        enqueue_s = time.perf_counter() - began_s
        run_s = await timing.seconds_of(app, "bench", concurrency=1_000, jobs=jobs)
    rate = jobs / (enqueue_s + run_s)
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
