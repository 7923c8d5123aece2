"""What a queue that fails costs the others: `python -m benchmarks.bad_queue`.

No-ops in one queue of a worker that serves two, alone and while a key of the other queue has a
wrong type, so that whatever the worker asks about that one fails. By turns, each in a process of
its own; the rate is from the first no-op's start until the end of the last one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys

from asyncjobs import AsyncJobs, Worker
from asyncjobs.cli.worker.collector import spare_the_collector
from asyncjobs.testing.servers import start_server
from benchmarks import suspects, timing
from benchmarks._rounds import machine

QUEUE, BAD = "bench", "bad"
SPOILED = ("index", "scheduled")
"""Keys that exchanges use, and the entry of a lease does not: the worker starts as if all were
well."""


async def rate(url: str, jobs: int) -> float:
    """No-ops a second of a worker that serves both queues."""
    watch = suspects._watch = suspects.Watch(jobs)
    app = AsyncJobs(url, result_ttl=0)
    job = app.job(queue=QUEUE, name="noop")(suspects.noop)
    async with app:
        await timing.fill(app, job, jobs)
        spare_the_collector()
        async with (
            asyncio.timeout(suspects.LIMIT_S),
            Worker(app, queues=[QUEUE, BAD], concurrency=suspects.CONCURRENCY),
        ):
            await watch.is_over.wait()
    assert watch.began_s is not None
    return jobs / (watch.ended_s - watch.began_s)


def _in_own_process(jobs: int, *, is_bad: bool) -> float:
    with start_server("valkey") as server:
        if is_bad:
            for name in SPOILED:
                server.command("SET", f"{{asyncjobs:{BAD}}}:{name}", "x")
        command = [sys.executable, "-m", "benchmarks.bad_queue", "--url", server.url]
        command += ["--jobs", str(jobs)]
        done = subprocess.run(
            command, stdout=subprocess.PIPE, check=True, timeout=2 * suspects.LIMIT_S
        )
    return float(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Print a table, or with --url one rate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=30_000, help="no-ops (30,000)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.url:
        print(json.dumps(asyncio.run(rate(options.url, options.jobs))))
        return
    rates: dict[str, list[float]] = {"sound": [], "fails": []}
    for _ in range(options.rounds):
        for other, found in rates.items():
            found.append(_in_own_process(options.jobs, is_bad=other == "fails"))
    print(f"- {machine()}\n\n| other queue | jobs/s, median | of all rounds |\n|---|---:|---|")
    for other, found in rates.items():
        span = ", ".join(f"{each:,.0f}" for each in found)
        print(f"| {other} | {statistics.median(found):,.0f} | {span} |")


if __name__ == "__main__":
    main()
