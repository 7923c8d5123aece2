"""How soon an attempt starts in a process of its own: `python -m benchmarks.processes`.

`start`: from the moment when the worker begins an attempt until its function runs, in a child that
waits for it. `alone`: one job after the other, so a child is always there. `busy`: all at once, so
that each has to be forked meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import time
from collections.abc import Coroutine
from typing import Any

from asyncjobs import AsyncJobs, Worker

app = AsyncJobs("memory:")
begins: dict[str, float] = {}


@app.job(isolation="process", timeout=None)
def apart() -> float:
    """When its function runs, by the clock that all processes of a machine share."""
    return time.monotonic()


async def note_begin(attempt: Any, call_next: Any) -> Any:
    """In the worker, right before the child gets the attempt."""
    begins[attempt.ref.id] = time.monotonic()
    return await call_next()


async def ran(handle: Any) -> float:
    """Seconds from the begin in the worker to the function."""
    at_s: float = await handle.result(60)
    return at_s - begins[handle.id]


def row(name: str, starts_s: list[float], took_s: float) -> None:
    """One line: the starts in milliseconds."""
    cuts = statistics.quantiles(starts_s, n=20)
    print(
        f"{name:<8}{len(starts_s):>6}{statistics.median(starts_s) * 1000:>10.2f}"
        f"{cuts[18] * 1000:>10.2f}{max(starts_s) * 1000:>10.2f}{len(starts_s) / took_s:>10.0f}"
    )


async def one_by_one(number: int) -> list[float]:
    """Each job waits for the one before, and for the child that replaces the used one."""
    found = []
    for _ in range(number):
        found.append(await ran(await apart.enqueue()))
        await asyncio.sleep(0.02)
    return found


async def all_at_once(number: int) -> list[float]:
    """More jobs than there are children."""
    handles = await app.enqueue_many(apart.bind() for _ in range(number))
    return list(await asyncio.gather(*(ran(handle) for handle in handles)))


async def timed(name: str, body: Coroutine[Any, Any, list[float]]) -> None:
    """Run and print one row."""
    began_s = time.monotonic()
    found = await body
    row(name, found, time.monotonic() - began_s)


async def main(number: int, processes: int | None) -> None:
    """Print a table."""
    app.middlewares.add_within(note_begin)
    print(f"{os.cpu_count()} cores; starts in ms")
    print(f"{'':<8}{'jobs':>6}{'p50':>10}{'p95':>10}{'max':>10}{'jobs/s':>10}")
    async with app, Worker(app, job_processes=processes):
        await (await apart.enqueue()).result(60)
        await timed("alone", one_by_one(number))
        await timed("busy", all_at_once(number))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--number", type=int, default=300)
    parser.add_argument("--processes", type=int)
    given = parser.parse_args()
    asyncio.run(main(given.number, given.processes))
