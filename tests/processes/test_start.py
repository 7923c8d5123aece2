"""A start that fails is told once, with the code of one process; a crash loop gives up."""

from __future__ import annotations

import os
import signal
import socket
from contextlib import closing
from pathlib import Path

import pytest

from asyncjobs.testing.servers import Server
from tests.cli.conftest import Put, Start
from tests.cli.process import Ledger
from tests.kit.environment import ROOT
from tests.processes.kit import lines, newest, wait_ready

IMPATIENT = """
from asyncjobs.host.supervisor import supervisor
from asyncjobs.host.supervisor.patience import Patience
supervisor.PATIENCE = Patience(base_s=0.01, cap_s=0.02, limit=3)
"""
CRASHING = """
import os
from pathlib import Path
if Path("broken").exists():
    os._exit(77)
from tasks import app
"""


def test_an_import_error_is_told_once(run: Start, server: Server, folder: Path) -> None:
    (folder / "bad.py").write_text("import tasks\nraise RuntimeError('planted')\n")
    process = run("worker", "bad", "--processes", "4", env={"ASYNCJOBS_URL": server.url})
    assert process.end() == 2
    assert process.text.count("RuntimeError: planted\n") == 2  # the traceback, the reason
    assert process.text.count("Error: APP 'bad'") == 1
    assert process.text.count("Traceback") == 1


def test_a_burst_ends_when_its_store_is_unreachable(run: Start) -> None:
    with closing(socket.socket()) as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"redis://127.0.0.1:{closed.getsockname()[1]}"
        args = ("--processes", "3", "--burst")
        process = run("worker", "tasks:app", *args, env={"ASYNCJOBS_URL": url})
        assert process.end() == 3
    (told,) = process.records()
    assert "is not available" in told["event"]
    assert told["process"] == 1


def test_a_flag_that_only_the_worker_can_judge(work: Start) -> None:
    process = work("--processes", "3", "--lease", "200ms")
    assert process.end() == 2
    assert len(process.records()) == 1


def test_a_first_process_that_crashes_ends_the_whole(
    run: Start, server: Server, folder: Path
) -> None:
    (folder / "crashing.py").write_text(CRASHING)
    (folder / "broken").touch()
    process = run("worker", "crashing", "--processes", "3", env={"ASYNCJOBS_URL": server.url})
    assert process.end() == 1
    (told,) = process.records()
    assert told["event"] == "the first process ended with exit code 77 before it was ready"
    assert told["level"] == "critical"


def test_a_crash_loop_gives_up_and_lets_the_others_finish(
    run: Start, server: Server, folder: Path, put: Put, ledger: Ledger
) -> None:
    (folder / "crashing.py").write_text(CRASHING)
    (folder / "sitecustomize.py").write_text(IMPATIENT)
    env = {
        "ASYNCJOBS_URL": server.url,
        "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}",
    }
    args = ("--processes", "2", "--concurrency", "1")
    process = run("worker", "crashing:app", *args, env=env)
    pids = newest(wait_ready(process, 2))
    (folder / "broken").touch()
    os.kill(pids[1], signal.SIGKILL)
    process.wait_for("a new one starts in")
    put("nap", 0.5)
    ledger.wait_for("began", 1)
    assert process.end() == 1
    (told,) = [line for line in lines(process) if line["level"] == "critical"]
    assert "ended with exit code 77, failure 3 in a row: giving up" in told["event"]
    # The other one was stopped as by a first signal.
    assert len(ledger.lines("ended")) == 1


@pytest.mark.parametrize("value", ["", "yes", "1:2", "1:9998:9999"])
def test_a_variable_that_is_not_from_a_parent_is_refused(run: Start, value: str) -> None:
    process = run("worker", "tasks:app", env={"ASYNCJOBS_SUPERVISED": value})
    assert process.end() == 2
    assert f"ASYNCJOBS_SUPERVISED={value!r} is not from a running supervisor" in (
        " ".join(process.text.split())
    )
