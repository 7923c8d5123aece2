"""The floor in the shapes of asyncjobs: `python -m benchmarks.beside SHAPE --url URL`.

Run in a process of its own, in the same round as the shape of the same name, with the same
number of jobs. Holds nothing of asyncjobs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from benchmarks import floor
from benchmarks.sizes import CONCURRENCIES, ENQUEUES, JOBS, count

__all__ = ["FLOORS", "SHARED", "share"]

Figures = dict[str, tuple[float, str]]
SLEEP_S: Final = 0.1
SHARED: Final = "share of the floor"


async def noops(link: floor.Link, size: float) -> Figures:
    """No-op jobs a second, with as many slots as asyncjobs has concurrency."""
    figures: Figures = {}
    for concurrency, full in zip(CONCURRENCIES, JOBS["throughput"], strict=True):
        jobs = count(full, size)
        await link.call(b"FLUSHALL")
        await floor.fill(link, jobs)
        seconds = await floor.FloorWorker(link, jobs, concurrency).run()
        figures[f"concurrency {concurrency:,}"] = (jobs / seconds, "jobs/s")
    return figures


async def enqueue(link: floor.Link, size: float) -> Figures:
    """Enqueues a second, of one caller and of 100."""
    figures: Figures = {}
    works = (floor.enqueue_one_by_one, floor.enqueue_coalesced)
    for work, name, full in zip(works, ENQUEUES, JOBS["enqueue"], strict=True):
        jobs = count(full, size)
        figures[name] = (jobs / await work(link, jobs), "jobs/s")
    return figures


class Sleeper(floor.FloorWorker):
    """The floor's worker with a job that waits."""

    def __init__(self, link: floor.Link, jobs: int) -> None:
        super().__init__(link, jobs)
        self.slept_s: list[tuple[float, float]] = []

    async def _noop(self, number: int, text: str) -> None:
        self._stopwatch.count()
        started_s = time.perf_counter()
        await asyncio.sleep(SLEEP_S)
        self.slept_s.append((started_s, time.perf_counter()))


async def waiting(link: floor.Link, size: float) -> Figures:
    """Jobs that sleep 0.1 s, 1,000 at a time: how much longer than the ideal it takes."""
    jobs = count(JOBS["waiting"][0], size)
    await floor.fill(link, jobs)
    worker = Sleeper(link, jobs)
    await worker.run()
    ideal_s = SLEEP_S * -(-jobs // floor.SLOTS)
    took_s = worker.slept_s[-1][1] - worker.slept_s[0][0]
    return {"time, against the ideal": (took_s / ideal_s, "times")}


async def store_cpu(link: floor.Link, size: float) -> Figures:
    """CPU time of the store for each job, from 100 callers' enqueues to the settlement."""
    jobs = count(JOBS["store-cpu"][0], size)
    await floor.enqueue_coalesced(link, 10)  # its script is known now, and so is the client
    await link.call(b"FLUSHALL")
    before = await _cpu_s(link)
    await floor.enqueue_coalesced(link, jobs)
    enqueued = await _cpu_s(link)
    await link.call(b"XGROUP", b"CREATE", floor.STREAM, floor.GROUP, b"0")
    await floor.FloorWorker(link, jobs).run()
    done = await _cpu_s(link)
    return {
        "enqueue": ((enqueued - before) / jobs * 1e6, "µs/job"),
        "take and settle": ((done - enqueued) / jobs * 1e6, "µs/job"),
        "both": ((done - before) / jobs * 1e6, "µs/job"),
    }


async def _cpu_s(link: floor.Link) -> float:
    fields = dict(
        line.split(":", 1)
        for line in (await link.call(b"INFO", b"cpu")).decode().splitlines()
        if ":" in line
    )
    return float(fields["used_cpu_user"]) + float(fields["used_cpu_sys"])


FLOORS: Final[Mapping[str, Callable[[floor.Link, float], Awaitable[Figures]]]] = {
    "enqueue": enqueue,
    "throughput": noops,
    "results": noops,
    "waiting": waiting,
    "store-cpu": store_cpu,
}


def share(ours: float, least: float, unit: str) -> float:
    """1 is as good as the floor, for rates and for what shall be small alike."""
    better, worse = (ours, least) if unit.endswith("/s") else (least, ours)
    return better / worse


def main() -> None:
    """Measure one shape; the last line is JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("shape", choices=FLOORS)
    parser.add_argument("--url", required=True)
    parser.add_argument("--size", type=float, default=1.0, help="1 for figures that count")
    options = parser.parse_args()
    figures: Figures = {}

    async def measure() -> float:
        link = floor.Link(options.url)
        try:
            figures.update(await FLOORS[options.shape](link, options.size))
        finally:
            await link.close()
        return 0.0

    floor.run_on_fastest_loop(measure())
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
