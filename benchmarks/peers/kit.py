"""What all compared programs share: the shapes, and one way to count. Standard library only,
for each program runs in an environment that holds its own queue and nothing of asyncjobs.

The clock of `noop`, `sleep` and `limited` runs from the first job's start to the last job's end,
inside the worker; that of `enqueue` from before the first call until after the last answer.
`pickup` is from the moment at which a job was to be sent to its first line: a second process sends
one each hundredth of a second, whether or not the one before has been answered. That of `chord`
runs from before the first call that makes a flow until the job behind all others has run, beside
a worker that waits for jobs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import math
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, Final, Protocol, Self

__all__ = [
    "CHORD",
    "LIMITED",
    "PICKUP",
    "SHAPES",
    "Count",
    "Peer",
    "child",
    "figures",
    "last",
    "limited",
    "main",
    "noop",
    "parse",
    "pickup",
    "sleep",
    "text_of",
]

CALLERS: Final = 100
CONCURRENCY: Final = 1_000
PICKUP: Final = "pickup"
CHORD: Final = "chord"
LIMITED: Final = "limited"
KEYS: Final = 1_000
"""Of `limited`: for each key one job runs at a time."""
SHAPES: Final = (
    "noop",
    "sleep",
    "enqueue, 100 callers",
    "enqueue, one caller",
    PICKUP,
    LIMITED,
    CHORD,
)
GAP_S: Final = 0.01
WARM: Final = 100
"""Jobs of `pickup` that are sent first and left out: connections and scripts are loaded then."""
WARM_TEXT: Final = "warm"


class Peer(Protocol):
    """One queue: how it is opened, fed and worked."""

    async def open(self, url: str) -> None:
        """Connect; afterwards jobs can be enqueued and are kept until there is a worker."""

    async def enqueue(self, name: str, *args: Any) -> object:
        """Store one call of `noop`, `sleep` or `pickup`, or of `limited` if it has limits."""

    async def work(self, concurrency: int) -> None:
        """Run jobs until cancelled."""


class Flows(Protocol):
    """What a peer has, too, that lets a job wait for many others."""

    async def chord(self, children: int) -> None:
        """Store this many calls of `child`, and one of `last` that runs when all have ended."""


class Count:
    """Starts with the first job and rings with the last one."""

    def __init__(self) -> None:
        self.left = 0
        self.started_s: float | None = None
        self.ended_s = 0.0
        self.late_us: list[int] = []
        self.ring: Callable[[], object] = lambda: None

    def start(self) -> None:
        """A job has started."""
        if self.started_s is None:
            self.started_s = time.perf_counter()

    def end(self) -> None:
        """A job has ended."""
        self.left -= 1
        if self.left == 0:
            self.ended_s = time.perf_counter()
            self.ring()

    def picked(self, planned_us: int, text: str) -> None:
        """A job that was to be sent at `planned_us` has started."""
        late_us = time.monotonic_ns() // 1000 - planned_us
        self.start()
        if not text.startswith(WARM_TEXT):
            self.late_us.append(late_us)
        self.end()


count: Final = Count()


async def noop(number: int, text: str) -> None:
    """Does nothing but count itself."""
    count.start()
    count.end()


async def limited(key: int, text: str) -> None:
    """A no-op of which one runs at a time for each key."""
    count.start()
    count.end()


async def sleep(number: int, text: str) -> None:
    """Waits for 0.1 s."""
    count.start()
    await asyncio.sleep(0.1)
    count.end()


async def pickup(number: int, text: str) -> None:
    """Notes how long after `number`, the planned moment in microseconds, it starts."""
    count.picked(number, text)


async def child(number: int, text: str) -> None:
    """A job of a flow that does nothing."""


async def last(*_: object) -> None:
    """The job of a flow that runs when all others have ended."""
    count.start()
    count.end()


def text_of(number: int) -> str:
    """The second argument of a job, some 100 bytes."""
    return f"customer {number:010d}, " + "x" * 64


def figures(shape: str) -> dict[str, float]:
    """What a worker has measured, once all jobs have run."""
    if shape != PICKUP:
        return {"seconds": count.ended_s - (count.started_s or 0.0)}
    late = sorted(count.late_us)
    return {
        f"p{rank}_ms": late[math.ceil(len(late) * rank / 100) - 1] / 1000 for rank in (50, 95, 99)
    }


async def _enqueue(peer: Peer, name: str, jobs: int, callers: int) -> float:
    async def caller(first: int) -> None:
        for number in range(first, jobs, callers):
            first_argument = number
            if name == LIMITED:
                first_argument = number % KEYS
            await peer.enqueue(name, first_argument, text_of(number))

    started_s = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for first in range(callers):
            group.create_task(caller(first))
    return time.perf_counter() - started_s


async def _feed(peer: Peer, jobs: int) -> None:
    """Send `pickup` jobs at planned moments."""
    first_s = time.monotonic() + 0.1
    async with asyncio.TaskGroup() as group:
        for number in range(jobs + WARM):
            planned_s = first_s + number * GAP_S
            # Timers of the loop have milliseconds: sleep short of the moment, then look often.
            await asyncio.sleep(max(0.0, planned_s - time.monotonic() - 0.002))
            while time.monotonic() < planned_s:  # noqa: ASYNC110 - no event tells the time
                await asyncio.sleep(0)
            text = WARM_TEXT if number < WARM else text_of(number)
            group.create_task(_sent(peer, int(planned_s * 1e6), text))


async def _sent(peer: Peer, planned_us: int, text: str) -> None:
    await peer.enqueue(PICKUP, planned_us, text)


async def _chord(peer: Peer, options: argparse.Namespace) -> dict[str, float]:
    chord: Callable[[int], Any] | None = getattr(peer, "chord", None)
    if chord is None:
        raise SystemExit("it has no job that waits for many others")
    all_run = asyncio.Event()
    count.left, count.ring = 1, all_run.set
    work = asyncio.create_task(peer.work(CONCURRENCY))
    await asyncio.sleep(1)  # until the worker waits for its first job
    started_s = time.perf_counter()
    await chord(options.jobs)
    ringing = asyncio.create_task(all_run.wait())
    await asyncio.wait([work, ringing], timeout=options.limit, return_when=asyncio.FIRST_COMPLETED)
    if not all_run.is_set():
        if work.done() and (error := work.exception()):
            raise error
        raise SystemExit(f"the last job has not run in {options.limit:g} s")
    for task in (work, ringing):
        task.cancel()
    await asyncio.wait([work, ringing], timeout=10)
    return {"seconds": count.ended_s - started_s}


async def _measure(peer: Peer, options: argparse.Namespace) -> dict[str, float]:
    shape, jobs = options.shape, options.jobs
    if shape == LIMITED and not getattr(peer, "has_limits", False):
        raise SystemExit("it has no limit by key")
    await peer.open(options.url)
    if options.feed:
        await _feed(peer, jobs)
        return {}
    if shape == CHORD:
        return await _chord(peer, options)
    if shape.startswith("enqueue"):
        callers = 1 if shape.endswith("one caller") else CALLERS
        # Connections are opened and scripts are loaded before the clock starts.
        await _enqueue(peer, "noop", 2 * callers, callers)
        return {"seconds": await _enqueue(peer, "noop", jobs, callers)}
    all_run = asyncio.Event()
    count.left, count.ring = jobs, all_run.set
    if shape != PICKUP:
        await _enqueue(peer, shape, jobs, CALLERS)
    work = asyncio.create_task(peer.work(CONCURRENCY))
    if shape == PICKUP:
        count.left += WARM
        await asyncio.sleep(1)  # until the worker waits for its first job
    with Feeder(shape):
        ringing = asyncio.create_task(all_run.wait())
        await asyncio.wait(
            [work, ringing], timeout=options.limit, return_when=asyncio.FIRST_COMPLETED
        )
    if not all_run.is_set():
        if work.done() and (error := work.exception()):
            raise error
        raise SystemExit(f"{count.left:,} of {jobs:,} jobs were not done in {options.limit:g} s")
    for task in (work, ringing):
        task.cancel()
    await asyncio.wait([work, ringing], timeout=10)
    return figures(shape)


class Feeder:
    """The process that sends the jobs of `pickup`, ended with the block; none for other shapes."""

    def __init__(self, shape: str) -> None:
        self._command = [*sys.orig_argv, "--feed"] if shape == PICKUP else None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        if self._command is not None:
            self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            try:
                self._process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def parse() -> argparse.Namespace:
    """The options that `compare` gives to each program."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", choices=SHAPES, required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--jobs", type=int, required=True)
    parser.add_argument("--limit", type=float, default=60.0)
    parser.add_argument("--feed", action="store_true", help="be the process that sends")
    logging.basicConfig(level=logging.WARNING)
    return parser.parse_args()


def main(make: Callable[[], Peer]) -> None:
    """The program of one peer; its last line is JSON."""
    import uvloop

    options = parse()

    async def measure() -> dict[str, float]:
        return await _measure(make(), options)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(measure())
    print(json.dumps(found), flush=True)
