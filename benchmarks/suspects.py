"""What jobs that wait as suspects cost the others: `python -m benchmarks.suspects`.

No-ops in one queue, alone and beside `--suspects` jobs that were running when a worker died.
The worker runs as many suspects as it may, and these go on until the end; the rest of them
wait. By turns, each in a process of its own; the rate is from the first no-op's start until the
end of the last one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time

from asyncjobs import AsyncJobs, Worker
from asyncjobs.cli.worker.collector import spare_the_collector
from asyncjobs.model.clock import new_id
from asyncjobs.model.demand import Demand
from asyncjobs.store.lease import LeaseSpec
from asyncjobs.testing.servers import start_server
from benchmarks import timing
from benchmarks._rounds import machine

QUEUE = "bench"
CONCURRENCY = 1000
LIMIT_S = 120.0


class Watch:
    """When the first no-op began, and the last one ended."""

    def __init__(self, jobs: int) -> None:
        self.left = jobs
        self.began_s: float | None = None
        self.ended_s = 0.0
        self.is_over = asyncio.Event()

    def count(self) -> None:
        if self.began_s is None:
            self.began_s = time.perf_counter()
        self.left -= 1
        if not self.left:
            self.ended_s = time.perf_counter()
            self.is_over.set()


_watch: Watch


async def noop(number: int, text: str) -> None:
    """Counts itself."""
    _watch.count()


async def hold() -> None:
    """Runs until the others are done."""
    await _watch.is_over.wait()


async def rate(url: str, jobs: int, suspects: int) -> float:
    """No-ops a second beside so many suspects."""
    global _watch
    _watch = Watch(jobs)
    app = AsyncJobs(url, result_ttl=0, timeout=600)
    held = app.job(queue=QUEUE, name="hold")(hold)
    job = app.job(queue=QUEUE, name="noop")(noop)
    async with app:
        if suspects:
            await app.enqueue_many([held.bind() for _ in range(suspects)])
            await _die(app, suspects)
        await timing.fill(app, job, jobs)
        spare_the_collector()
        async with asyncio.timeout(LIMIT_S), Worker(app, queues=[QUEUE], concurrency=CONCURRENCY):
            await _watch.is_over.wait()
    assert _watch.began_s is not None
    return jobs / (_watch.ended_s - _watch.began_s)


async def _die(app: AsyncJobs, jobs: int) -> None:
    """A worker dies that runs so many jobs."""
    lease = await app.backend.lease(LeaseSpec(new_id(), "dead", (QUEUE,), 1))
    taken = 0
    for number in range(1, jobs + 1):
        answer = await lease.exchange(number, [], {QUEUE: Demand(jobs - taken)})
        taken += len(answer.jobs)
        if taken == jobs:
            break
    await asyncio.sleep(0.01)
    if (await app.backend.reclaim((QUEUE,), 0, jobs)).returned != jobs:
        raise SystemExit(f"not all of the {jobs:,} suspects are there")


def _in_own_process(url: str, jobs: int, suspects: int) -> float:
    command = [sys.executable, "-m", "benchmarks.suspects", "--url", url]
    command += ["--jobs", str(jobs), "--suspects", str(suspects)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=2 * LIMIT_S)
    return float(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Print a table, or with --url one rate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=30_000, help="no-ops (30,000)")
    parser.add_argument("--suspects", type=int, default=1_000, help="that wait beside (1,000)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.url:
        print(json.dumps(asyncio.run(rate(options.url, options.jobs, options.suspects))))
        return
    rates: dict[int, list[float]] = {0: [], options.suspects: []}
    for _ in range(options.rounds):
        for suspects, found in rates.items():
            with start_server("valkey") as server:
                found.append(_in_own_process(server.url, options.jobs, suspects))
    print(f"- {machine()}\n\n| suspects | jobs/s, median | of all rounds |\n|---:|---:|---|")
    for suspects, found in rates.items():
        span = ", ".join(f"{rate:,.0f}" for rate in found)
        print(f"| {suspects:,} | {statistics.median(found):,.0f} | {span} |")


if __name__ == "__main__":
    main()
