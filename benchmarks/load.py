"""A steady load from a process of its own: `python -m benchmarks.load`.

Sends batches of no-ops to a queue at planned times, whatever becomes of the ones before,
until its input is closed. Its last line is JSON with the jobs a second that it has sent.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from asyncjobs import AsyncJobs
from benchmarks import fleet, floor

__all__ = ["Load", "beside"]

GAP_S: Final = 0.01
STOP_S: Final = 30.0


class Load:
    """What has been sent, once the block has ended."""

    rate = 0.0


@contextmanager
def beside(url: str, queue: str, a_second: int) -> Iterator[Load]:
    """So many no-ops a second while the block runs."""
    load = Load()
    command = [sys.executable, "-m", "benchmarks.load", "--url", url, "--queue", queue]
    process = subprocess.Popen(
        [*command, "--rate", str(a_second)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        if process.stdout.readline() != "sending\n":
            raise SystemExit("the load beside has not started")
        yield load
        out, _ = process.communicate(timeout=STOP_S)
    finally:
        process.kill()
        process.wait()
    load.rate = float(json.loads(out)["rate"])


async def _send(url: str, queue: str, rate: int) -> float:
    app = AsyncJobs(url, result_ttl=0)
    job = app.job(queue=queue, name=fleet.noop.name)(fleet.noop.function)
    a_batch = max(1, round(rate * GAP_S))
    loop = asyncio.get_running_loop()
    # Ends with the process that wants it, also when that one is killed.
    wanted = loop.run_in_executor(None, sys.stdin.read)
    async with app:
        print("sending", flush=True)
        started_s, batches = loop.time(), 0
        while not wanted.done():
            await asyncio.sleep(max(0.0, started_s + batches * GAP_S - loop.time()))
            await app.enqueue_many([job.bind(n, floor.filler(n)) for n in range(a_batch)])
            batches += 1
        return batches * a_batch / (loop.time() - started_s)


def main() -> None:
    """Send until the input ends."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--url", required=True)
    parser.add_argument("--queue", required=True)
    parser.add_argument("--rate", type=int, required=True, help="no-ops a second")
    options = parser.parse_args()
    rate = floor.run_on_fastest_loop(_send(options.url, options.queue, options.rate))
    print(json.dumps({"rate": rate}), flush=True)


if __name__ == "__main__":
    main()
