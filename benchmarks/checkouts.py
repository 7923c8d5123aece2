"""This checkout beside another one, by turns: `python -m benchmarks.checkouts OTHER`.

What a change costs is seen only where both versions are measured in one run: a machine is
seldom as fast today as it was yesterday. Each checkout runs its own program in its own
environment (`.venv`, made by `make env`), on one server that is emptied in between. The
order is reversed every other round. The ratio is this checkout's figure divided by the
other's: the median of the rounds' own ratios.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from asyncjobs.testing.servers import Server, start_server
from benchmarks import _rounds, noop

__all__ = ["SHAPES", "Shape", "main", "measure", "table"]

HERE: Final = Path(__file__).resolve().parent.parent
LIMIT_S: Final = 600.0
Rates = dict[tuple[str, str], list[float]]
"""By figure and unit: a number for each round."""


class Shape(NamedTuple):
    """One thing to measure: the arguments of the program, and what its last line says."""

    arguments: tuple[str, ...]
    read: Callable[[Any], dict[tuple[str, str], float]]


def _noop(name: str, jobs: int) -> Shape:
    arguments = ("benchmarks.noop", "--measure", name, "--jobs", str(jobs))
    return Shape(arguments, lambda said: {(name, "jobs/s"): jobs / said["seconds"]})


def _pickup(*flags: str) -> Shape:
    arguments = ("benchmarks", "run", "--measure", "pickup", *flags)

    def read(said: Any) -> dict[tuple[str, str], float]:
        return {(f"pickup {name}", unit): value for name, (value, unit) in said.items()}

    return Shape(arguments, read)


def shapes(jobs: int, *, quick: bool) -> dict[str, Shape]:
    """What can be measured, by name; `jobs` are those of a round."""
    few = max(1, jobs // 10)
    flags = ("--quick",) if quick else ()
    return {
        "off": _noop(noop.RESULTS_OFF, jobs),
        "on": _noop(noop.RESULTS_ON, jobs),
        "enqueue-100": _noop(noop.MANY_CALLERS, jobs),
        "enqueue-1": _noop(noop.ONE_CALLER, few),
        "pickup": _pickup(*flags),
    }


SHAPES: Final = tuple(shapes(1, quick=False))


def python_of(checkout: Path) -> Path:
    """The interpreter of a checkout's own environment."""
    found = checkout / ".venv" / "bin" / "python"
    if not found.exists():
        raise SystemExit(f"{checkout} has no environment of its own; say `make env` there")
    return found


def _run(checkout: Path, shape: Shape, server: Server) -> dict[tuple[str, str], float]:
    server.command("FLUSHALL")
    command = [str(python_of(checkout)), "-m", *shape.arguments, "--url", server.url]
    done = subprocess.run(
        command, cwd=checkout, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"{checkout}: {' '.join(command)} failed\n{done.stderr[-2000:]}")
    return shape.read(json.loads(done.stdout.splitlines()[-1]))


def measure(
    other: Path, chosen: Sequence[Shape], *, rounds: int, kind: str = "valkey"
) -> tuple[Rates, Rates]:
    """The figures of this checkout and of the other one."""
    found: dict[Path, Rates] = {HERE: {}, other: {}}
    with start_server(kind) as server:
        for number in range(rounds):
            for shape in chosen:
                turns = [HERE, other]
                if number % 2 == 1:
                    turns.reverse()
                for checkout in turns:
                    for figure, value in _run(checkout, shape, server).items():
                        found[checkout].setdefault(figure, []).append(value)
            print(f"round {number + 1} of {rounds}", file=sys.stderr)
    return found[HERE], found[other]


def table(ours: Rates, theirs: Rates) -> str:
    """The figures of both checkouts as a Markdown table."""
    lines = ["| figure | other | this | this / other |", "|---|---:|---:|---:|"]
    for figure, values in ours.items():
        name, unit = figure
        ratio = statistics.median(
            our / their for our, their in zip(values, theirs[figure], strict=True)
        )
        lines.append(
            f"| {name}, {unit} | {_words(theirs[figure])} | {_words(values)} | {ratio:.3f} |"
        )
    return "\n".join(lines)


def _words(values: Sequence[float]) -> str:
    digits = 0 if max(values) >= 100 else 2
    middle, least, most = statistics.median(values), min(values), max(values)
    return f"{middle:,.{digits}f} ({least:,.{digits}f} to {most:,.{digits}f})"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("other", type=Path, help="another checkout, with its own .venv")
    parser.add_argument("--shapes", default=",".join(SHAPES), help="comma-separated names")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each shape (7)")
    parser.add_argument("--jobs", type=int, default=50_000, help="jobs a round (50,000)")
    parser.add_argument("--server", choices=("valkey", "redis"), default="valkey")
    parser.add_argument("--quick", action="store_true", help="a smoke: its figures mean nothing")
    options = parser.parse_args(arguments)
    known = shapes(options.jobs, quick=options.quick)
    names = options.shapes.split(",")
    for name in names:
        if name not in known:
            parser.error(f"no shape {name!r}; choose from {', '.join(known)}")
    chosen = [known[name] for name in names]
    other = options.other.resolve()
    ours, theirs = measure(other, chosen, rounds=options.rounds, kind=options.server)
    print(table(ours, theirs))
    print(f"\n- {_rounds.machine()}; {options.server}, TCP on loopback, no persistence")
    print(f"- {options.rounds} rounds by turns; median (lowest to highest)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
