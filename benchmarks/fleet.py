"""The jobs that benchmarks run in worker processes of their own, and those processes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from asyncjobs import INJECTED, AsyncJobs, JobContext

__all__ = [
    "QUEUES",
    "Gate",
    "app",
    "flaky",
    "gate",
    "hold",
    "late",
    "noop",
    "sleep",
    "slept_s",
    "stopped",
    "worker",
]

QUEUES: Final = tuple(f"bench-{number}" for number in range(10))
STOP_S: Final = 60.0

app = AsyncJobs()


@app.job(queue=QUEUES[0])
async def late(sent_s: float) -> float:
    """Milliseconds from being sent to this line, by one clock on one machine."""
    return (time.time() - sent_s) * 1000


@app.job(queue=QUEUES[0], result_ttl=0)
async def noop(number: int, text: str) -> None:
    """Does nothing."""


@app.job(queue=QUEUES[0])
async def flaky(number: int, text: str, *, ctx: JobContext = INJECTED) -> int:
    """Every tenth job fails once."""
    if number % 10 == 0 and ctx.attempt == 1:
        raise ConnectionError("fails once")
    await asyncio.sleep(0)
    return number


slept_s: list[tuple[float, float]] = []
"""From when until when each `sleep` in this process has run, in monotonic seconds."""


async def sleep() -> None:
    """Waits like a job that asks another server."""
    started_s = time.perf_counter()
    await asyncio.sleep(0.1)
    slept_s.append((started_s, time.perf_counter()))


class Gate:
    """Opens when so many `hold` jobs are inside; until then all of them wait."""

    def __init__(self) -> None:
        self.close(0)

    def close(self, wanted: int) -> None:
        """Nobody is inside; so many are wanted."""
        self.inside, self.wanted = 0, wanted
        self.is_open = asyncio.Event()


gate = Gate()


async def hold() -> None:
    """Runs until all jobs run at the same time."""
    gate.inside += 1
    if gate.inside == gate.wanted:
        gate.is_open.set()
    await gate.is_open.wait()


@contextmanager
def worker(url: str, *options: str) -> Iterator[subprocess.Popen[str]]:
    """A worker command on `url`, from its start until the block ends."""
    command = [sys.executable, "-m", "asyncjobs", "worker", "benchmarks.fleet:app"]
    # Only what says that it has started; each retry of a benchmark would be a line.
    command += ["--log-format", "json", "--log-level", "info", *options]
    process = subprocess.Popen(
        command,
        env=os.environ | {"ASYNCJOBS_URL": url},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    reader = None
    try:
        for line in process.stderr:
            if "worker started" in line:
                break
        else:
            raise SystemExit("the worker has not started")
        # Read on, or the pipe fills up and the worker stands still.
        reader = subprocess.Popen(["cat"], stdin=process.stderr, stdout=subprocess.DEVNULL)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stderr.close()
        if reader is not None:
            reader.wait()


@contextmanager
def stopped(process: subprocess.Popen[str]) -> Iterator[None]:
    """A worker command and all of its processes stand still while the block runs."""
    pids = [process.pid]
    for pid in pids:  # grows as it goes
        for task in Path(f"/proc/{pid}/task").iterdir():
            pids += map(int, (task / "children").read_text().split())
    # The parent first: it must not find its children still.
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        for pid in pids:
            _wait_until_still(pid)
        yield
    finally:
        for pid in reversed(pids):
            os.kill(pid, signal.SIGCONT)


def _wait_until_still(pid: int) -> None:
    until_s = time.monotonic() + STOP_S
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        if time.monotonic() > until_s:
            raise SystemExit(f"process {pid} does not stand still after {STOP_S:g} s")
        time.sleep(0.001)
