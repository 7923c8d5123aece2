"""How soon an idle worker starts a job: `python -m benchmarks.latency`.

Jobs that are ready at once, 100 a second, and jobs with a random delay of up to three
seconds: milliseconds from being due to their first line, by one clock on one machine.
"""

from __future__ import annotations

import asyncio
import random
import time

from asyncjobs import AsyncJobs, Worker
from asyncjobs.testing.servers import available_servers, start_server

READY = 300
DELAYED = 150
GAP_S = 0.01
LONGEST_DELAY_S = 3.0

_late_ms: asyncio.Queue[float] = asyncio.Queue()


async def started(due_s: float) -> None:
    """Notes how late it starts."""
    _late_ms.put_nowait((time.time() - due_s) * 1000)


async def measure(url: str) -> dict[str, list[float]]:
    """Sorted milliseconds of ready and of delayed jobs."""
    app = AsyncJobs(url, result_ttl=0)
    job = app.job(started)
    found: dict[str, list[float]] = {}
    async with app, Worker(app, grace=5):
        for _ in range(READY):
            await job.enqueue(time.time())
            await asyncio.sleep(GAP_S)
        found["ready"] = await _collected(READY)
        for _ in range(DELAYED):
            delay_s = random.uniform(0.2, LONGEST_DELAY_S)
            await job.options(delay=delay_s).enqueue(time.time() + delay_s)
        found["delayed"] = await _collected(DELAYED)
    return found


async def _collected(count: int) -> list[float]:
    async with asyncio.timeout(30):
        return sorted([await _late_ms.get() for _ in range(count)])


async def main() -> None:
    """Print one table row for each server and kind of job."""
    print("| server | jobs | p50, ms | p99, ms | max, ms |\n|---|---|---:|---:|---:|")
    for kind in available_servers():
        with start_server(kind) as server:
            for jobs, ms in (await measure(server.url)).items():
                p50, p99 = ms[len(ms) // 2], ms[int(len(ms) * 0.99) - 1]
                name = f"{server.kind} {server.version}"
                print(f"| {name} | {jobs} | {p50:.2f} | {p99:.2f} | {ms[-1]:.2f} |")


if __name__ == "__main__":
    asyncio.run(main())
