"""Rounds of measurements: each shape in a process of its own, by turns, on one server.

The machine is rarely quiet, so shapes that shall be compared are measured by turns, the
order reversed every other round, and the median is reported beside the whole range.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from asyncjobs.testing.servers import Server

__all__ = [
    "Figure",
    "Shape",
    "add_arguments",
    "commit",
    "machine",
    "measure",
    "print_environment",
    "save",
]

_LIMIT_S = 300.0
_LIBRARIES = ("redis", "hiredis", "orjson", "uvloop", "asyncjobs-framework")


class Shape(NamedTuple):
    """One thing to measure, `jobs` at a time.

    `module` is run as a program with `--measure NAME --url URL --jobs N`; its last line
    is JSON with the `seconds` that the jobs took.
    """

    name: str
    module: str
    jobs: int


class Figure(NamedTuple):
    """Jobs per second of one shape, a number for each round."""

    rates: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.rates)

    def __str__(self) -> str:
        return f"{self.median:,.0f} ({min(self.rates):,.0f} to {max(self.rates):,.0f})"


def add_arguments(parser: argparse.ArgumentParser, *, jobs: int) -> None:
    """The options that all benchmarks share."""
    parser.add_argument("--jobs", type=_count, default=jobs, help=f"jobs a round ({jobs:,})")
    parser.add_argument("--rounds", type=_count, default=5, help="rounds of each shape (5)")
    parser.add_argument("--server", choices=("valkey", "redis"), default="valkey")
    parser.add_argument("--appendonly", action="store_true", help="persist: fsync every second")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)


def measure(
    options: argparse.Namespace, shapes: Sequence[Shape], check: Callable[[Shape, Server], None]
) -> tuple[dict[str, Figure], dict[str, Any]]:
    """Figures by shape name, and the environment. `check` raises when jobs are missing."""
    # Here, so that the measured process of the floor holds nothing of asyncjobs.
    from asyncjobs.errors import ConfigError
    from asyncjobs.testing.servers import start_server

    config = {"appendonly": "yes", "appendfsync": "everysec"} if options.appendonly else {}
    # A rewrite of the file would fall into some rounds and not into others.
    config["auto-aof-rewrite-percentage"] = "0"
    rates: dict[str, list[float]] = {shape.name: [] for shape in shapes}
    try:
        started = start_server(options.server, config=config)
    except ConfigError as error:
        raise SystemExit(str(error)) from error
    with started as server:
        facts = _environment(server, options)
        for number in range(options.rounds):
            for shape in shapes if number % 2 == 0 else reversed(shapes):
                server.command("FLUSHALL")
                seconds = _run(shape, server.url)
                check(shape, server)
                rates[shape.name].append(shape.jobs / seconds)
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
    return {name: Figure(tuple(values)) for name, values in rates.items()}, facts


def _environment(server: Server, options: argparse.Namespace) -> dict[str, Any]:
    """What the figures depend on: machine, Python, libraries, server."""
    return {
        "machine": _machine(),
        "python": _python(),
        "libraries": {name: version for name in _LIBRARIES if (version := _version(name))},
        "server": f"{server.kind} {server.version}, TCP on loopback",
        "appendonly": bool(options.appendonly),
        "jobs": options.jobs,
        "rounds": options.rounds,
    }


def _machine() -> str:
    return f"{_processor()}, {_processors()} cores, {platform.system()}"


def _python() -> str:
    return f"{platform.python_implementation()} {platform.python_version()}"


def machine() -> str:
    """Machine, Python and libraries as one line, for benchmarks without rounds."""
    libraries = [f"{name} {version}" for name in _LIBRARIES if (version := _version(name))]
    return f"{_machine()}; {_python()}; {', '.join(libraries)}"


def commit() -> str:
    """The commit that is measured, and whether files differ from it."""
    git = ["git", "-C", str(Path(__file__).parent)]
    # Of the repository's top, without the results that the measurement itself writes.
    look = ["status", "--porcelain", "--", ":/", ":(top,exclude)benchmarks/results"]
    try:
        head, changes = (
            subprocess.run([*git, *command], capture_output=True, text=True, check=True).stdout
            for command in (["rev-parse", "--short", "HEAD"], look)
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown, for this is no checkout"
    return head.strip() + (" + changes" if changes.strip() else "")


def print_environment(facts: Mapping[str, Any]) -> None:
    """The environment as lines that can stand under a table."""
    libraries = ", ".join(f"{name} {version}" for name, version in facts["libraries"].items())
    persistence = (
        "append-only file, fsync every second" if facts["appendonly"] else "no persistence"
    )
    print(f"\n- machine: {facts['machine']}")
    print(f"- {facts['python']}; {libraries}")
    print(f"- {facts['server']}, {persistence}")
    print(
        f"- {facts['jobs']:,} jobs a round, {facts['rounds']} rounds by turns, "
        "each in a process of its own; median (lowest to highest)"
    )


def save(
    file: Path | None,
    figures: Mapping[str, Figure],
    facts: Mapping[str, Any],
    shares: Mapping[str, float] | None = None,
) -> None:
    """Write figures, shares of the floor and environment as JSON; without a file, nothing."""
    if file is None:
        return
    content: dict[str, Any] = {
        "environment": dict(facts),
        "jobs_per_second": {
            name: {
                "median": round(figure.median),
                "min": round(min(figure.rates)),
                "max": round(max(figure.rates)),
                "rounds": [round(rate) for rate in figure.rates],
            }
            for name, figure in figures.items()
        },
    }
    if shares is not None:
        content["share_of_floor"] = {name: round(share, 3) for name, share in shares.items()}
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _run(shape: Shape, url: str) -> float:
    command = [
        *(sys.executable, "-m", shape.module),
        *("--measure", shape.name, "--url", url, "--jobs", str(shape.jobs)),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=True)
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"{shape.name}: the measured process failed\n{error.stderr}") from error
    except subprocess.TimeoutExpired as error:
        raise SystemExit(
            f"{shape.name}: {shape.jobs:,} jobs were not done in {_LIMIT_S:g} s; "
            f"try fewer with --jobs\n{_text(error.stderr)}"
        ) from error
    seconds: float = json.loads(done.stdout.splitlines()[-1])["seconds"]
    return seconds


def _text(output: bytes | str | None) -> str:
    return output.decode(errors="replace") if isinstance(output, bytes) else output or ""


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return number


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _processors() -> int:
    # Those this process may use: in a container fewer than the machine has.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
