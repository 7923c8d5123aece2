"""How soon a second worker has done the jobs of one that was killed.

    python -m benchmarks.takeover [--jobs 1000] [--lease 15s] [--seconds 2] [--queues 1]
    python -m benchmarks.takeover --supervised [--jobs 200]

One worker runs all jobs and is ended; a second one is parked beside it, with nothing to do.
The clock runs from the kill, and is that of this machine for all. A rerun takes `--seconds`.
Three ends, each on each server:

- killed: `kill -9`. All jobs are suspects, of which a worker with 1,000 slots runs a quarter at
  a time: they are done within the lease, four times as long as one of them takes, and two
  seconds.
- stopped: it is told to end, and killed within its grace. Nobody is charged, and all run again
  at once.
- by a bad job (with `--bad`): one of the jobs kills whatever worker runs it. Each death takes a
  lease; one job is dead at the end, and no other.

With `--supervised` one of four processes of a parent is killed instead, and the parent gives its
jobs back: they wait for no lease. The other three run jobs too, and have slots for all.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

from asyncjobs import INJECTED, AsyncJobs, JobContext
from asyncjobs.options.durations import parse_duration
from asyncjobs.testing.servers import available_servers, start_server
from benchmarks import timing
from benchmarks._rounds import machine

LIMIT_S = 300.0
START_S = 30.0
TICK_S = 0.005
TOLD_S = 1.0
"""How long a worker is told to end before it is killed."""
PROCESSES = 4
"""Of one parent, with `--supervised`."""
CHILD = re.compile(r"is ready: pid (\d+)")
ENDS = ("killed", "stopped", "a bad job")

app = AsyncJobs(timeout=None, retry=False)


@app.job
async def hold(seconds: float, *, ctx: JobContext = INJECTED) -> None:
    """On the first worker it runs until that one is killed; then, so many seconds."""
    _note("began", ctx)
    holds = "HOLDS" in os.environ and ctx.crashes == 0
    await asyncio.sleep(LIMIT_S if holds else seconds)
    _note("ended", ctx)


@app.job
async def kill(seconds: float, *, ctx: JobContext = INJECTED) -> None:
    """Kills its worker, when the others are halfway."""
    _note("began", ctx)
    await asyncio.sleep(LIMIT_S if "HOLDS" in os.environ else seconds / 2)
    _note("killed", ctx)
    os.kill(os.getpid(), signal.SIGKILL)


def _note(word: str, ctx: JobContext) -> None:
    line = f"{word} {ctx.id} {os.getpid()} {time.monotonic()} {ctx.crashes}\n"
    ledger = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(ledger, line.encode())
    os.close(ledger)


class Line(NamedTuple):
    """What one execution has written."""

    word: str
    id: str
    pid: int
    at_s: float
    crashes: int


class Times(NamedTuple):
    """Seconds after the kill, on the second worker; what the jobs were charged with."""

    first_began: float
    last_began: float
    last_ended: float
    charged: int
    most_crashes: int
    deaths: int
    dead: int


def _read(ledger: Path) -> list[Line]:
    if not ledger.exists():
        return []
    parts = [line.split() for line in ledger.read_text().splitlines()]
    return [
        Line(word, id, int(pid), float(at_s), int(crashes))
        for word, id, pid, at_s, crashes in parts
    ]


def _wait(ledger: Path, word: str, number: int) -> list[Line]:
    until_s = time.monotonic() + LIMIT_S
    while time.monotonic() < until_s:
        # Counted only: whoever waits must not take the time of those that work.
        if ledger.exists() and ledger.read_bytes().count(f"{word} ".encode()) >= number:
            return _read(ledger)
        time.sleep(TICK_S)
    raise SystemExit(f"{word}: not {number:,} jobs within {LIMIT_S:g} s")


def _ended(lines: list[Line]) -> set[str]:
    return {line.id for line in lines if line.word == "ended"}


class Fleet:
    """Owns the workers of one measurement and their ledger."""

    def __init__(self, stack: ExitStack, url: str, jobs: int, lease: str, queues: int) -> None:
        self._stack = stack
        self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        self.ledger = self.folder / "ledger"
        self.url = url
        self.queues = [f"takeover-{number}" for number in range(queues)]
        self._env = os.environ | {"ASYNCJOBS_URL": url, "LEDGER": str(self.ledger)}
        self._flags = ["--lease", lease, "--concurrency", str(jobs), "--grace", "60s"]
        self._flags += ["--queues", ",".join(self.queues), "--log-format", "json"]

    def start(self, name: str, *flags: str, **env: str) -> subprocess.Popen[bytes]:
        """A worker that has started."""
        command = ["worker", "benchmarks.takeover:app", *self._flags, *flags]
        log = self.folder / name
        # Into a file: each job of a dead worker may be a line, and nobody would read a pipe.
        with log.open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "asyncjobs", *command],
                env=self._env | env,
                stderr=stderr,
            )
        worker = self._stack.enter_context(process)
        self._stack.callback(worker.kill)
        self.wait_for(name, b"worker started", 1)
        return worker

    def wait_for(self, name: str, text: bytes, times: int) -> None:
        """Until the log of this worker has the text so often."""
        log = self.folder / name
        until_s = time.monotonic() + START_S
        while log.read_bytes().count(text) < times:
            if time.monotonic() > until_s:
                raise SystemExit(f"a worker has not started: {log.read_text()[-2000:]}")
            time.sleep(TICK_S)

    def kill_children(self, name: str) -> None:
        """What a parent has started, and would leave to finish its jobs."""
        for pid in CHILD.findall((self.folder / name).read_text()):
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)

    async def enqueue(self, jobs: int, seconds: float, *, bad: bool) -> None:
        """Shared out among the queues; a bad one stands in the middle."""
        client = AsyncJobs(self.url)
        kinds = {
            kind.name: client.job(name=f"benchmarks.takeover.{kind.function.__name__}")(
                kind.function
            )
            for kind in (hold, kill)
        }
        async with client:
            calls = [
                kinds[(kill if bad and number == jobs // 2 else hold).name]
                .options(queue=self.queues[number % len(self.queues)])
                .bind(seconds)
                for number in range(jobs)
            ]
            await client.enqueue_many(calls)

    async def dead(self) -> int:
        """Dead letters in all queues."""
        async with AsyncJobs(self.url) as client:
            return sum([(await timing.counts_of(client, queue)).dead for queue in self.queues])


def measure(
    url: str, *, jobs: int, lease: str, seconds: float, end: str = "killed", queues: int = 1
) -> Times:
    """End a worker that runs all jobs, and see when the other one has done them."""
    with ExitStack() as stack:
        fleet = Fleet(stack, url, jobs, lease, queues)
        first = fleet.start("first", HOLDS="1")
        asyncio.run(fleet.enqueue(jobs, seconds, bad=end == "a bad job"))
        _wait(fleet.ledger, "began", jobs)
        fleet.start("second", *(("--processes", "2") if end == "a bad job" else ()))
        if end == "stopped":
            first.send_signal(signal.SIGTERM)
            time.sleep(TOLD_S)
        killed_s = time.monotonic()
        first.send_signal(signal.SIGKILL)
        innocents = jobs - (end == "a bad job")
        lines = _wait(fleet.ledger, "ended", innocents)
        dead = asyncio.run(fleet.dead())
        until_s = time.monotonic() + LIMIT_S
        # Some may have ended more than once, with a worker that died before it could say so.
        while dead < jobs - innocents or len(_ended(lines)) < innocents:
            if time.monotonic() > until_s:
                raise SystemExit(f"not all is over within {LIMIT_S:g} s")
            time.sleep(0.05)
            lines, dead = _read(fleet.ledger), asyncio.run(fleet.dead())
    again = [line for line in lines if line.pid != first.pid]
    bad = {line.id for line in lines if line.word == "killed"}
    began = sorted(line.at_s - killed_s for line in again if line.word == "began")
    crashes = {line.id: line.crashes for line in again if line.id not in bad}
    return Times(
        began[0],
        began[-1],
        max(line.at_s - killed_s for line in again if line.word == "ended"),
        sum(count > 0 for count in crashes.values()),
        max(crashes.values()),
        1 + sum(line.word == "killed" for line in again),
        dead,
    )


class ChildTimes(NamedTuple):
    """Seconds after the kill of a child: when its jobs began again, on the others."""

    jobs: int
    first_began: float
    last_began: float


def measure_child(url: str, *, jobs: int, lease: str) -> ChildTimes:
    """Kill one of four processes, all of which run jobs; see when its jobs run again."""
    with ExitStack() as stack:
        # Two of the processes have slots for all jobs, so the others have room for more.
        fleet = Fleet(stack, url, max(jobs // 2, 1), lease, 1)
        fleet.start("parent", "--processes", str(PROCESSES), HOLDS="1")
        fleet.wait_for("parent", b"is ready: pid", PROCESSES)
        stack.callback(fleet.kill_children, "parent")
        asyncio.run(fleet.enqueue(jobs, 0.0, bad=False))
        lines = _wait(fleet.ledger, "began", jobs)
        pid, number = Counter(line.pid for line in lines).most_common(1)[0]
        killed_s = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        lines = _wait(fleet.ledger, "began", jobs + number)
        again = sorted(line.at_s - killed_s for line in lines if line.at_s > killed_s)
        return ChildTimes(number, again[0], again[-1])


def _show_children(jobs: int, lease: str) -> None:
    print(f"- {machine()}")
    print(f"- {jobs:,} jobs run on {PROCESSES} processes of one parent, lease {lease}\n")
    print("| server | jobs of the killed process | first runs again, s | last runs again, s |")
    print("|---|---:|---:|---:|")
    for kind in available_servers():
        with start_server(kind) as server:
            name = f"{server.kind} {server.version}"
            found = measure_child(server.url, jobs=jobs, lease=lease)
        row = f"{found.jobs:,} | {found.first_began:.2f} | {found.last_began:.2f} |"
        print(f"| {name} | {row}", flush=True)


def main() -> None:
    """Print one table row for each server and end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1000, help="jobs that run at the kill (1,000)")
    parser.add_argument("--lease", default="15s", help="of both workers (15s)")
    parser.add_argument("--seconds", type=float, default=2.0, help="a rerun takes (2)")
    parser.add_argument("--queues", type=int, default=1, help="of both workers (1)")
    parser.add_argument("--bad", action="store_true", help="also with a job that kills its worker")
    parser.add_argument("--supervised", action="store_true", help="kill one of four processes")
    options = parser.parse_args()
    if options.supervised:
        _show_children(options.jobs, options.lease)
        return
    lease_s = parse_duration(options.lease, field="--lease")
    print(f"- {machine()}")
    print(
        f"- {options.jobs:,} jobs in {options.queues} queue(s), lease {options.lease}, a rerun "
        f"takes {options.seconds:g} s\n"
    )
    most_s = 4 * options.seconds + 2
    print(
        "| server | end of the first worker | first runs again, s | last runs again, s "
        f"| all done, s | first - lease (at most 1) | done - lease (at most {most_s:g}, without a "
        "bad job) | innocent jobs charged | crashes of one, at most | deaths | dead letters "
        f"|\n|---|---|{'---:|' * 9}"
    )
    for kind in available_servers():
        for end in ENDS if options.bad else ENDS[:2]:
            with start_server(kind) as server:
                name = f"{server.kind} {server.version}"
                found = measure(
                    server.url,
                    jobs=options.jobs,
                    lease=options.lease,
                    seconds=options.seconds,
                    end=end,
                    queues=options.queues,
                )
            first, done = found.first_began - lease_s, found.last_ended - lease_s
            print(
                f"| {name} | {end} | {found.first_began:.2f} | {found.last_began:.2f} "
                f"| {found.last_ended:.2f} | {first:+.2f} | {done:+.2f} | {found.charged:,} "
                f"| {found.most_crashes} | {found.deaths} | {found.dead} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
