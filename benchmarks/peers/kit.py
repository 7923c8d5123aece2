"""What all compared programs share: the shapes, and one way to count. Standard library only,
for each program runs in an environment that holds its own queue and nothing of asyncjobs.

The clock of `noop` and `sleep` runs from the first job's start to the last job's end, inside
the worker; that of `enqueue` from before the first call until after the last answer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

__all__ = ["SHAPES", "Peer", "main", "noop", "sleep"]

CALLERS: Final = 100
CONCURRENCY: Final = 1_000
SHAPES: Final = ("noop", "sleep", "enqueue, 100 callers", "enqueue, one caller")


class Peer(Protocol):
    """One queue: how it is opened, fed and worked."""

    async def open(self, url: str) -> None:
        """Connect; afterwards jobs can be enqueued and are kept until there is a worker."""

    async def enqueue(self, name: str, *args: Any) -> object:
        """Store one call of `noop` or `sleep`."""

    async def work(self, concurrency: int) -> None:
        """Run jobs until cancelled."""


class Count:
    """Starts with the first job and rings with the last one."""

    def __init__(self) -> None:
        self.left = 0
        self.started_s: float | None = None
        self.ended_s = 0.0
        self.all_run = asyncio.Event()

    def start(self) -> None:
        """A job has started."""
        if self.started_s is None:
            self.started_s = time.perf_counter()

    def end(self) -> None:
        """A job has ended."""
        self.left -= 1
        if self.left == 0:
            self.ended_s = time.perf_counter()
            self.all_run.set()


_count = Count()


async def noop(number: int, text: str) -> None:
    """Does nothing but count itself."""
    _count.start()
    _count.end()


async def sleep(number: int, text: str) -> None:
    """Waits for 0.1 s."""
    _count.start()
    await asyncio.sleep(0.1)
    _count.end()


async def _enqueue(peer: Peer, name: str, jobs: int, callers: int) -> float:
    async def caller(first: int) -> None:
        for number in range(first, jobs, callers):
            await peer.enqueue(name, number, f"customer {number:010d}, " + "x" * 64)

    started_s = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for first in range(callers):
            group.create_task(caller(first))
    return time.perf_counter() - started_s


async def _measure(peer: Peer, shape: str, url: str, jobs: int, limit_s: float) -> float:
    await peer.open(url)
    if shape.startswith("enqueue"):
        return await _enqueue(peer, "noop", jobs, 1 if shape.endswith("one caller") else CALLERS)
    _count.left = jobs
    await _enqueue(peer, shape, jobs, CALLERS)
    work = asyncio.create_task(peer.work(CONCURRENCY))
    ringing = asyncio.create_task(_count.all_run.wait())
    await asyncio.wait([work, ringing], timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
    if not _count.all_run.is_set():
        raise SystemExit(f"{_count.left:,} of {jobs:,} jobs were not done in {limit_s:g} s")
    for task in (work, ringing):
        task.cancel()
    await asyncio.wait([work, ringing], timeout=10)
    return _count.ended_s - (_count.started_s or 0.0)


def main(make: Callable[[], Peer]) -> None:
    """The program of one peer; its last line is JSON."""
    import uvloop

    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", choices=SHAPES, required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--jobs", type=int, required=True)
    parser.add_argument("--limit", type=float, default=60.0)
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)

    async def measure() -> float:
        return await _measure(make(), options.shape, options.url, options.jobs, options.limit)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        seconds = runner.run(measure())
    print(json.dumps({"seconds": seconds}), flush=True)
