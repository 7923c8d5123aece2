"""What flows cost: a long chain, and a wide chord.

    python -m benchmarks.flows [--links 1000] [--children 10000] [--rounds 3] [--server valkey]

One worker in a process of its own. A chain hands the result of each link to the next one, or just
runs them one after the other. A chord runs its children at the same time and then its callback,
which gets all of their results, or none. Two clocks run until the last job starts: from the call of
`app.flows.start`, and from the start of the first job. They are the monotonic clock of the machine,
which its processes share. The processor time of the three processes says where the time goes, also
on a busy machine.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, NamedTuple

from asyncjobs import PREVIOUS, AsyncJobs, Worker, chain, chord
from asyncjobs.cli.worker.collector import spare_the_collector
from asyncjobs.testing.servers import Server, available_servers, start_server
from benchmarks._rounds import machine

QUEUE: Final = "flows"
SLOTS: Final = 1_000
LIMIT_S: Final = 120.0

_first: tuple[float, float] | None = None
"""When the first job of this process started, and what processor time had been used by then."""


async def link(number: int) -> int:
    """One job of a flow."""
    global _first
    if _first is None:
        _first = (time.monotonic(), time.process_time())
    return number + 1


async def plain(number: int) -> None:
    """As `link`, and nobody reads what it returns."""
    await link(number)


async def last(found: Any) -> tuple[float, float, float]:
    """When the first job started, when this one did, and the processor time in between."""
    assert _first is not None
    return _first[0], time.monotonic(), time.process_time() - _first[1]


def make(url: str | None = None) -> AsyncJobs:
    """The app of both processes."""
    app = AsyncJobs(url)
    app.job(queue=QUEUE, name="link")(link)
    app.job(queue=QUEUE, name="plain")(plain)
    app.job(queue=QUEUE, name="last")(last)
    return app


def shape(app: AsyncJobs, name: str, jobs: int) -> Any:
    """A flow of so many jobs and one more."""
    one, other, end = map(app.registry.find, ("link", "plain", "last"))
    assert one is not None
    assert other is not None
    assert end is not None
    if name == "chain, results handed on":
        return chain(one.bind(0), *[one.bind(PREVIOUS)] * (jobs - 1), end.bind(PREVIOUS))
    if name == "chain":
        return chain(*[other.bind(0)] * jobs, end.bind(None))
    if name == "chord, results handed on":
        return chord([one.bind(number) for number in range(jobs)], end.bind(PREVIOUS))
    return chord([other.bind(number) for number in range(jobs)], end.bind(None))


CHAINS: Final = ("chain, results handed on", "chain")
CHORDS: Final = ("chord, results handed on", "chord")


class Figures(NamedTuple):
    """Of one flow, in seconds: until its last job started, and processor time."""

    from_start: float
    from_first: float
    client_cpu: float
    worker_cpu: float
    store_cpu: float


async def run(server: Server, name: str, jobs: int) -> Figures:
    """Start a flow, and wait for its end."""
    app = make(server.url)
    async with app:
        work = shape(app, name, jobs)
        store, client = used_s(server), time.process_time()
        began = time.monotonic()
        handle = await app.flows.start(work)
        client = time.process_time() - client
        first, end, worker = await handle.result(LIMIT_S)
        info = await handle.info()
        if info.nodes != jobs + 1 or info.done != info.nodes:
            raise SystemExit(f"not all jobs of the flow have ended: {info}")
    return Figures(end - began, end - first, client, worker, used_s(server) - store)


async def work(url: str, ready: Path) -> None:
    """Be the worker, until the process is ended."""
    app = make(url)
    async with app, Worker(app, queues=[QUEUE], concurrency=SLOTS):
        spare_the_collector()  # as the worker command does when it has started
        await asyncio.to_thread(ready.touch)
        await asyncio.Event().wait()


def used_s(server: Server) -> float:
    """The CPU time that the store has used."""
    text = server.command("INFO", "cpu").decode()
    lines = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return float(lines["used_cpu_user"]) + float(lines["used_cpu_sys"])


def measure(kind: Any, name: str, jobs: int) -> Figures:
    """One flow on a server and a worker of its own."""
    with start_server(kind) as server, TemporaryDirectory() as folder:
        ready = Path(folder) / "ready"
        command = [sys.executable, "-m", "benchmarks.flows", "--work", server.url, str(ready)]
        worker = subprocess.Popen(command)
        try:
            while not ready.exists():
                time.sleep(0.01)
            return asyncio.run(run(server, name, jobs))
        finally:
            worker.kill()
            worker.wait()


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--links", type=int, default=1_000)
    parser.add_argument("--children", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--server", choices=available_servers(), default=available_servers()[0])
    parser.add_argument("--work", nargs=2, metavar=("URL", "FILE"), help="be the worker")
    options = parser.parse_args()
    if options.work:
        asyncio.run(work(options.work[0], Path(options.work[1])))
    sizes: dict[str, int] = dict.fromkeys(CHAINS, options.links)
    sizes |= dict.fromkeys(CHORDS, options.children)
    found: dict[str, list[Figures]] = {name: [] for name in sizes}
    for _ in range(options.rounds):
        for name, jobs in sizes.items():
            found[name].append(measure(options.server, name, jobs))
    print(
        "| flow | jobs/s from start() | from the first job | µs of CPU: start() | worker | store |"
    )
    print("|---|---:|---:|---:|---:|---:|")
    for name, jobs in sizes.items():
        each = Figures(*map(statistics.median, zip(*found[name], strict=True)))
        rates = f"{jobs / each.from_start:,.0f} | {jobs / each.from_first:,.0f}"
        used = [each.client_cpu, each.worker_cpu, each.store_cpu]
        parts = " | ".join(f"{cpu / jobs * 1e6:,.0f}" for cpu in used)
        print(f"| {name} of {jobs:,} | {rates} | {parts} |")
    print(f"\n- {options.server}, {options.rounds} rounds, medians")
    print(f"- {machine()}")


if __name__ == "__main__":
    main()
