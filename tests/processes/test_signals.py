"""Signals to the parent mean what they mean to one process; children end with it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from asyncjobs.testing.servers import Server
from tests.cli.conftest import Put, Start
from tests.cli.process import Ledger
from tests.kit.environment import LIMIT_S, ROOT, environment
from tests.kit.waiting import ticks, wait_gone
from tests.processes.kit import newest, wait_ready

TWO = ("--processes", "2", "--concurrency", "1")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_lets_running_jobs_finish(
    work: Start, put: Put, ledger: Ledger, number: signal.Signals
) -> None:
    process = work(*TWO)
    wait_ready(process, 2)
    put("nap", 0.7, number=2)
    ledger.wait_for("began", 2)
    process.send(number)
    assert process.end() == 0
    assert len(ledger.lines("ended")) == 2
    process.record(f"{number.name}: stopping all processes; again to release their jobs")


def test_the_end_of_the_grace_is_4(work: Start, put: Put, ledger: Ledger) -> None:
    put("nap", 60)
    process = work(*TWO, "--grace", "50ms")
    ledger.wait_for("began", 1)
    wait_ready(process, 2)
    process.send(signal.SIGTERM)
    # One of the two had nothing to release.
    assert process.end() == 4


def test_the_second_releases_now(work: Start, put: Put, ledger: Ledger) -> None:
    put("nap", 60, number=2)
    process = work(*TWO, "--grace", "1h")
    ledger.wait_for("began", 2)
    process.send(signal.SIGINT)
    for _ in range(2):
        process.wait_for("SIGINT: finishing 1 job within 3600s")
    process.send(signal.SIGTERM)
    assert process.end() == 4
    process.record("SIGTERM: releasing all jobs now; again to exit at once")


def test_the_third_exits_although_a_loop_is_blocked(work: Start, put: Put, ledger: Ledger) -> None:
    put("block_loop", 60, number=2)
    process = work(*TWO)
    ledger.wait_for("began", 2)
    pids = newest(wait_ready(process, 2))
    while process.process.poll() is None:
        process.send(signal.SIGTERM)
        process.wait_briefly()
    assert process.end() == 128 + signal.SIGTERM
    for pid in pids.values():
        wait_gone(pid)
    process.record("third signal: exit now; running jobs are run again when the lease ends")


def test_a_signal_before_the_first_is_ready(run: Start) -> None:
    with closing(socket.socket()) as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        deaf.settimeout(LIMIT_S)
        url = f"redis://127.0.0.1:{deaf.getsockname()[1]}"
        process = run("worker", "tasks:app", *TWO, env={"ASYNCJOBS_URL": url})
        connection, _ = deaf.accept()
        with closing(connection):
            process.send(signal.SIGINT)
            assert process.end() == 0
    assert "Traceback" not in process.text


def test_a_process_killed_during_the_stop_is_a_failure(
    work: Start, put: Put, ledger: Ledger
) -> None:
    put("block_loop", 60)
    # Or the one that is blocked would have something to say, too.
    process = work(*TWO, "--block-warning", "off")
    ledger.wait_for("began", 1)
    pids = newest(wait_ready(process, 2))
    process.send(signal.SIGTERM)
    process.wait_for("worker ended: 0 jobs taken")
    (blocked,) = [pid for pid in pids.values() if f'"pid": {pid}' not in process.text]
    os.kill(blocked, signal.SIGKILL)
    assert process.end() == 1
    assert "was killed by SIGKILL" in process.text


def test_children_finish_and_end_when_the_parent_is_killed(
    work: Start, put: Put, ledger: Ledger
) -> None:
    process = work("--processes", "3", "--concurrency", "1")
    pids = newest(wait_ready(process, 3))
    put("nap", 0.7, number=2)
    ledger.wait_for("began", 2)
    process.send(signal.SIGKILL)
    assert process.end() == -signal.SIGKILL
    for pid in pids.values():
        wait_gone(pid)
    assert len(ledger.lines("ended")) == 2
    assert process.text.count("the parent process is gone: finishing 1 job within 30s") == 2
    assert process.text.count("the parent process is gone: stopping, no job is running") == 1


HURRIED = """
import os
from asyncjobs.cli.worker import serve
from asyncjobs.host.supervisor import renewal, supervisor
serve.STOP_S = float(os.environ.get("STOP_S", serve.STOP_S))
renewal.STUCK_S = supervisor.STUCK_S = 0.1
"""


@pytest.fixture
def hurried(folder: Path) -> dict[str, str]:
    """An environment in which what may take long over its end may not."""
    (folder / "sitecustomize.py").write_text(HURRIED)
    return {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}


def test_a_blocked_process_is_killed_in_a_restart(
    work: Start, put: Put, ledger: Ledger, hurried: dict[str, str]
) -> None:
    put("block_loop", 600)
    process = work(*TWO, "--grace", "50ms", "--lease", "60s", env=hurried)
    ledger.wait_for("began", 1)
    before = newest(wait_ready(process, 2))
    process.send(signal.SIGHUP)
    process.wait_for("restart: all processes are new")
    assert "does not end; it is killed, and its jobs run again when the lease ends" in process.text
    for pid in before.values():
        wait_gone(pid)
    process.send(signal.SIGTERM)
    code = process.end()
    # This hurried parent gives the new processes 150 ms to end. On a busy machine that may be
    # too short. Then it says that it kills them, and ends with 1 unless they were just ending.
    if not re.search(r"does not end; it is killed(?!, and)", process.text):
        assert code == 0


def test_a_blocked_process_ends_too_when_the_parent_is_killed(
    work: Start, put: Put, ledger: Ledger, hurried: dict[str, str]
) -> None:
    put("block_loop", 600)
    process = work(*TWO, "--grace", "50ms", env={**hurried, "STOP_S": "0.1"})
    ledger.wait_for("began", 1)
    pids = newest(wait_ready(process, 2))
    process.send(signal.SIGKILL)
    assert process.end() == -signal.SIGKILL
    for pid in pids.values():
        wait_gone(pid)
    process.wait_for("a job holds up the stop: all jobs are given back")


ON_TERMINAL = """
import os, sys
os.setsid()
os.open(sys.argv[1], os.O_RDWR)
os.execv(sys.executable, [sys.executable, "-m", "asyncjobs", *sys.argv[2:]])
"""


def test_a_terminal_that_is_closed_stops_and_restarts_nothing(
    folder: Path, server: Server, tmp_path: Path
) -> None:
    ours, theirs = os.openpty()
    log = tmp_path / "log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, "-c", ON_TERMINAL, os.ttyname(theirs), "worker", "tasks:app", *TWO],
            cwd=folder,
            env=environment({"ASYNCJOBS_URL": server.url}),
            stderr=sink,
        )
    try:
        os.close(theirs)
        for _ in ticks():
            if "process 2 is ready" in log.read_text():
                break
        os.close(ours)
        assert process.wait(LIMIT_S) == 0, log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    assert "SIGTERM: stopping all processes" in log.read_text()
    assert "restarting" not in log.read_text()
