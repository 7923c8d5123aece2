"""What limits cost, and what fair turns are worth.

    python -m benchmarks.limits [--jobs 20000] [--waiting 100000] [--rounds 3] [--server valkey]

One worker runs no-ops, results off: without a limit, with five and with a hundred busy keys, and
with a thousand keys of which each runs one job at a time. The jobs are there before the clock
starts, and the shapes take turns. The second table is a tenant with three jobs of ten
milliseconds: from their enqueue to the end of the last one, alone, and beside another tenant whose
jobs wait.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Callable
from typing import Final

from asyncjobs import AsyncJobs, Concurrency, Fair, Worker
from asyncjobs.testing.servers import available_servers, start_server
from benchmarks import timing
from benchmarks._rounds import machine

QUEUE: Final = "limits"
SLOTS: Final = 1_000
JOB_S: Final = 0.01
FEW: Final = 3


def _by(keys: int) -> Callable[[int, str], str]:
    return lambda number, text: f"tenant-{number % keys}"


SHAPES: Final[dict[str, tuple[int, int]]] = {
    "no limit": (0, 0),
    "5 busy keys, 200 at a time each": (5, 200),
    "100 busy keys, 10 at a time each": (100, 10),
    "1,000 keys, one at a time each": (1_000, 1),
}
"""How many keys, and how many jobs each of them runs at once."""


async def run_jobs(url: str, jobs: int, keys: int, number: int) -> float:
    """Jobs in a second, from the first start until the last job is settled."""
    app = AsyncJobs(url)
    limits = [Concurrency(number, by=_by(keys))] if keys else []
    name = f"bench.limits.{keys}"
    job = app.job(queue=QUEUE, name=name, result_ttl=0, limits=limits)(timing.noop)
    async with app:
        await timing.fill(app, job, jobs)
        return jobs / await timing.seconds_of(app, QUEUE, concurrency=SLOTS, jobs=jobs)


class _Ends:
    """When the jobs of the small tenant have ended."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.all = asyncio.Event()

    def note(self) -> None:
        self.times.append(time.perf_counter())
        if len(self.times) == FEW:
            self.all.set()


_ends: _Ends


async def _short(tenant: str) -> None:
    await asyncio.sleep(JOB_S)
    if tenant == "small":
        _ends.note()


async def wait_of_few(url: str, waiting: int) -> float:
    """Milliseconds from the enqueue of three jobs of one tenant to the end of the last one, while
    so many of another tenant wait."""
    global _ends
    _ends = _Ends()
    app = AsyncJobs(url)
    fair = [Fair(by="tenant")]
    short = app.job(queue=QUEUE, name="bench.fair", result_ttl=0, limits=fair)(_short)
    async with app:
        for first in range(0, waiting, timing.STEP):
            count = min(timing.STEP, waiting - first)
            await app.enqueue_many([short.bind("large")] * count)
        worker = Worker(app, queues=[QUEUE], concurrency=10)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(worker.run())
            # The worker is at work, or asleep.
            await asyncio.sleep(1)
            began = time.perf_counter()
            await app.enqueue_many([short.bind("small")] * FEW)
            async with asyncio.timeout(60):
                await _ends.all.wait()
            worker.stop()
            await running
    return (_ends.times[-1] - began) * 1000


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--waiting", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--server", choices=available_servers(), default=available_servers()[0])
    options = parser.parse_args()
    rates: dict[str, list[float]] = {shape: [] for shape in SHAPES}
    waits: dict[int, list[float]] = {0: [], options.waiting: []}
    for _ in range(options.rounds):
        for shape, (keys, number) in SHAPES.items():
            with start_server(options.server) as server:
                rates[shape].append(asyncio.run(run_jobs(server.url, options.jobs, keys, number)))
        for waiting, found in waits.items():
            with start_server(options.server) as server:
                found.append(asyncio.run(wait_of_few(server.url, waiting)))
    plain = statistics.median(rates["no limit"])
    print("| no-op, one worker | jobs/s | times the cost |\n|---|---:|---:|")
    for shape, figures in rates.items():
        rate = statistics.median(figures)
        print(f"| {shape} | {rate:,.0f} | {plain / rate:.2f} |")
    print("\n| three jobs of 10 ms | ms until the last has ended |\n|---|---:|")
    for waiting, figures in waits.items():
        print(f"| beside {waiting:,} of another tenant | {statistics.median(figures):.1f} |")
    print(f"\n- {options.server}, {options.jobs:,} jobs, {options.rounds} rounds, medians")
    print(f"- {machine()}")


if __name__ == "__main__":
    main()
