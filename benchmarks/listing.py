"""How long a page of a list of jobs takes on a full store: `python -m benchmarks.listing`.

A million ready jobs, a hundred thousand scheduled and as many dead ones, in two queues and all
priorities. Pages from the start, the middle and the end, in both orders, without a filter and with
ones that few jobs or none pass: such a page looks at 3,000 jobs. For each, the time of a page as
who asks sees it; the processor time of both sides, which other work on the machine does not
lengthen; and the processor time of the server for one call, for so long it answers nobody else.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import time
from collections.abc import Sequence
from typing import Final, NamedTuple

from asyncjobs.model.clock import new_id
from asyncjobs.model.demand import Demand
from asyncjobs.model.envelope import encode_call
from asyncjobs.model.headers import Headers, PastError
from asyncjobs.model.job import NewJob, State
from asyncjobs.model.outcome import Outcome, dead_letter
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.lease import LeaseSpec
from asyncjobs.store.listing import JobCursor, JobQuery
from asyncjobs.store.redis.backend import RedisBackend
from asyncjobs.store.seam import EnqueueBatch, StoreSettings
from asyncjobs.testing.servers import Server, start_server
from benchmarks._rounds import machine

QUEUES: Final = ("mail", "reports")
STEP: Final = 1_000
PAGES: Final = 30
"""Pages that are read from each place."""
RARE: Final = 20_000
"""One job in so many is of the rare function."""


class Sizes(NamedTuple):
    """How many jobs there are in each state."""

    ready: int
    scheduled: int
    dead: int


class Page(NamedTuple):
    """One page: how long it took, how much processor time of who asks and of the server it took,
    and how many calls of the server."""

    wall_ms: float
    work_ms: float
    server_ms: float
    calls: int


class Measured(NamedTuple):
    """Pages of one kind."""

    what: str
    pages: list[Page]

    def row(self) -> str:
        wall = sorted(page.wall_ms for page in self.pages)
        work = sorted(page.work_ms for page in self.pages)
        call = max(page.server_ms / page.calls for page in self.pages)
        figures = [_at(wall, 0.5), _at(wall, 0.99), wall[-1], _at(work, 0.5), work[-1], call]
        cells = " | ".join(f"{each:.1f}" for each in figures)
        return f"| {self.what} | {len(wall)} | {cells} |"


def _at(values: list[float], share: float) -> float:
    return values[min(len(values) - 1, round(share * (len(values) - 1)))]


def _job(number: int, text: str = "") -> NewJob:
    name = "app.rare" if number % RARE == 0 else f"app.send_{number % 20}"
    headers = Headers({})
    if text:
        headers = headers.with_error(PastError(1, "builtins.ValueError", text, "", 1, "worker-1"))
    now_ms = time.time_ns() // 1_000_000
    raw = encode_call(
        name, [number, "ada@example.org"], {}, now_ms, None, None, None, headers.fields
    )
    queue = QUEUES[number % 10 == 0]
    return NewJob(queue, new_id(), (0, 1, 2, 2, 2, 2, 2, 2, 2, 3)[number // 10 % 10], raw)


async def _fill(store: RedisBackend, sizes: Sizes) -> None:
    for kind, most in (
        ("dead", sizes.dead),
        ("scheduled", sizes.scheduled),
        ("ready", sizes.ready),
    ):
        for first in range(0, most, STEP):
            text = "" if kind == "ready" else f"no host mail-{first // STEP}.example.org"
            jobs = [_job(number, text) for number in range(first, min(first + STEP, most))]
            if kind == "scheduled":
                jobs = [job._replace(delay_ms=3_600_000 + n) for n, job in enumerate(jobs)]
            await store.enqueue(EnqueueBatch(new_id(), jobs))
        if kind == "dead":
            await _kill(store, most)


async def _kill(store: RedisBackend, jobs: int) -> None:
    """Take all jobs and let them die."""
    lease = await store.lease(LeaseSpec(new_id(), "worker-1", QUEUES, 60_000))
    ends: Sequence[Settlement] = ()
    dead = 0
    sequence = 0
    while dead < jobs:
        sequence += 1
        taken = (await lease.exchange(sequence, ends, dict.fromkeys(QUEUES, Demand(500)))).jobs
        outcome = Outcome(
            State.DEAD, name="app.send", error_type="builtins.ValueError", message="no host"
        )
        ends = [Settlement.dead(job, dead_letter(outcome.encode(), job.envelope)) for job in taken]
        dead += len(ends)
    await lease.exchange(sequence + 1, ends, {})
    await lease.leave()


async def _measure(store: RedisBackend, server: Server, query: JobQuery, what: str) -> Measured:
    """Pages from the start, from the middle, and up to the end."""
    jobs = store.inspect.jobs
    ends = []
    for oldest_first in (True, False):
        page = await jobs.page(
            query._replace(oldest_first=oldest_first, function=None, message=None)
        )
        ends.append(page.jobs[0].time_ms)
    middle = JobCursor(sum(ends) // 2, QUEUES[0], 0, 0)
    if query.state in (State.SCHEDULED, State.DEAD):
        middle = middle._replace(tie=b"")
    last_ms = ends[1] if query.oldest_first else ends[0]
    last = middle._replace(ms=last_ms - 20 if query.oldest_first else last_ms + 20)
    pages: list[Page] = []
    for start in (None, middle, last):
        after: JobCursor | None = start
        for _ in range(PAGES):
            before_s, before_calls = _spent(server)
            began_s = time.perf_counter()
            own_s = time.process_time()
            page = await jobs.page(query, after)
            wall_ms = 1000 * (time.perf_counter() - began_s)
            own_ms = 1000 * (time.process_time() - own_s)
            spent_s, calls = _spent(server)
            server_ms = 1000 * (spent_s - before_s)
            pages.append(Page(wall_ms, own_ms + server_ms, server_ms, max(calls - before_calls, 1)))
            after = page.after
            if after is None:
                break
    return Measured(what, pages)


def _spent(server: Server) -> tuple[float, int]:
    """Processor seconds of the server so far, and calls of scripts."""
    said = server.command("INFO", "cpu", "commandstats").decode()
    seconds = re.findall(r"used_cpu_(?:sys|user)_main_thread:([\d.]+)", said)
    calls = re.search(r"cmdstat_evalsha:calls=(\d+)", said)
    return sum(map(float, seconds)), int(calls[1]) if calls else 0


async def measure(server: Server, sizes: Sizes) -> list[Measured]:
    """Fill a store and read its lists."""
    store = RedisBackend(server.url, StoreSettings())
    await store.open()
    try:
        await _fill(store, sizes)
        found = []
        for state in (State.READY, State.SCHEDULED, State.DEAD):
            queries = {"": {}, ", few": {"function": "app.rar*"}, ", none": {"message": "nobody"}}
            for name, filters in queries.items():
                for oldest_first in (True, False):
                    query = JobQuery(state, oldest_first=oldest_first)._replace(**filters)
                    order = "oldest first" if oldest_first else "newest first"
                    found.append(await _measure(store, server, query, f"{state}, {order}{name}"))
        return found
    finally:
        await store.close()


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ready", type=int, default=1_000_000)
    parser.add_argument("--scheduled", type=int, default=100_000)
    parser.add_argument("--dead", type=int, default=100_000)
    parser.add_argument("--server", choices=("valkey", "redis"), default="valkey")
    options = parser.parse_args()
    with start_server(options.server) as server:
        sizes = Sizes(options.ready, options.scheduled, options.dead)
        found = asyncio.run(measure(server, sizes))
        print(f"- {machine()}\n- {options.server} {server.version}; {sizes}\n")
    print("| pages | number | ms, median | p99 | longest | work, median | most | a call, most |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for each in found:
        print(each.row())


if __name__ == "__main__":
    main()
