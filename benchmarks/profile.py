"""Where the steps of a job go, by part of the code: `python -m benchmarks.profile`.

Counts like `benchmarks.guard`, one no-op from the enqueue (by one of 100 callers) to its
settlement, and shares the steps of the interpreter out over the parts of asyncjobs. To profile
another version, put its folder first in PYTHONPATH.
"""

from __future__ import annotations

import argparse
import asyncio
from collections import Counter
from pathlib import Path
from typing import Final

import asyncjobs
from asyncjobs.testing.servers import start_server
from benchmarks import guard

__all__ = ["by_part", "part_of"]

PACKAGE: Final = Path(asyncjobs.__file__).parent
HERE: Final = Path(__file__).parent
EVENT_LOOP, STORE, WORKER, CLIENT, JOB, OTHER = (
    "the event loop and its tasks",
    "the way to the store",
    "the worker",
    "the client",
    "the job, its envelope and its arguments",
    "the job's own code and the benchmark",
)
PARTS: Final = (JOB, CLIENT, STORE, WORKER, EVENT_LOOP, OTHER)
_FOLDERS: Final = {"store": STORE, "worker": WORKER, "policy": WORKER, "client": CLIENT}


def part_of(file: str) -> str:
    """The part of the code that a source file belongs to."""
    path = Path(file)
    if path.is_relative_to(PACKAGE):
        first = path.relative_to(PACKAGE).parts[0]
        return _FOLDERS.get(first.removesuffix(".py"), JOB)
    if "asyncio" in path.parts and "redis" not in path.parts:
        return EVENT_LOOP
    if "redis" in path.parts or "hiredis" in path.parts:
        return STORE
    return OTHER if path.is_relative_to(HERE) else EVENT_LOOP


def by_part(counter: guard.Counter) -> dict[str, float]:
    """Steps a job of each part."""
    found: Counter[str] = Counter()
    for file, steps in counter.of_file.items():
        found[part_of(file)] += steps
    return {part: found[part] / guard.JOBS for part in PARTS}


def main() -> None:
    """Print one table row for each part."""
    argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0]).parse_args()
    with start_server("valkey") as server:
        least = asyncio.run(guard.of_floor(server))
        server.command("FLUSHALL")
        ours, commands = asyncio.run(guard.of_asyncjobs(server))
    print(f"| steps a job, Python {guard.VERSION} | enqueue | run |\n|---|---:|---:|")
    parts = {name: by_part(counter) for name, counter in ours.items()}
    for part in PARTS:
        print(f"| {part} | {parts['enqueue'][part]:,.0f} | {parts['run'][part]:,.0f} |")
    for label, counters in (("all", ours), ("the floor", least)):
        enqueue, run = (counters[name].steps / guard.JOBS for name in ("enqueue", "run"))
        print(f"| **{label}** | {enqueue:,.0f} | {run:,.0f} |")
    print(f"\n{commands:.2f} commands of the store a job")


if __name__ == "__main__":
    main()
