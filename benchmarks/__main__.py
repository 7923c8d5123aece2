"""Measure asyncjobs: `python -m benchmarks run`, `compare`, `plot`, `list`.

`run` measures every shape, or those that are named, each in a process of its own on a
fresh server, with the append-only file off and with fsync every second. JSON and a
Markdown table go to benchmarks/results/. `--quick` is a smoke: its figures mean nothing.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from asyncjobs.testing.servers import start_server
from benchmarks import _rounds, compare, plots
from benchmarks.beside import FLOORS, SHARED, share
from benchmarks.floor import run_on_fastest_loop
from benchmarks.modes import FSYNC
from benchmarks.records import Record, markdown, write
from benchmarks.shapes import SHAPES, Figures
from benchmarks.sizes import in_words

RESULTS: Final = Path(__file__).parent / "results"
QUICK: Final = 0.01
LIMIT_S: Final = 600.0
OURS, FLOOR = "asyncjobs", "floor"
Found = dict[tuple[str, str, str, str, str], list[float]]
"""By shape, append-only mode, subject, figure and unit: a number for each round."""
PERSISTENCE: Final = ("appendonly", "appendfsync")


def main(arguments: list[str] | None = None) -> int:
    """The program; returns its exit code."""
    options = _parser().parse_args(arguments)
    if options.command == "list":
        for name, shape in SHAPES.items():
            print(f"{name:12} {(shape.__doc__ or '').partition(chr(10))[0]}")
        return 0
    if options.command == "compare":
        compare.main(options)
        return _plot(options.out)
    if options.command == "plot":
        return plots.main(options)
    if options.measure:
        return _measure(options)
    records = _run(options)
    facts = _facts(options)
    print(markdown(records, facts))
    if not options.quick:
        # Some shapes alone must not take the place of all.
        name = "-".join(["asyncjobs", *options.shapes])
        for file in write(records, facts, options.out, name):
            print(f"written: {file}", file=sys.stderr)
        _plot(options.out)
    return 0


def _plot(folder: Path) -> int:
    """After a measurement pictures are a gift: without matplotlib it was not in vain."""
    if find_spec("matplotlib") is None:
        print(plots.MISSING, file=sys.stderr)
        return 0
    return plots.main(argparse.Namespace(out=folder))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="what can be measured")
    compare.add_arguments(commands.add_parser("compare", help="other queues beside asyncjobs"))
    plots.add_arguments(commands.add_parser("plot", help="draw what was measured"))
    run = commands.add_parser("run", help="measure the shapes")
    run.add_argument("shapes", nargs="*", metavar="SHAPE", help="by default all of them")
    run.add_argument("--quick", action="store_true", help="a smoke with tiny numbers")
    run.add_argument("--rounds", type=int, default=3, help="rounds of each shape (3)")
    run.add_argument("--fsync", default="off,everysec", help="off, everysec, or both")
    run.add_argument("--server", choices=("valkey", "redis"), default="valkey")
    run.add_argument("--out", type=Path, default=RESULTS, help="folder for the results")
    run.add_argument("--measure", help=argparse.SUPPRESS)
    run.add_argument("--url", help=argparse.SUPPRESS)
    return parser


class _Failed(Exception):
    """One shape gave no figures."""


def _names(options: argparse.Namespace) -> list[str]:
    names = options.shapes or list(SHAPES)
    for name in names:
        if name not in SHAPES:
            raise SystemExit(f"no shape {name!r}; choose from {', '.join(SHAPES)}")
    return names


def _modes(options: argparse.Namespace) -> list[str]:
    modes = ["off"] if options.quick else options.fsync.split(",")
    for mode in modes:
        if mode not in FSYNC:
            raise SystemExit(f"--fsync {mode!r} is not one of {', '.join(FSYNC)}")
    return modes


def _run(options: argparse.Namespace) -> list[Record]:
    names, modes = _names(options), _modes(options)
    found: Found = {}
    failed: list[Record] = []
    for number in range(1 if options.quick else options.rounds):
        for name in names:
            for mode in modes:
                try:
                    figures_of = _round(options, name, mode, number)
                except _Failed as error:
                    # The others' figures are worth hours; a smoke has none to lose.
                    if options.quick:
                        raise SystemExit(f"{name}: {error}") from error
                    print(f"{name}: {error}", file=sys.stderr)
                    failed.append(
                        Record(name, OURS, "none", "", mode, (), f"{error} (round {number + 1})")
                    )
                    continue
                for subject, figures in figures_of.items():
                    for figure, (value, unit) in figures.items():
                        found.setdefault((name, mode, subject, figure, unit), []).append(value)
    return _records(found) + failed


def _round(options: argparse.Namespace, name: str, mode: str, number: int) -> dict[str, Figures]:
    """One shape of asyncjobs, and the floor beside it, where it has one, by turns."""
    size = str(QUICK if options.quick else 1)
    run = [sys.executable, "-m", "benchmarks", "run", "--measure", name]
    commands = {OURS: [*run, *(["--quick"] if options.quick else [])]}
    if name in FLOORS:
        commands[FLOOR] = [sys.executable, "-m", "benchmarks.beside", name, "--size", size]
    turns = commands if number % 2 == 0 else reversed(commands)
    done = {subject: _in_process(options, name, mode, commands[subject]) for subject in turns}
    return {subject: done[subject] for subject in commands}


def _records(found: Found) -> list[Record]:
    records = []
    for (name, mode, subject, figure, unit), values in found.items():
        records.append(Record(name, subject, figure, unit, mode, tuple(values)))
        ours = found.get((name, mode, OURS, figure, unit))
        if subject == FLOOR and ours is not None:
            pairs = zip(ours, values, strict=True)
            shares = tuple(share(our, least, unit) for our, least in pairs)
            records.append(Record(name, OURS, f"{figure}, {SHARED}", "times", mode, shares))
    return records


def _in_process(options: argparse.Namespace, name: str, mode: str, command: list[str]) -> Figures:
    """Measure one shape in a process of its own, so that none finds another's garbage."""
    print(f"{name}, append-only file {mode}", file=sys.stderr)
    with start_server(options.server, config=FSYNC[mode]) as server:
        try:
            done = subprocess.run(
                [*command, "--url", server.url],
                stdout=subprocess.PIPE,
                text=True,
                timeout=LIMIT_S,
                check=True,
            )
        except subprocess.TimeoutExpired as error:
            raise _Failed(f"not done in {LIMIT_S:g} s") from error
        except subprocess.CalledProcessError as error:
            raise _Failed(f"the measured process ended with {error.returncode}") from error
    figures = json.loads(done.stdout.splitlines()[-1])
    return {figure: (value, unit) for figure, (value, unit) in figures.items()}


def _measure(options: argparse.Namespace) -> int:
    from benchmarks.asking import Asking

    figures: Figures = {}

    async def measure() -> float:
        nonlocal figures
        figures = await SHAPES[options.measure](Asking(options.url), QUICK if options.quick else 1)
        return 0.0

    run_on_fastest_loop(measure())
    print(json.dumps(figures))
    return 0


def _facts(options: argparse.Namespace) -> dict[str, Any]:
    modes = {}
    for mode in _modes(options):
        with start_server(options.server, config=FSYNC[mode]) as server:
            version = server.version
            # What the server says of itself, not what it was asked to do.
            answers = [server.command("CONFIG", "GET", name) for name in PERSISTENCE]
        said = [" ".join(part.decode() for part in answer) for answer in answers]
        modes[f"append-only file {mode}"] = ", ".join(said)
    size = QUICK if options.quick else 1
    return {
        "commit": _rounds.commit(),
        "machine, Python, libraries": _rounds.machine(),
        "kernel": platform.release().split("-")[0],
        "server": f"{options.server} {version}, TCP on loopback",
        **modes,
        "rounds": 1 if options.quick else options.rounds,
        "jobs": "; ".join(f"{name} {in_words(name, size)}" for name in _names(options)),
        "settings": "fencing, index, retries and time-outs on; uvloop where it is installed",
    }


if __name__ == "__main__":
    sys.exit(main())
