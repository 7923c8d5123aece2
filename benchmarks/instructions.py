"""Machine instructions of a job, counted by callgrind: `python -m benchmarks.instructions`.

Needs valgrind. Each shape of `benchmarks.noop` and `benchmarks.floor` is run twice, with few
jobs and with more; the difference is what the jobs cost, without imports and start-up. Of
this process alone: what the store does is not counted. Python runs fifty times slower.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from typing import Final

from asyncjobs.testing.servers import start_server
from benchmarks import floor, noop

SHAPES: Final = (
    ("floor", "benchmarks.floor", floor.RUN),
    ("asyncjobs", "benchmarks.noop", noop.RESULTS_OFF),
    ("asyncjobs", "benchmarks.noop", noop.RESULTS_ON),
    ("floor", "benchmarks.floor", floor.COALESCED),
    ("asyncjobs", "benchmarks.noop", noop.MANY_CALLERS),
)
LIMIT_S: Final = 600.0
_COLLECTED: Final = re.compile(r"Collected : (\d+)")


def count(module: str, shape: str, jobs: int) -> int:
    """All instructions of a process that runs so many jobs."""
    with start_server("valkey") as server:
        command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
        command += [sys.executable, "-m", module, "--measure", shape]
        command += ["--url", server.url, "--jobs", str(jobs)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    found = _COLLECTED.search(done.stderr)
    if done.returncode or found is None:
        raise SystemExit(f"{shape}: valgrind ended with {done.returncode}\n{done.stderr[-2000:]}")
    return int(found[1])


def main() -> None:
    """Print one table row for each shape."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=4_000, help="jobs that are counted (4,000)")
    options = parser.parse_args()
    if shutil.which("valgrind") is None:
        raise SystemExit("valgrind is not on PATH; install the package valgrind")
    print("| shape | of | instructions a job |\n|---|---|---:|")
    for subject, module, shape in SHAPES:
        few = count(module, shape, 2_000)
        many = count(module, shape, 2_000 + options.jobs)
        print(f"| {shape} | {subject} | {(many - few) / options.jobs:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
