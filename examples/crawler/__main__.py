"""Crawls a slow website: thousands of pages waited for at once, in one worker process.

    python examples/crawler --help

This process starts a store and the website, both on loopback, enqueues the index and
follows the results; a worker in a process of its own fetches. Exit code 0: every page was
fetched. 1: some were not, or the worker or the store failed. 2: a wrong option. 130:
interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tasks import Page, app, crawl
from website import Site

from asyncjobs import AsyncJobsError, JobDiscarded, JobHandle, ResultError
from asyncjobs.testing.servers import start_server

HERE: Final = Path(__file__).resolve().parent
READERS: Final = 100
"""Results awaited at a time; they share one connection."""
STOP_LIMIT_S: Final = 15.0
LOG_LINES: Final = 30
SPARE_FILES: Final = 200
"""Open files of a process beside one for each connection."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asked for; times in seconds."""

    pages: int
    wait_s: float
    connections: int
    timeout_s: float


@dataclass(slots=True)
class Crawl:
    """What came of the pages: a word for each URL, and when the last result was read."""

    endings: dict[str, str] = field(default_factory=dict)
    known: int = 0
    last_s: float = 0.0

    def count(self, ending: str) -> int:
        """How many pages ended like that."""
        return Counter(self.endings.values())[ending]

    def is_complete(self, pages: int) -> bool:
        """The index and all pages were fetched, but for the dead link."""
        return self.count("fetched") == pages and self.count("not there") == 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run the crawl; returns the exit code."""
    options = _parse(argv)
    # A shell has a command in the background ignore SIGINT, and SIGTERM is passed on as one.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        with (
            tempfile.TemporaryDirectory(prefix="crawler-") as scratch,
            start_server("valkey") as store,
        ):
            os.environ["ASYNCJOBS_URL"] = store.url
            return asyncio.run(_drive(options, Path(scratch, "worker.log")))
    except AsyncJobsError as error:
        print(f"the crawl failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; worker, website and store are stopped", file=sys.stderr)
        return 130


def _parse(argv: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(prog="crawler", description="Crawl a slow local website.")
    add = parser.add_argument
    add(
        "--pages",
        type=_positive,
        default=5000,
        metavar="N",
        help="links below the index, one of them dead",
    )
    add("--wait", type=float, default=5.0, metavar="S", help="seconds that a page takes")
    add("--connections", type=_positive, default=5000, metavar="N", help="at a time, at most")
    add("--timeout", type=_positive, default=120, metavar="S", help="seconds for all of it")
    given = parser.parse_args(argv)
    if not 0 <= given.wait <= 30:
        parser.error(f"--wait: {given.wait:g} is not from 0 to 30")
    most = _allow_files(min(given.pages, given.connections) + SPARE_FILES)
    if most is not None:
        parser.error(
            f"a process may open {most} files here, too few for --connections "
            f"{given.connections}; take at most {max(most - SPARE_FILES, 1)}, or raise ulimit -n"
        )
    return Options(given.pages, given.wait, given.connections, given.timeout)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _allow_files(needed: int) -> int | None:
    """Let this process, and the worker that it starts, open so many files.

    Many systems allow 256 or 1,024 until a process asks for more. Returns how many it
    is when they are too few.
    """
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY not in (soft, hard) and hard < needed:
        return hard
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    return None


async def _drive(options: Options, log: Path) -> int:
    async with Site(options.pages, options.wait_s) as site, app:
        worker = await _start_worker(options, log)
        _say(f"website   {options.pages:,} pages, each takes {options.wait_s:g} s, at {site.index}")
        _say(f"worker    pid {worker.pid}, up to {options.connections:,} connections")
        found = Crawl()
        try:
            ended = await _work(worker, site, found, options.timeout_s)
        finally:
            await _stop(worker)
        _say(f"\n{report(options, site, found)}")
        if not ended:
            _show_log(log)
        return 0 if ended and found.is_complete(options.pages) else 1


def _show_log(log: Path) -> None:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:]
    print("\nthe last lines of the worker:", *lines, sep="\n", file=sys.stderr)


async def _work(
    worker: asyncio.subprocess.Process, site: Site, found: Crawl, timeout_s: float
) -> bool:
    """Whether all that was found has ended, in time and before the worker did."""
    reading = asyncio.create_task(_follow(site.index, found))
    death = asyncio.create_task(worker.wait())
    try:
        await asyncio.wait({reading, death}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if reading.done():
            reading.result()
            return True
        why = "the worker has ended" if death.done() else f"not done within {timeout_s:g} s"
        print(why, file=sys.stderr)
        return False
    finally:
        reading.cancel()
        death.cancel()
        await asyncio.wait({reading, death})


async def _follow(index: str, found: Crawl) -> None:
    """Enqueue the index, then read the result of each page that a result links to."""
    pages: asyncio.Queue[JobHandle[Page]] = asyncio.Queue()
    seen = {index}
    found.known = 1
    pages.put_nowait(await crawl.options(id=index).enqueue(index))

    async def read() -> None:
        while True:
            handle = await pages.get()
            found.endings[handle.id], links = await _ending(handle)
            found.last_s = time.monotonic()
            for link in links:
                if link not in seen:
                    seen.add(link)
                    # A job enqueues its links before it ends: they are known by now.
                    pages.put_nowait(crawl.handle(link))
            found.known = len(seen)
            pages.task_done()

    readers = [asyncio.create_task(read()) for _ in range(READERS)]
    everything = asyncio.create_task(pages.join())
    try:
        await asyncio.wait({everything, *readers}, return_when=asyncio.FIRST_COMPLETED)
        for task in readers:
            if task.done():
                task.result()
    finally:
        for task in (everything, *readers):
            task.cancel()
        await asyncio.wait({everything, *readers})


async def _ending(handle: JobHandle[Page]) -> tuple[str, list[str]]:
    try:
        return "fetched", (await handle.result())["links"]
    except JobDiscarded:
        return "not there", []
    except ResultError as error:
        return f"failed: {error.args[0]}", []


def report(options: Options, site: Site, found: Crawl) -> str:
    """What there was, and how long it took against what is possible."""
    fetched, dead = found.count("fetched"), found.count("not there")
    began_s = site.first_s if site.first_s is not None else found.last_s
    took_s = max(found.last_s - began_s, 0.0)
    # The index first, then everything that it links to, as many at a time as may be.
    rounds = 1 + math.ceil(options.pages / options.connections)
    ideal_s = rounds * options.wait_s
    rows = {
        "pages": f"{fetched:,} fetched, {dead:,} not there, {site.requests:,} requests",
        "at once": f"{site.most_waiting:,} requests waited at the same time",
        "one by one": f"{site.requests * options.wait_s:,.0f} s",
        "ideal": f"{ideal_s:.2f} s, {rounds} waits one after another",
        "took": f"{took_s:.2f} s from the first request to the last result",
    }
    if not found.is_complete(options.pages):
        rows["took"] = "not finished"
    elif ideal_s:
        rows["took"] += f", {took_s / ideal_s:.2f} times the ideal"
    if others := len(found.endings) - fetched - dead:
        rows["failed"] = f"{others:,}"
    if open_ := found.known - len(found.endings):
        rows["not ended"] = f"{open_:,}"
    return "\n".join(f"{name:<12}{text}" for name, text in rows.items())


async def _start_worker(options: Options, log: Path) -> asyncio.subprocess.Process:
    # Settings of the user's own workers must not reach this one.
    kept = {name: value for name, value in os.environ.items() if "ASYNCJOBS_" not in name}
    command = [
        *(sys.executable, "-m", "asyncjobs", "worker", "tasks:app", "--grace", "2s"),
        *("--concurrency", str(options.connections), "--log-format", "console"),
    ]
    with log.open("wb") as file:
        return await asyncio.create_subprocess_exec(
            *command,
            cwd=HERE,
            env={
                **kept,
                "ASYNCJOBS_URL": os.environ["ASYNCJOBS_URL"],
                "CRAWLER_CONNECTIONS": str(options.connections),
                "NO_COLOR": "1",
            },
            stdin=asyncio.subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            # Ctrl-C is for this process, which stops the worker before the store.
            start_new_session=True,
        )


async def _stop(worker: asyncio.subprocess.Process) -> None:
    """End the worker: it gives its jobs back, or is killed when it does not."""
    if worker.returncode is not None:
        return
    worker.terminate()
    try:
        async with asyncio.timeout(STOP_LIMIT_S):
            await worker.wait()
    except TimeoutError:
        print(f"the worker does not stop within {STOP_LIMIT_S:g} s; killed", file=sys.stderr)
    finally:
        if worker.returncode is None:
            worker.kill()
            await worker.wait()


def _say(line: str) -> None:
    # Flushed, so that the lines keep their order when the output is a file or a pipe.
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
