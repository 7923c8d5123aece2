"""What a job costs in steps of the interpreter: `python -m benchmarks.guard [--update]`.

Counts the bytecode instructions that a no-op job takes from the enqueue to its settlement,
and the same for the floor, in one run on one server. Their ratio depends neither on the
machine nor on what else it does; a test compares it with benchmarks/guard.json. What C
code costs is not seen here: `python -m benchmarks.noop` measures that.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final, Self

from asyncjobs import AsyncJobs, Worker
from asyncjobs.testing.servers import Server, start_server
from benchmarks import fleet, floor

__all__ = [
    "BASELINE",
    "JOBS",
    "SLACK",
    "VERSION",
    "Counter",
    "baseline",
    "measure",
    "of_asyncjobs",
    "of_floor",
]

BASELINE: Final = Path(__file__).parent / "guard.json"
SLACK: Final = 1.12
"""How far from the baseline is let pass, either way; a figure differs by 2 % from run to run."""
VERSION: Final = f"{sys.version_info[0]}.{sys.version_info[1]}"
"""Each Python has steps of its own; from 3.12 on the floor starts its tasks eagerly."""
JOBS: Final = 1_024
TOOL: Final = 4
"""An id that neither debuggers nor profilers take."""


class Counter:
    """Counts bytecode instructions of this thread while the block runs, for each file."""

    def __init__(self) -> None:
        self.of_file: collections.Counter[str] = collections.Counter()
        self._thread = threading.get_ident()

    @property
    def steps(self) -> int:
        """All of them."""
        return self.of_file.total()

    # From 3.12 on a tracer misses frames that C code has started; monitoring sees them all.
    if sys.version_info >= (3, 12):

        def _instruction(self, code: CodeType, offset: int) -> None:
            if threading.get_ident() == self._thread:
                self.of_file[code.co_filename] += 1

        def __enter__(self) -> Self:
            watch = sys.monitoring
            watch.use_tool_id(TOOL, "asyncjobs guard")
            watch.register_callback(TOOL, watch.events.INSTRUCTION, self._instruction)
            watch.set_events(TOOL, watch.events.INSTRUCTION)
            return self

        def __exit__(self, *error: object) -> None:
            sys.monitoring.set_events(TOOL, 0)
            sys.monitoring.register_callback(TOOL, sys.monitoring.events.INSTRUCTION, None)
            sys.monitoring.free_tool_id(TOOL)

    else:

        def _trace(self, frame: FrameType, event: str, arg: Any) -> Any:
            if event == "call":
                frame.f_trace_opcodes, frame.f_trace_lines = True, False
            elif event == "opcode":
                self.of_file[frame.f_code.co_filename] += 1
            return self._trace

        def __enter__(self) -> Self:
            sys.settrace(self._trace)
            return self

        def __exit__(self, *error: object) -> None:
            sys.settrace(None)


async def _count(work: Callable[[], Awaitable[object]]) -> Counter:
    # A task of its own: its frames are new, and are traced from the first one on.
    with Counter() as counter:
        await asyncio.get_running_loop().create_task(_run(work))
    return counter


async def _run(work: Callable[[], Awaitable[object]]) -> None:
    await work()


async def of_floor(server: Server) -> dict[str, Counter]:
    """Steps of the floor: `JOBS` enqueues by many callers, and their run."""
    link = floor.Link(server.url)
    try:
        enqueue = await _count(lambda: floor.enqueue_coalesced(link, JOBS))
        await link.call(b"XGROUP", b"CREATE", floor.STREAM, floor.GROUP, b"0")
        run = await _count(lambda: floor.FloorWorker(link, JOBS).run())
    finally:
        await link.close()
    return {"enqueue": enqueue, "run": run}


async def of_asyncjobs(server: Server) -> tuple[dict[str, Counter], float]:
    """The same of asyncjobs; and how many commands the store executed for a job."""
    # Traced code is slow: no limit of time may end the run.
    app = AsyncJobs(server.url, result_ttl=0, connect_timeout=120)
    job = app.job(queue="bench", name="noop")(fleet.noop.function)

    async def caller(first: int) -> None:
        for number in range(first, JOBS, floor.CALLERS):
            await job.enqueue(number, floor.filler(number))

    async def enqueue() -> None:
        async with asyncio.TaskGroup() as callers:
            for first in range(floor.CALLERS):
                callers.create_task(caller(first))

    worker = Worker(app, queues=["bench"], concurrency=1_000, lease=120, hard_limit=None)
    async with app:
        # The first worker of a process imports modules that are loaded when they are needed.
        # Counted with the jobs, these imports alone would be a tenth of the figure.
        await job.enqueue(0, floor.filler(0))
        await worker.run(burst=True, max_jobs=1)
        calls = server.command("INFO", "commandstats")
        enqueued = await _count(enqueue)
        run = await _count(lambda: worker.run(burst=True, max_jobs=JOBS))
        commands = _commands(server.command("INFO", "commandstats")) - _commands(calls)
    return {"enqueue": enqueued, "run": run}, commands / JOBS


def _commands(text: Any) -> int:
    """All commands that the server has executed, those of scripts among them."""
    lines = (text.decode() if isinstance(text, bytes) else str(text)).splitlines()
    return sum(
        int(line.partition("calls=")[2].partition(",")[0])
        for line in lines
        if line.startswith("cmdstat_") and "config" not in line and "info" not in line
    )


def measure() -> dict[str, float]:
    """Steps of asyncjobs for each of the floor, and commands of the store for a job."""
    with start_server("valkey") as server:
        least = asyncio.run(of_floor(server))
        server.command("FLUSHALL")
        ours, commands = asyncio.run(of_asyncjobs(server))
    shares = {
        f"{name}, times the floor": round(counter.steps / least[name].steps, 2)
        for name, counter in ours.items()
    }
    return {**shares, "store commands a job": round(commands, 2)}


def baseline() -> dict[str, float]:
    """What was counted before, by this version of Python; empty where it has not been."""
    return _baselines().get(VERSION, {})


def _baselines() -> dict[str, dict[str, float]]:
    if not BASELINE.exists():
        return {}
    known: dict[str, dict[str, float]] = json.loads(BASELINE.read_text(encoding="utf-8"))
    return known


def main() -> None:
    """Print the figures beside the baseline; with --update, make them the baseline."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--update", action="store_true", help=f"write benchmarks/guard.json, for Python {VERSION}"
    )
    options = parser.parse_args()
    found, known = measure(), baseline()
    print(f"| figure, Python {VERSION} | now | baseline |\n|---|---:|---:|")
    for name, value in found.items():
        print(f"| {name} | {value} | {known.get(name, '')} |")
    if options.update:
        content = dict(sorted({**_baselines(), VERSION: found}.items()))
        BASELINE.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
