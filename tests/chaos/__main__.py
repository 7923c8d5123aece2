"""`python -m tests.chaos --seconds 60 --seed N`: one run, its figures, exit code 1 when a
promise was broken."""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from asyncjobs.testing.servers import start_server
from tests.chaos.run import Run
from tests.chaos.verdict import Verdict

MOST_SHOWN = 20


def main() -> int:
    """Parse the arguments and run; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="how long things are broken")
    parser.add_argument("--seed", type=int, help="decides jobs and faults; random when not given")
    parser.add_argument("--workers", type=int, default=4, help="worker processes")
    parser.add_argument("--rate", type=float, default=150, help="jobs enqueued a second")
    parser.add_argument("--server", choices=("valkey", "redis"), default="valkey")
    parser.add_argument("--quiet", action="store_true", help="no line for each fault")
    given = parser.parse_args()
    seed = random.getrandbits(32) if given.seed is None else given.seed
    print(f"seed {seed}: {given.seconds:g} s, {given.workers} workers, {given.server}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="aj-chaos-"))
    is_kept = False
    try:
        verdict = asyncio.run(_run(given, seed, folder))
        is_kept = bool(verdict.violations)
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("interrupted; everything has been stopped", file=sys.stderr)
        return 130
    finally:
        if not is_kept:
            shutil.rmtree(folder)
    if is_kept:
        print(f"ledger and logs: {folder}")
        return 1
    return 0


async def _run(given: argparse.Namespace, seed: int, folder: Path) -> Verdict:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    start_s = time.monotonic()

    def tell(line: str) -> None:
        if not given.quiet:
            print(f"{time.monotonic() - start_s:7.2f}  {line}", flush=True)

    config = {"appendonly": "yes", "appendfsync": "always"}
    with start_server(given.server, config=config) as server:
        run = Run(server, folder, seed, workers=given.workers, rate=given.rate, tell=tell)
        verdict = await run(given.seconds)
    _print(run, verdict)
    return verdict


def _print(run: Run, verdict: Verdict) -> None:
    faults = run.faults.counts()
    print("faults: " + ", ".join(f"{kind} {number}" for kind, number in sorted(faults.items())))
    excused = ", ".join(f"{kind} {n}" for kind, n in verdict.repeats.most_common()) or "none"
    print(
        f"jobs: {len(run.planned)}, enqueue calls that failed: {run.failed_enqueues}, "
        f"outcomes looked at early: {len(run.seen)}, left out for a key: {len(run.left_out)}, "
        f"ticks: {len(run.ticks)}, pauses: {len(run.operator.done)}\n"
        f"executions: {len(run.executions)}, repeated: {verdict.repeats.total()} "
        f"(excused by {excused}), unexcused: {verdict.unexcused}\n"
        f"lost: {verdict.lost}, outcomes twice: {verdict.recorded_twice}, "
        f"dead as crashed: {verdict.crashed}, drained in {run.drain_s:.1f} s"
    )
    for violation in verdict.violations[:MOST_SHOWN]:
        print(f"VIOLATION {violation}")
    print(f"violations: {len(verdict.violations)}")


if __name__ == "__main__":
    sys.exit(main())
