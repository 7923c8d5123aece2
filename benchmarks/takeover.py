"""How soon a second worker has done the jobs of one that was killed.

    python -m benchmarks.takeover [--jobs 1000] [--lease 15s] [--seconds 0.05]

One worker runs all jobs and is ended by `kill -9`; a second one is parked beside it, with
nothing to do. The clock runs from the kill, and is that of this machine for all. A rerun
takes `--seconds`: jobs that ran when a worker died are suspects, of which one worker runs
32 at a time, so a thousand of them take at least 32 times as long as one.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from asyncjobs import INJECTED, AsyncJobs, JobContext
from asyncjobs.config import parse_duration
from asyncjobs.testing.servers import available_servers, start_server
from benchmarks._rounds import machine

LIMIT_S = 300.0
START_S = 30.0
TICK_S = 0.005

app = AsyncJobs(timeout=None)


@app.job
async def hold(seconds: float, *, ctx: JobContext = INJECTED) -> None:
    """Runs until its worker is killed; the second time, so many seconds."""
    _note("began", ctx)
    await asyncio.sleep(seconds if ctx.crashes else LIMIT_S)
    _note("ended", ctx)


def _note(word: str, ctx: JobContext) -> None:
    line = f"{word} {ctx.id} {os.getpid()} {time.monotonic()}\n"
    ledger = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(ledger, line.encode())
    os.close(ledger)


class Line(NamedTuple):
    """What one execution has written."""

    word: str
    id: str
    pid: int
    at_s: float


class Times(NamedTuple):
    """Seconds after the kill, on the second worker."""

    first_began: float
    last_began: float
    last_ended: float


def _read(ledger: Path) -> list[Line]:
    if not ledger.exists():
        return []
    parts = [line.split() for line in ledger.read_text().splitlines()]
    return [Line(word, id, int(pid), float(at_s)) for word, id, pid, at_s in parts]


def _wait(ledger: Path, word: str, number: int) -> list[Line]:
    until_s = time.monotonic() + LIMIT_S
    while time.monotonic() < until_s:
        # Counted only: whoever waits must not take the time of those that work.
        if ledger.exists() and ledger.read_bytes().count(f"{word} ".encode()) >= number:
            return _read(ledger)
        time.sleep(TICK_S)
    raise SystemExit(f"{word}: not {number:,} jobs within {LIMIT_S:g} s")


def _start_worker(
    stack: ExitStack, env: dict[str, str], log: Path, jobs: int, lease: str
) -> subprocess.Popen[bytes]:
    command = ["worker", "benchmarks.takeover:app", "--lease", lease]
    command += ["--concurrency", str(jobs), "--log-format", "json"]
    # Into a file: each job of a dead worker may be a line, and nobody would read a pipe.
    with log.open("wb") as stderr:
        worker = stack.enter_context(
            subprocess.Popen([sys.executable, "-m", "asyncjobs", *command], env=env, stderr=stderr)
        )
    stack.callback(worker.kill)
    until_s = time.monotonic() + START_S
    while b"worker started" not in log.read_bytes():
        if worker.poll() is not None or time.monotonic() > until_s:
            raise SystemExit(f"a worker has not started: {log.read_text()[-2000:]}")
        time.sleep(TICK_S)
    return worker


async def _enqueue(url: str, jobs: int, seconds: float) -> None:
    client = AsyncJobs(url)
    job = client.job(name="benchmarks.takeover.hold")(hold.function)
    async with client:
        await client.enqueue_many([job.bind(seconds) for _ in range(jobs)])


def measure(url: str, *, jobs: int, lease: str, seconds: float) -> Times:
    """Kill a worker that runs all jobs, and see when the other one has done them."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        ledger = Path(folder) / "ledger"
        env = os.environ | {"ASYNCJOBS_URL": url, "LEDGER": str(ledger)}
        first = _start_worker(stack, env, Path(folder) / "first", jobs, lease)
        asyncio.run(_enqueue(url, jobs, seconds))
        _wait(ledger, "began", jobs)
        _start_worker(stack, env, Path(folder) / "second", jobs, lease)
        killed_s = time.monotonic()
        first.send_signal(signal.SIGKILL)
        lines = _wait(ledger, "ended", jobs)
    again = [line for line in lines if line.pid != first.pid]
    began = sorted(line.at_s - killed_s for line in again if line.word == "began")
    ended = max(line.at_s - killed_s for line in again if line.word == "ended")
    if len(began) != jobs:
        raise SystemExit(f"{len(began):,} second runs of {jobs:,} jobs")
    return Times(began[0], began[-1], ended)


def main() -> None:
    """Print one table row for each server."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1000, help="jobs that run at the kill (1,000)")
    parser.add_argument("--lease", default="15s", help="of both workers (15s)")
    parser.add_argument("--seconds", type=float, default=0.05, help="a rerun takes (0.05)")
    options = parser.parse_args()
    lease_s = parse_duration(options.lease, field="--lease")
    print(f"- {machine()}")
    print(f"- {options.jobs:,} jobs, lease {options.lease}, a rerun takes {options.seconds:g} s\n")
    print(
        "| server | first runs again, s | last runs again, s | all done, s "
        f"| first - lease (at most 1) | done - lease (at most 5) |\n|---|{'---:|' * 5}"
    )
    for kind in available_servers():
        with start_server(kind) as server:
            name = f"{server.kind} {server.version}"
            found = measure(
                server.url, jobs=options.jobs, lease=options.lease, seconds=options.seconds
            )
        first, done = found.first_began - lease_s, found.last_ended - lease_s
        print(
            f"| {name} | {found.first_began:.2f} | {found.last_began:.2f} "
            f"| {found.last_ended:.2f} | {first:+.2f} | {done:+.2f} |"
        )


if __name__ == "__main__":
    main()
