"""Memory of jobs that all run at the same time: `python -m benchmarks.in_flight --jobs 1000`.

In a process of its own for each number of jobs: what one number has left behind would be
used again by the next. The jobs are enqueued a few at a time for the same reason.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Final

from asyncjobs import AsyncJobs, Worker
from asyncjobs.testing.servers import start_server
from benchmarks import fleet, floor

__all__ = ["bytes_a_job"]

LIMIT_S: Final = 240.0
STEP: Final = 100
WARM: Final = 100


def bytes_a_job(url: str, jobs: int) -> float:
    """What each of so many running jobs takes, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.in_flight", "--url", url, "--jobs", str(jobs)]
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, timeout=2 * LIMIT_S, check=True
        )
    except subprocess.SubprocessError as error:
        raise SystemExit(f"{jobs:,} jobs in flight: {error}; try with fewer") from error
    return float(json.loads(done.stdout.splitlines()[-1])["bytes"])


async def _measure(url: str, jobs: int) -> float:
    # A few first: what the first jobs load and keep is not the price of a job.
    await _hold(url, WARM)
    return await _hold(url, jobs) / jobs


async def _hold(url: str, jobs: int) -> float:
    """How much the process has grown while so many jobs were running."""
    app = AsyncJobs(url, result_ttl=0, timeout=600)
    job = app.job(queue="bench", name="hold")(fleet.hold)
    gate = fleet.gate
    gate.close(jobs)
    async with app:
        for first in range(0, jobs, STEP):
            await app.enqueue_many([job.bind() for _ in range(min(STEP, jobs - first))])
        worker = Worker(app, queues=["bench"], concurrency=jobs)
        before = _resident()
        work = asyncio.create_task(worker.run(burst=True, max_jobs=jobs))
        async with asyncio.timeout(LIMIT_S):
            await gate.is_open.wait()
            grown = _resident() - before
            report = await work
    if report.leases_lost or gate.inside != jobs:
        raise SystemExit(f"{gate.inside:,} of {jobs:,} jobs ran, {report.leases_lost} leases lost")
    return grown


def _resident() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def main() -> None:
    """Measure one number of jobs; the last line is JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=1_000, help="all at a time (1,000)")
    parser.add_argument("--url", help="a server; by default one of its own")
    options = parser.parse_args()
    if options.url:
        found = floor.run_on_fastest_loop(_measure(options.url, options.jobs))
    else:
        with start_server("valkey") as server:
            found = floor.run_on_fastest_loop(_measure(server.url, options.jobs))
    print(json.dumps({"bytes": found}))


if __name__ == "__main__":
    main()
