"""The least that the design of asyncjobs costs, in bare Python: `python -m benchmarks.floor`.

Three shapes, on Redis Streams with one consumer group and a script for each trip:

- run: an exchange settles finished entries and takes up to 256 new ones; each job is
  decoded from an envelope of about 200 bytes, its function found by name, and run as a
  task of its own. 1,000 slots; the next exchange does not wait for the jobs of the last.
- enqueue, coalesced: 100 callers, each awaiting one enqueue at a time; what gathers
  during a turn of the loop, or while a batch is on its way, goes in one script call.
- enqueue, one by one: a single caller; a script call for each job.

Nothing here can be left out by anybody who builds on this design, and everything that
makes it safe is missing: lease, fence, index, priorities, delays, time-outs, retries,
results, events. `benchmarks.noop` measures asyncjobs against it.

The clock starts with the first job's start and stops when the server has confirmed the
last settlement (run), or starts before the first enqueue and stops after the last answer.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import hiredis
import orjson
from redis.asyncio import Connection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from benchmarks import _rounds

if TYPE_CHECKING:
    from asyncjobs.testing.servers import Server

TAKE: Final = 256
SLOTS: Final = 1000
CALLERS: Final = 100
FILL: Final = 1000
STREAM: Final = b"{floor}:ready"
GROUP: Final = b"w"
RUN, COALESCED, ONE_BY_ONE = "run", "enqueue, coalesced", "enqueue, one by one"

EXCHANGE: Final = b"""#!lua flags=allow-oom
-- Settle finished entries, take new ones. KEYS: stream. ARGV: count, finished ids ...
-- Result: taken entries as {id, {field, envelope}}.
if #ARGV > 1 then
  redis.call('XACK', KEYS[1], 'w', unpack(ARGV, 2))
  redis.call('XDEL', KEYS[1], unpack(ARGV, 2))
end
if ARGV[1] == '0' then return {} end
local reply = redis.call('XREADGROUP', 'GROUP', 'w', 'c', 'COUNT', ARGV[1],
  'STREAMS', KEYS[1], '>')
return reply and reply[1][2] or {}
"""
ENQUEUE: Final = b"""#!lua
-- Add jobs. KEYS: stream. ARGV: envelopes ... Result: how many.
for place = 1, #ARGV do redis.call('XADD', KEYS[1], '*', 'e', ARGV[place]) end
return #ARGV
"""


class Link:
    """One connection without retry, for one caller at a time."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self._connection = Connection(
            host=address.hostname or "127.0.0.1",
            port=address.port or 6379,
            protocol=2,
            socket_timeout=None,
            retry=Retry(NoBackoff(), 0),
        )

    async def call(self, *command: bytes | str | int) -> Any:
        # hiredis packs in C; the driver's own packing costs more than all else here.
        packed = hiredis.pack_command(command)  # type: ignore[arg-type]
        await self._connection.send_packed_command([packed], check_health=False)
        return await self._connection.read_response()

    async def load(self, script: bytes) -> bytes:
        """The digest under which the server knows the script."""
        await self.call(b"SCRIPT", b"LOAD", script)
        return hashlib.sha1(script, usedforsecurity=False).hexdigest().encode()

    async def close(self) -> None:
        await self._connection.disconnect(nowait=True)


class Stopwatch:
    """Counts runs of the no-op; the first one starts the clock, the last one rings."""

    def __init__(self, jobs: int) -> None:
        self._left = jobs
        self._started: float | None = None
        self.all_run = asyncio.Event()

    def count(self) -> None:
        """Called by the no-op, the same way in every shape that is compared."""
        if self._started is None:
            self._started = time.perf_counter()
        self._left -= 1
        if self._left == 0:
            self.all_run.set()

    def seconds(self) -> float:
        """From the first job's start until now."""
        if self._started is None:
            raise RuntimeError("no job has run")
        return time.perf_counter() - self._started


def filler(number: int) -> str:
    """The no-op's argument: makes its envelope about 200 bytes long."""
    return f"customer {number:010d}, " + "x" * 64


def _envelope(number: int) -> bytes:
    call = {
        "v": 1,
        "f": "bench.noop",
        "n": 1,
        "e": 1_700_000_000_000,
        "a": [number, filler(number)],
    }
    return orjson.dumps({"i": f"{number:028x}", **call})


if sys.version_info >= (3, 12):

    def _start(loop: asyncio.AbstractEventLoop, job: Coroutine[Any, Any, None]) -> object:
        return asyncio.Task(job, loop=loop, eager_start=True)

else:

    def _start(loop: asyncio.AbstractEventLoop, job: Coroutine[Any, Any, None]) -> object:
        return loop.create_task(job)


class FloorWorker:
    """Takes, runs and settles until all jobs are settled."""

    def __init__(self, link: Link, jobs: int, slots: int = SLOTS) -> None:
        self._link = link
        self._jobs = jobs
        self._slots = slots
        self._running: set[bytes] = set()
        self._finished: list[bytes] = []
        self._changed = asyncio.Event()
        self._stopwatch = Stopwatch(jobs)
        self._functions: dict[str, Callable[[int, str], Awaitable[None]]] = {
            "bench.noop": self._noop
        }

    async def run(self) -> float:
        """Seconds from the first job's start to the last settlement confirmed."""
        digest = await self._link.load(EXCHANGE)
        loop = asyncio.get_running_loop()
        settled, more = 0, True
        while settled < self._jobs:
            finished, self._finished = self._finished, []
            free = min(TAKE, self._slots - len(self._running)) if more else 0
            if not (finished or free):
                self._changed.clear()
                await self._changed.wait()
                continue
            taken = await self._link.call(b"EVALSHA", digest, 1, STREAM, free, *finished)
            settled += len(finished)
            more = more and len(taken) == free
            for entry, fields in taken:
                self._running.add(entry)
                _start(loop, self._attempt(entry, fields[1]))
        return self._stopwatch.seconds()

    async def _attempt(self, entry: bytes, raw: bytes) -> None:
        envelope = orjson.loads(raw)
        await self._functions[envelope["f"]](*envelope["a"])
        self._running.discard(entry)
        self._finished.append(entry)
        self._changed.set()

    async def _noop(self, number: int, text: str) -> None:
        self._stopwatch.count()


class FloorClient:
    """Sends everything that gathered since the last batch in one script call."""

    def __init__(self, link: Link, digest: bytes) -> None:
        self._link = link
        self._digest = digest
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []
        self._sender: asyncio.Task[None] | None = None

    async def enqueue(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        stored: asyncio.Future[None] = loop.create_future()
        self._waiting.append((_envelope(number), stored))
        if self._sender is None:
            self._sender = loop.create_task(self._send())
        await stored

    async def _send(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            envelopes = [envelope for envelope, _ in batch]
            await self._link.call(b"EVALSHA", self._digest, 1, STREAM, *envelopes)
            for _, stored in batch:
                stored.set_result(None)
        self._sender = None


async def fill(link: Link, jobs: int) -> None:
    """Enqueue so many jobs, for a worker that comes later."""
    await link.call(b"XGROUP", b"CREATE", STREAM, GROUP, b"0", b"MKSTREAM")
    digest = await link.load(ENQUEUE)
    for first in range(0, jobs, FILL):
        envelopes = [_envelope(number) for number in range(first, min(first + FILL, jobs))]
        await link.call(b"EVALSHA", digest, 1, STREAM, *envelopes)


async def run_jobs(link: Link, jobs: int) -> float:
    """Enqueue all jobs before the clock starts, then run them."""
    await fill(link, jobs)
    return await FloorWorker(link, jobs).run()


async def enqueue_coalesced(link: Link, jobs: int) -> float:
    """100 callers share the jobs, each awaits one enqueue at a time."""
    client = FloorClient(link, await link.load(ENQUEUE))

    async def caller(first: int) -> None:
        for number in range(first, jobs, CALLERS):
            await client.enqueue(number)

    started = time.perf_counter()
    async with asyncio.TaskGroup() as callers:
        for first in range(CALLERS):
            callers.create_task(caller(first))
    return time.perf_counter() - started


async def enqueue_one_by_one(link: Link, jobs: int) -> float:
    """One caller, one round trip a job."""
    digest = await link.load(ENQUEUE)
    started = time.perf_counter()
    for number in range(jobs):
        await link.call(b"EVALSHA", digest, 1, STREAM, _envelope(number))
    return time.perf_counter() - started


MEASUREMENTS: Final[dict[str, Callable[[Link, int], Awaitable[float]]]] = {
    RUN: run_jobs,
    COALESCED: enqueue_coalesced,
    ONE_BY_ONE: enqueue_one_by_one,
}


def run_on_fastest_loop(job: Coroutine[Any, Any, float]) -> float:
    """Like asyncio.run, on uvloop when it is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(job)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(job)


def check(shape: _rounds.Shape, server: Server) -> None:
    """Nothing may be left after a run, nothing may be missing after an enqueue."""
    left = server.command("XLEN", STREAM)
    expected = 0 if shape.name == RUN else shape.jobs
    if left != expected:
        raise SystemExit(f"{shape.name}: the stream holds {left} jobs, not {expected}")
    if shape.name == RUN and (pending := server.command("XPENDING", STREAM, GROUP)[0]):
        raise SystemExit(f"{shape.name}: {pending} jobs were taken and not settled")


async def _measure(shape: str, url: str, jobs: int) -> float:
    link = Link(url)
    try:
        return await MEASUREMENTS[shape](link, jobs)
    finally:
        await link.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    _rounds.add_arguments(parser, jobs=50_000)
    options = parser.parse_args()
    if options.measure:
        job = _measure(options.measure, options.url, options.jobs)
        print(json.dumps({"seconds": run_on_fastest_loop(job)}))
        return
    shapes = [
        # A tenth of the jobs tells the same: one by one is ten times slower.
        _rounds.Shape(name, "benchmarks.floor", max(1, options.jobs // divisor))
        for name, divisor in ((RUN, 1), (COALESCED, 1), (ONE_BY_ONE, 10))
    ]
    figures, facts = _rounds.measure(options, shapes, check)
    print("| floor | jobs/s | µs a job |\n|---|---:|---:|")
    for name, figure in figures.items():
        print(f"| {name} | {figure} | {1e6 / figure.median:.1f} |")
    _rounds.print_environment(facts)
    _rounds.save(options.json, figures, facts)


if __name__ == "__main__":
    main()
