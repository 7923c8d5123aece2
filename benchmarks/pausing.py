"""How soon a pause stops all workers, and a resume starts them again.

    python -m benchmarks.pausing [--jobs 10000] [--workers 4] [--rounds 5]

Worker processes run short jobs of one queue, and thousands wait. The clock is that of this machine
for all. The first figure runs from the call of `app.queues.pause` to the last start of a job. It is
below 0 if no job has started since the call. The second one runs from the call of `resume` to the
first start. At the end each job has run once.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from asyncjobs import INJECTED, AsyncJobs, JobContext
from asyncjobs.testing.servers import available_servers, start_server
from benchmarks._rounds import machine

QUEUE = "pausing"
SLOTS = 20
JOB_S = 0.02
LIMIT_S = 120.0
SETTLE_S = 0.5
"""How long is waited for a start that comes too late."""

app = AsyncJobs(timeout=None, retry=False)


@app.job(queue=QUEUE)
async def start(*, ctx: JobContext = INJECTED) -> None:
    """Notes when it has started."""
    line = f"{ctx.id} {time.monotonic()}\n"
    ledger = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(ledger, line.encode())
    os.close(ledger)
    await asyncio.sleep(JOB_S)


class Round(NamedTuple):
    """Seconds from the call to the last start before the pause, and to the first one after it; and
    how many jobs waited meanwhile."""

    stopped: float
    started: float
    waiting: int


def _starts(ledger: Path) -> list[tuple[str, float]]:
    lines = ledger.read_text().splitlines() if ledger.exists() else []
    return [(id, float(at_s)) for id, at_s in map(str.split, lines)]


async def _until(ledger: Path, number: int) -> list[tuple[str, float]]:
    """Until so many jobs have started."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            found = _starts(ledger)
            if len(found) >= number:
                return found
            await asyncio.sleep(0.02)


async def _one_round(client: AsyncJobs, ledger: Path) -> Round:
    await _until(ledger, len(_starts(ledger)) + 200)
    called_s = time.monotonic()
    await client.queues.pause(QUEUE, reason="a benchmark")
    await asyncio.sleep(SETTLE_S)
    before = _starts(ledger)
    (counts,) = await client.backend.inspect.queues.counts([QUEUE])
    resumed_s = time.monotonic()
    await client.queues.resume(QUEUE)
    after = await _until(ledger, len(before) + 1)
    last_s = max(at_s for _, at_s in before)
    first_s = min(at_s for _, at_s in after[len(before) :])
    return Round(last_s - called_s, first_s - resumed_s, sum(counts.ready))


async def measure(url: str, ledger: Path, jobs: int, rounds: int) -> list[Round]:
    """The rounds. Raises SystemExit when a job was lost, or has run twice."""
    client = AsyncJobs(url)
    job = client.job(name=start.name, queue=QUEUE)(start.function)
    async with client:
        await client.enqueue_many([job.bind() for _ in range(jobs)])
        found = [await _one_round(client, ledger) for _ in range(rounds)]
        ids = [id for id, _ in await _until(ledger, jobs)]
    if len(ids) != jobs or len(set(ids)) != jobs:
        raise SystemExit(f"{jobs:,} jobs, {len(ids):,} starts of {len(set(ids)):,}")
    return found


def main() -> None:
    """Print the figures of each round."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    for kind in available_servers():
        with ExitStack() as stack:
            server = stack.enter_context(start_server(kind))
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            env = os.environ | {
                "ASYNCJOBS_URL": server.url,
                "LEDGER": str(folder / "ledger"),
            }
            command = ["worker", "benchmarks.pausing:app", "--queues", QUEUE]
            command += ["--concurrency", str(SLOTS)]
            for number in range(options.workers):
                log = stack.enter_context((folder / f"log-{number}").open("wb"))
                process = subprocess.Popen(
                    [sys.executable, "-m", "asyncjobs", *command], env=env, stderr=log
                )
                stack.enter_context(process)
                stack.callback(process.terminate)
            work = measure(server.url, folder / "ledger", options.jobs, options.rounds)
            found = asyncio.run(work)
        print(f"{kind}: {options.workers} workers of {SLOTS} slots, {options.jobs:,} jobs")
        print("| waiting jobs | last start after the pause, ms | first one after the resume, ms |")
        print("|---:|---:|---:|")
        for each in found:
            print(f"| {each.waiting:,} | {1000 * each.stopped:.1f} | {1000 * each.started:.1f} |")
    print(f"\n- {machine()}")


if __name__ == "__main__":
    main()
