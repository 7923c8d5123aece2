"""Other queues beside asyncjobs, by turns on one server: `python -m benchmarks compare`.

Each peer lives in an environment of its own (benchmarks/.peers/), with pinned versions, and
runs a small program (benchmarks/peers/) that uses its public interface; its settings and where
they come from stand under the table (benchmarks/environments.py). All programs count in the
same way. asyncjobs is measured anew beside each peer, before it in one round and after it in
the next, and ratios are the median of these pairs: what is measured seconds apart shares the
machine's mood. A peer that needs a newer server than the chosen one has it (benchmarks/servers.py),
asyncjobs beside it too, and both stand apart in the table, with the server's version.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any, Final, NamedTuple

from benchmarks import _rounds
from benchmarks.environments import PEERS, clients, command, install, variables, why_not
from benchmarks.modes import FSYNC
from benchmarks.peers.kit import CHORD, PICKUP, SHAPES
from benchmarks.records import Record, markdown, write
from benchmarks.servers import PACKAGE, Store, choose, chosen

__all__ = ["add_arguments", "main"]

ROOT: Final = Path(__file__).parent.parent
RESULTS: Final = Path(__file__).parent / "results"
OURS: Final = "asyncjobs"
OUR_SETTINGS: Final = (
    "concurrency=1000, result_ttl=0, the collector's thresholds as its worker command sets them, "
    "the rest as by default"
)
OUR_JOBS: Final = 40_000
LIMIT_S: Final = 180.0


class Subject(NamedTuple):
    """Who is measured, and on which server where that is not the chosen one."""

    name: str
    server: str = ""

    def __str__(self) -> str:
        return f"{self.name} on {self.server}" if self.server else self.name


Found = dict[tuple[str, str, Subject, str], dict[tuple[int, str], float]]
"""By shape, append-only mode, subject and figure: a value by round and peer; asyncjobs has one
beside each peer."""
Missing = dict[tuple[str, str, Subject], str]
"""By shape, append-only mode and subject: why there is no figure."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `compare`."""
    parser.add_argument("--peers", default=",".join(PEERS), help=f"of {','.join(PEERS)}")
    parser.add_argument("--shapes", default=";".join(SHAPES), help=f"of {';'.join(SHAPES)}")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each shape (3)")
    parser.add_argument("--fsync", default="off,everysec", help="off, everysec, or both")
    parser.add_argument("--server", choices=("valkey", "redis"), default="valkey")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the results")


def main(options: argparse.Namespace) -> int:
    """Measure, print and write."""
    names = _chosen(options.peers, ",", PEERS, "no program for the peer {}; there are {}")
    modes = _chosen(options.fsync, ",", FSYNC, "--fsync {} is not one of {}")
    shapes = _chosen(options.shapes, ";", SHAPES, "--shapes {} is not one of {}")
    usual = chosen(options.server)
    states = {name: _ready(name, usual) for name in names}
    ready = {name: state for name, state in states.items() if isinstance(state, Store)}
    missing: Missing = {
        (shape, mode, Subject(name)): why
        for mode in modes
        for shape in shapes
        for name, why in states.items()
        if isinstance(why, str)
    }
    found: Found = {}
    turns = product(range(options.rounds), modes, shapes, ready.items())
    for number, mode, shape, (peer, store) in turns:
        for name in (OURS, peer) if number % 2 == 0 else (peer, OURS):
            print(f"{shape}, {name}, append-only file {mode}", file=sys.stderr)
            subject = Subject(name, "" if store == usual else str(store))
            outcome = _run(name, shape, mode, store)
            if isinstance(outcome, str):
                missing[shape, mode, subject] = f"{outcome} (round {number + 1})"
                continue
            for figure, value in outcome.items():
                found.setdefault((shape, mode, subject, figure), {})[number, peer] = value
    records = _records(found, missing)
    facts = _facts(options, ready, usual)
    print(markdown(records, facts))
    # Some peers or shapes alone must not take the place of all.
    parts = [] if set(names) == set(PEERS) else names
    parts += [] if set(shapes) == set(SHAPES) else [re.sub(r"\W+", "_", shape) for shape in shapes]
    write(records, facts, options.out, "-".join(["compared", *parts]))
    return 0


def _chosen(text: str, separator: str, known: Any, complaint: str) -> list[str]:
    names = text.split(separator)
    for name in names:
        if name not in known:
            raise SystemExit(complaint.format(repr(name), ", ".join(known)))
    return names


def _ready(name: str, usual: Store) -> Store | str:
    """The server for a peer, which is installed then, or why it cannot run here."""
    if why := why_not(name):
        return why
    store = choose(PEERS[name].least_redis, usual)
    if isinstance(store, Store):
        try:
            install(name)
        except (OSError, subprocess.CalledProcessError) as error:
            return f"skipped: not installed, {error}"
    return store


def _servers(ready: Mapping[str, Store], usual: Store) -> str:
    """Which servers were measured on; beside which peers, where there is more than one."""
    said = []
    for store in dict.fromkeys([usual, *ready.values()]):
        peers = [name for name, its in ready.items() if its == store]
        if peers or not ready:
            source = f" built from {PACKAGE}" if store.binary else ""
            beside = "" if store == usual else f" for {', '.join(peers)} and {OURS} beside it"
            said.append(f"{store}{source}{beside}")
    return f"{'; '.join(said)}; TCP on loopback"


def _facts(
    options: argparse.Namespace, ready: Mapping[str, Store], usual: Store
) -> Mapping[str, Any]:
    return {
        "commit": _rounds.commit(),
        "machine, Python, libraries": _rounds.machine(),
        "server": _servers(ready, usual),
        "rounds": options.rounds,
        OURS: OUR_SETTINGS,
        **{
            f"{n} ({', '.join((*PEERS[n].pins, *clients(n)))})": (
                f"{PEERS[n].settings}. From: {PEERS[n].source}"
            )
            for n in ready
        },
        "jobs": f"{OUR_JOBS:,} of asyncjobs, "
        + ", ".join(f"{PEERS[n].jobs:,} of {n}" for n in ready)
        + "; 5,000 each to sleep, a quarter with one caller; pickup is 500 jobs, one each 10 ms "
        "from a process of its own, from the planned moment to the first line of the job; limited "
        "has 1,000 keys, and one job of each runs at a time; chord is 10,000 no-ops and one job "
        "behind them, from the first call to the run of that job",
    }


def _jobs(name: str, shape: str) -> int:
    jobs = OUR_JOBS if name == OURS else PEERS[name].jobs
    sizes = {"sleep": 5_000, "enqueue, one caller": jobs // 4, PICKUP: 500, CHORD: 10_000}
    return sizes.get(shape, jobs)


def _run(name: str, shape: str, mode: str, store: Store) -> dict[str, float] | str:
    """Figures by their names, or why there are none."""
    start = (
        [sys.executable, "-m", "benchmarks.peers.ours"] if name == OURS else command(name, shape)
    )
    jobs = _jobs(name, shape)
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environ |= {} if name == OURS else variables(name)
    with store.start(FSYNC[mode]) as server:
        start += ["--shape", shape, "--url", server.url]
        start += ["--jobs", str(jobs), "--limit", str(LIMIT_S / 2)]
        program = subprocess.Popen(
            start,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            # With its children, which would otherwise outlive a program that has to be ended.
            start_new_session=True,
            env=environ,
        )
        try:
            output, errors = program.communicate(timeout=LIMIT_S)
        except BaseException as error:
            os.killpg(program.pid, signal.SIGKILL)
            program.wait()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            return f"not done in {LIMIT_S:g} s"
    if program.returncode != 0:
        said = [line for line in errors.splitlines() if re.search("[a-z]", line)]
        return (said or ["failed without a word"])[-1].strip()
    try:
        measured = json.loads(output.splitlines()[-1])
    except (IndexError, ValueError):
        return f"ended without figures: {output[-200:]!r}"
    if "seconds" not in measured:
        return {name: float(value) for name, value in measured.items()}
    return {"rate": jobs / float(measured["seconds"])}


def _records(found: Found, missing: Missing) -> list[Record]:
    records = []
    for (shape, mode, subject, figure), values in found.items():
        unit = "jobs/s" if figure == "rate" else "ms"
        label = figure.removesuffix("_ms")
        note = missing.get((shape, mode, subject), "")
        records.append(Record(shape, str(subject), label, unit, mode, tuple(values.values()), note))
        ours = found.get((shape, mode, subject._replace(name=OURS), figure), {})
        # Only rounds that both have: figures of different rounds share nothing.
        pairs = [(ours[number], theirs) for number, theirs in values.items() if number in ours]
        faster = tuple(
            mine / theirs if figure == "rate" else theirs / mine for mine, theirs in pairs
        )
        if subject.name != OURS and faster:
            said = "asyncjobs is faster by" if figure == "rate" else f"{label} against asyncjobs'"
            records.append(Record(shape, str(subject), said, "times", mode, faster))
    measured = {(shape, mode, subject) for shape, mode, subject, _ in found}
    for (shape, mode, subject), why in missing.items():
        if (shape, mode, subject) not in measured:
            records.append(Record(shape, str(subject), "none", "", mode, (), why))
    return sorted(records, key=lambda record: (record.fsync != "off", SHAPES.index(record.shape)))
