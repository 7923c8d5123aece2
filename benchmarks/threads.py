"""How many threads help sync job functions: `python -m benchmarks.threads`.

Each row is a worker in a process of its own, on the memory store, with one kind of job and one
number of threads. `loop`: how late a timer of 10 ms was on the event loop, which is how long
every other job of the process waits for its turn. The first row of a kind is a plain loop
that calls the function, without a worker.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import orjson

from asyncjobs import AsyncJobs, Worker

NUMBERS = (1, 2, 4, 6, 8, 12, 16, 40)
TICK_S = 0.01
BLOCK = b"x" * 4_000_000
app = AsyncJobs("memory:")


def compute(steps: int) -> int:
    """Some 15 ms of Python for 300,000 steps."""
    found = 0
    for step in range(steps):
        found ^= step * step
    return found


@app.job(timeout=None)
def python() -> None:
    """Python code: it holds the interpreter's lock."""
    compute(300_000)


@app.job(timeout=None)
def native() -> None:
    """Code in C that frees the lock: hashes, compression, much of numpy."""
    hashlib.sha256(BLOCK).digest()


@app.job(timeout=None)
def mixed() -> None:
    """A query, and something made of its rows: 20 ms of waiting, then some Python."""
    time.sleep(0.02)
    compute(40_000)


@app.job(timeout=None)
def waiting() -> None:
    """A call of another service."""
    time.sleep(0.05)


KINDS: dict[str, tuple[Callable[[], None], int]] = {
    "python": (python.function, 100),
    "native": (native.function, 100),
    "mixed": (mixed.function, 400),
    "waiting": (waiting.function, 600),
}


async def measure(kind: str, threads: int) -> dict[str, float]:
    """One row."""
    number = KINDS[kind][1]
    lates_s: list[float] = []

    async def tick() -> None:
        while True:
            due_s = time.perf_counter() + TICK_S
            await asyncio.sleep(TICK_S)
            lates_s.append(time.perf_counter() - due_s)

    job = app.registry.find(f"{app_module()}.{kind}")
    assert job is not None
    async with app:
        await app.enqueue_many([job.bind() for _ in range(number)])
        ticking = asyncio.create_task(tick())
        began_s, cpu_s = time.perf_counter(), time.process_time()
        await Worker(app, threads=threads, block_warning=None).run(max_jobs=number, burst=True)
        took_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
        ticking.cancel()
    lates_s.sort()
    return {
        "jobs_s": number / took_s,
        "cpu_ms": cpu_s / number * 1000,
        "late_p50_ms": statistics.median(lates_s) * 1000,
        "late_p99_ms": lates_s[int(len(lates_s) * 0.99)] * 1000,
    }


def app_module() -> str:
    """Where the job functions say that they are."""
    return python.name.rpartition(".")[0]


def plain(kind: str) -> dict[str, float]:
    function, number = KINDS[kind]
    began_s, cpu_s = time.perf_counter(), time.process_time()
    for _ in range(number):
        function()
    took_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
    return {"jobs_s": number / took_s, "cpu_ms": cpu_s / number * 1000}


def child(kind: str, threads: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.threads", "--one", kind, str(threads)]
    row: dict[str, float] = orjson.loads(subprocess.check_output(command))
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--one", nargs=2, metavar=("KIND", "THREADS"), help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=3, help="medians of so many, by turns")
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=list(KINDS))
    parser.add_argument("--threads", nargs="*", type=int, default=NUMBERS)
    options = parser.parse_args()
    if options.one is not None:
        kind, threads = options.one[0], int(options.one[1])
        row = plain(kind) if threads == 0 else asyncio.run(measure(kind, threads))
        print(orjson.dumps(row).decode())
        return
    for kind in options.kinds:
        print(f"{kind}: {(KINDS[kind][0].__doc__ or '').strip()}")
        rows: dict[int, list[dict[str, float]]] = {n: [] for n in (0, *options.threads)}
        for _ in range(options.rounds):
            for threads, found in rows.items():
                found.append(child(kind, threads))
        for threads, found in rows.items():
            name = f"{threads} threads" if threads else "plain loop"
            cells = [
                f"{key} {statistics.median(row[key] for row in found):8.1f}" for key in found[0]
            ]
            print(f"  {name:>11}  " + "  ".join(cells), flush=True)


if __name__ == "__main__":
    main()
