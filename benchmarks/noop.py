"""What asyncjobs adds to the floor: `python -m benchmarks.noop`.

In one run, by turns, each in a process of its own, on one server:

- a job that does nothing: the floor of `benchmarks.floor` against asyncjobs' own worker
  in burst mode at concurrency 1,000, with results off and with results kept. Time-outs,
  retries, lease and heartbeat are on, as by default. The jobs are there before the clock
  starts; it runs from the first job's start until the store has settled the last one, for
  both alike: start-up and shutdown of the worker are left out.
- enqueue: 100 callers, each awaiting one enqueue at a time, and a single caller. The
  clock runs from before the first enqueue until after the last answer.

The share is asyncjobs' rate divided by the floor's: the median of the rounds' own ratios,
since what was measured seconds apart shares the machine's mood.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Final

from asyncjobs import AsyncJobs
from benchmarks import _rounds, floor, timing

if TYPE_CHECKING:
    from asyncjobs.testing.servers import Server

QUEUE: Final = "bench"
CONCURRENCY: Final = 1000
RESULTS_OFF, RESULTS_ON = "results off", "results on"
MANY_CALLERS, ONE_CALLER = "enqueue, 100 callers", "enqueue, one caller"


async def run_jobs(url: str, jobs: int, *, result_ttl: float | None) -> float:
    """Seconds from the first job's start until the last one is settled."""
    app = AsyncJobs(url)
    job = app.job(queue=QUEUE, name="bench.noop", result_ttl=result_ttl)(timing.noop)
    async with app:
        await timing.fill(app, job, jobs)
        return await timing.seconds_of(app, QUEUE, concurrency=CONCURRENCY, jobs=jobs)


async def enqueue(url: str, jobs: int, *, callers: int) -> float:
    """Seconds until `callers` have enqueued all jobs, each one at a time."""
    app = AsyncJobs(url)
    job = app.job(queue=QUEUE, name="bench.noop")(timing.noop)

    async def caller(first: int) -> None:
        for number in range(first, jobs, callers):
            await job.enqueue(number, floor.filler(number))

    async with app:
        started = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for first in range(callers):
                group.create_task(caller(first))
        seconds = time.perf_counter() - started
        counts = await timing.counts_of(app, QUEUE)
        if sum(counts.ready) != jobs:
            raise SystemExit(f"{jobs} jobs were enqueued, but the store has {counts}")
        return seconds


MEASUREMENTS: Final[Mapping[str, Callable[[str, int], Awaitable[float]]]] = {
    RESULTS_OFF: lambda url, jobs: run_jobs(url, jobs, result_ttl=0),
    RESULTS_ON: lambda url, jobs: run_jobs(url, jobs, result_ttl=None),
    MANY_CALLERS: lambda url, jobs: enqueue(url, jobs, callers=floor.CALLERS),
    ONE_CALLER: lambda url, jobs: enqueue(url, jobs, callers=1),
}
COMPARED: Final = (
    ("run a no-op, results off", RESULTS_OFF, floor.RUN),
    ("run a no-op, results kept", RESULTS_ON, floor.RUN),
    ("enqueue, 100 callers", MANY_CALLERS, floor.COALESCED),
    ("enqueue, one caller", ONE_CALLER, floor.ONE_BY_ONE),
)


async def _measure(name: str, url: str, jobs: int) -> float:
    return await MEASUREMENTS[name](url, jobs)


def check(shape: _rounds.Shape, server: Server) -> None:
    """The floor is checked from outside; asyncjobs asks its own store, while it runs."""
    if shape.module == "benchmarks.floor":
        floor.check(shape, server)


def table(figures: Mapping[str, _rounds.Figure]) -> tuple[str, dict[str, float]]:
    """A Markdown table, and the share of the floor by row."""
    lines = ["| shape | floor, jobs/s | asyncjobs, jobs/s | µs a job | share of the floor |"]
    lines.append("|---|---:|---:|---:|---:|")
    shares: dict[str, float] = {}
    for label, ours, least in COMPARED:
        pairs = zip(figures[ours].rates, figures[least].rates, strict=True)
        shares[label] = statistics.median(our / their for our, their in pairs)
        cost = 1e6 / figures[ours].median
        lines.append(
            f"| {label} | {figures[least]} | {figures[ours]} | {cost:.1f} | {shares[label]:.2f} |"
        )
    return "\n".join(lines), shares


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    _rounds.add_arguments(parser, jobs=50_000)
    options = parser.parse_args()
    if options.measure:
        job = _measure(options.measure, options.url, options.jobs)
        print(json.dumps({"seconds": floor.run_on_fastest_loop(job)}))
        return
    few = max(1, options.jobs // 10)
    shapes = [
        _rounds.Shape(floor.RUN, "benchmarks.floor", options.jobs),
        _rounds.Shape(RESULTS_OFF, "benchmarks.noop", options.jobs),
        _rounds.Shape(RESULTS_ON, "benchmarks.noop", options.jobs),
        _rounds.Shape(floor.COALESCED, "benchmarks.floor", options.jobs),
        _rounds.Shape(MANY_CALLERS, "benchmarks.noop", options.jobs),
        _rounds.Shape(floor.ONE_BY_ONE, "benchmarks.floor", few),
        _rounds.Shape(ONE_CALLER, "benchmarks.noop", few),
    ]
    figures, facts = _rounds.measure(options, shapes, check)
    text, shares = table(figures)
    print(text)
    _rounds.print_environment(facts)
    _rounds.save(options.json, figures, facts, shares)


if __name__ == "__main__":
    main()
