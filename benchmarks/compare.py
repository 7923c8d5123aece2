"""Other queues beside asyncjobs, by turns on one server: `python -m benchmarks compare`.

Each peer lives in an environment of its own (benchmarks/.peers/), with pinned versions, and
runs a small program (benchmarks/peers/) that uses its public interface; its settings stand
under the table. They are its concurrency raised to ours and results switched off, the rest as
by default: nobody has searched its documentation for better ones yet. All programs count in
the same way. Ratios are the median of the rounds' own: what is measured seconds apart shares
the machine's mood.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final, NamedTuple

from asyncjobs.testing.servers import start_server
from benchmarks import _rounds
from benchmarks.modes import FSYNC
from benchmarks.peers.kit import SHAPES
from benchmarks.records import Record, markdown, write

__all__ = ["PEERS", "add_arguments", "main"]

ROOT: Final = Path(__file__).parent.parent
ENVIRONMENTS: Final = Path(__file__).parent / ".peers"
RESULTS: Final = Path(__file__).parent / "results"
OURS: Final = "asyncjobs"
LIMIT_S: Final = 120.0


class Environment(NamedTuple):
    """What a peer's environment holds, how many jobs it is given, and its settings in words."""

    module: str
    pins: tuple[str, ...]
    jobs: int
    settings: str


PEERS: Final = {
    "arq": Environment(
        "peer_arq", ("arq==0.28.0", "hiredis==3.5.0", "uvloop==0.23.0"), 4_000,
        "max_jobs=1000, keep_result=0, poll_delay 0.5 s (default)",
    ),
    "saq": Environment(
        "peer_saq",
        # It imports typing_extensions without asking for it.
        ("saq[redis]==0.26.4", "typing_extensions==4.16.0", "hiredis==3.5.0", "uvloop==0.23.0"),
        4_000, "concurrency=1000, ttl=-1 (no result kept)",
    ),
    "taskiq": Environment(
        "peer_taskiq",
        ("taskiq==0.13.0", "taskiq-redis==1.2.4", "hiredis==3.5.0", "orjson==3.13.0",
         "uvloop==0.23.0"),
        4_000, "RedisStreamBroker, max_async_tasks=1000, max_prefetch=1000, no result backend",
    ),
}  # fmt: skip
OUR_JOBS: Final = 40_000
Rates = dict[tuple[str, str, str], dict[int, float]]
"""By shape, append-only mode and subject: jobs a second by the number of the round."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `compare`."""
    parser.add_argument("--peers", default=",".join(PEERS), help=f"of {','.join(PEERS)}")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each shape (3)")
    parser.add_argument("--fsync", default="off,everysec", help="off, everysec, or both")
    parser.add_argument("--server", choices=("valkey", "redis"), default="valkey")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the results")


def main(options: argparse.Namespace) -> int:
    """Measure, print and write."""
    names = options.peers.split(",")
    for name in names:
        if name not in PEERS:
            raise SystemExit(f"no program for the peer {name!r}; there are {', '.join(PEERS)}")
    modes = options.fsync.split(",")
    for mode in modes:
        if mode not in FSYNC:
            raise SystemExit(f"--fsync {mode!r} is not one of {', '.join(FSYNC)}")
    for name in names:
        install(name)
    rates: Rates = {}
    failures: list[str] = []
    for number in range(options.rounds):
        for mode in modes:
            for shape in SHAPES:
                for name in (OURS, *names):
                    print(f"{shape}, {name}, append-only file {mode}", file=sys.stderr)
                    outcome = _run(name, shape, mode, options.server)
                    if isinstance(outcome, str):
                        failures.append(f"{name}, {shape}, {mode}: {outcome}")
                    else:
                        rates.setdefault((shape, mode, name), {})[number] = outcome
    records = _records(rates)
    with start_server(options.server) as server:
        version = server.version
    facts = {
        "machine, Python, libraries": _rounds.machine(),
        "server": f"{options.server} {version}, TCP on loopback",
        "rounds": options.rounds,
        **{f"{n} ({', '.join(PEERS[n].pins)})": PEERS[n].settings for n in names},
        "asyncjobs": "concurrency=1000, result_ttl=0, the collector's thresholds as its worker "
        "command sets them, the rest as by default",
        "jobs": f"{OUR_JOBS:,} of asyncjobs, "
        + ", ".join(f"{PEERS[n].jobs:,} of {n}" for n in names)
        + "; 5,000 each to sleep, a quarter with one caller",
        "failed": "; ".join(failures) or "nothing",
    }
    print(markdown(records, facts))
    write(records, facts, options.out, "compared")
    return 0


def install(name: str) -> Path:
    """The interpreter of a peer's environment, made when it is not there."""
    folder = ENVIRONMENTS / name
    interpreter, stamp = folder / "bin" / "python", folder / "installed.txt"
    wanted = "\n".join(PEERS[name].pins)
    if not (stamp.exists() and stamp.read_text(encoding="utf-8") == wanted):
        print(f"installing {name}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        command = [str(interpreter), "-m", "pip", "--disable-pip-version-check", "-q", "install"]
        subprocess.run([*command, *PEERS[name].pins], check=True)
        stamp.write_text(wanted, encoding="utf-8")
    return interpreter


def _run(name: str, shape: str, mode: str, kind: str) -> float | str:
    """Jobs a second, or why there is no such figure."""
    interpreter: str | Path = sys.executable
    module, jobs = "ours", OUR_JOBS
    if name != OURS:
        peer = PEERS[name]
        interpreter, module, jobs = ENVIRONMENTS / name / "bin" / "python", peer.module, peer.jobs
    jobs = {"sleep": 5_000, "enqueue, one caller": jobs // 4}.get(shape, jobs)
    with start_server(kind, config=FSYNC[mode]) as server:
        command = [str(interpreter), "-m", f"benchmarks.peers.{module}", "--shape", shape]
        command += ["--url", server.url, "--jobs", str(jobs), "--limit", str(LIMIT_S / 2)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=LIMIT_S, check=True, cwd=ROOT,
                env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return f"not done in {LIMIT_S:g} s"
        except subprocess.CalledProcessError as error:
            return (error.stderr.strip().splitlines() or ["failed without a word"])[-1]
    seconds = float(json.loads(done.stdout.splitlines()[-1])["seconds"])
    return jobs / seconds


def _records(rates: Rates) -> list[Record]:
    records = []
    for (shape, mode, name), values in rates.items():
        records.append(Record(shape, name, "rate", "jobs/s", mode, tuple(values.values())))
        ours = rates.get((shape, mode, OURS), {})
        # Only rounds that both have: figures of different rounds share nothing.
        ratios = tuple(ours[number] / rate for number, rate in values.items() if number in ours)
        if name != OURS and ratios:
            records.append(Record(shape, name, "asyncjobs is faster by", "times", mode, ratios))
    return records
