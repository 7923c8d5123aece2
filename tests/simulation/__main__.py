"""`python -m tests.simulation --seeds 10000`: run seeds, print those that fail.

`--seed N --trace` replays exactly one and prints what happened.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack

from tests.simulation.many import STEP, run_some
from tests.simulation.planted import PLANTED, planted
from tests.simulation.world import Report, run_seed

MOST_SHOWN = 5


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many to run")
    parser.add_argument("--from", type=int, dest="first", help="the first; by default a random one")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--seed", type=int, help="run this one only, and print its hash")
    parser.add_argument("--trace", action="store_true", help="with --seed: print what happened")
    parser.add_argument("--bug", choices=list(PLANTED), help="plant this bug before")
    return parser.parse_args()


def _show(report: Report, *, trace: bool) -> None:
    print(f"seed {report.seed}: {'FAILED' if report.wrong else 'passed'}, hash {report.hash}")
    if trace:
        for at_s, who, *what in report.trace:
            print(f"  {at_s:10.6f}  {who:10}  {' '.join(map(str, what))}")
    for text in report.wrong:
        print(f"  {text}")
    print("  " + ", ".join(f"{name}: {count}" for name, count in report.numbers.items()))


def _run_many(arguments: argparse.Namespace) -> int:
    first = random.randrange(10**9) if arguments.first is None else arguments.first
    print(f"{arguments.seeds} seeds from {first} (--from {first}) in {arguments.jobs} processes")
    tasks = [
        (start, min(STEP, first + arguments.seeds - start), arguments.bug)
        for start in range(first, first + arguments.seeds, STEP)
    ]
    failed: list[int] = []
    total = Counter[str]()
    started_s, cpu_s = time.monotonic(), os.times()
    with ExitStack() as stack:
        results: Iterable[tuple[list[int], Counter[str]]] = map(run_some, tasks)
        if arguments.jobs > 1:
            # Spawned, not forked: a child starts as clean as the one that replays.
            spawn = multiprocessing.get_context("spawn")
            pool = stack.enter_context(ProcessPoolExecutor(arguments.jobs, spawn))
            results = pool.map(run_some, tasks)
        for some, numbers in results:
            failed += some
            total.update(numbers)
            for seed in some[:MOST_SHOWN]:
                print(f"FAILED: python -m tests.simulation --seed {seed} --trace", flush=True)
    took_s, cpu = time.monotonic() - started_s, os.times()
    spent_s = sum(cpu[:4]) - sum(cpu_s[:4])
    seeds = total.pop("seeds")
    print("a seed: " + ", ".join(f"{count / seeds:.2f} {name}" for name, count in total.items()))
    print(
        f"{seeds} seeds in {took_s:.1f} s, {1000 * spent_s / seeds:.1f} ms of CPU a seed; "
        f"failed: {len(failed)}"
    )
    if failed and arguments.bug is None:
        _show(run_seed(failed[0]), trace=True)
    return 1 if failed else 0


def main() -> int:
    """0 when every seed passes."""
    arguments = _arguments()
    if arguments.seed is None:
        return _run_many(arguments)
    with ExitStack() as stack:
        if arguments.bug is not None:
            stack.enter_context(planted(arguments.bug))
        report = run_seed(arguments.seed)
    _show(report, trace=arguments.trace)
    return 1 if report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
