"""`--reload`: a changed file brings a new process, a broken one does not end the old."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from click.testing import CliRunner

from asyncjobs.cli.command import cli
from asyncjobs.cli.worker import command
from tests.cli.conftest import Put, Start
from tests.cli.process import Ledger
from tests.processes.kit import wait_ready

MARK = 'write("sent", ctx)'


def edit(folder: Path, text: str) -> None:
    """In one step, as editors do: a file half written is a change of its own."""
    new = folder / "tasks.py.new"
    new.write_text(text)
    new.replace(folder / "tasks.py")


def test_a_changed_file_is_picked_up(work: Start, put: Put, ledger: Ledger, folder: Path) -> None:
    process = work("--reload")
    wait_ready(process, 1)
    put("send")
    ledger.wait_for("sent", 1)
    text = (folder / "tasks.py").read_text()
    edit(folder, text.replace(MARK, 'write("changed", ctx)'))
    process.wait_for("tasks.py changed: restarting")
    process.wait_for("restart: all processes are new")
    put("send")
    ledger.wait_for("changed", 1)
    process.send(signal.SIGINT)
    assert process.end() == 0
    assert process.record("worker started")["processes"] == 1


def test_a_broken_file_leaves_the_old_process_until_it_is_mended(
    work: Start, put: Put, ledger: Ledger, folder: Path
) -> None:
    process = work("--reload", "--processes", "2")
    wait_ready(process, 2)
    text = (folder / "tasks.py").read_text()
    edit(folder, "def broken(:\n")
    process.wait_for("before it was ready; the old ones work on")
    assert "SyntaxError" in process.text
    put("send")
    ledger.wait_for("sent", 1)
    edit(folder, text)
    process.wait_for("restart: all processes are new")
    process.send(signal.SIGTERM)
    assert process.end() == 0


def test_a_first_start_that_fails_waits_for_a_change(work: Start, folder: Path) -> None:
    text = (folder / "tasks.py").read_text()
    edit(folder, "def broken(:\n")
    process = work("--reload")
    process.wait_for("before it was ready; waiting for a change")
    edit(folder, text)
    wait_ready(process, 1)
    process.send(signal.SIGTERM)
    assert process.end() == 0


def test_what_is_no_source_does_not_restart(work: Start, folder: Path) -> None:
    other = folder / "env"
    (other / "lib").mkdir(parents=True)
    (other / "pyvenv.cfg").touch()
    process = work("--reload")
    wait_ready(process, 1)
    (other / "lib" / "new.py").touch()
    (folder / "notes.txt").touch()
    (folder / ".asyncjobs").mkdir()
    (folder / ".asyncjobs" / "new.py").touch()
    (folder / "last.py").touch()
    process.wait_for("changed: restarting")
    process.send(signal.SIGTERM)
    assert process.end() == 0
    process.record("last.py changed: restarting")


def refused(*args: str) -> str:
    result = CliRunner(env={"ASYNCJOBS_APP": ""}).invoke(cli, ["worker", "a:b", *args])
    assert result.exit_code == 2
    return " ".join(result.stderr.split())


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "watchfiles", None)
    told = refused("--reload")
    assert "--reload needs watchfiles; pip install 'asyncjobs-framework[reload]'" in told


def test_reload_and_burst_exclude_each_other() -> None:
    assert "leave one of them out" in refused("--reload", "--burst")


def test_windows_is_told_what_to_do_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command.sys, "platform", "win32")
    assert "--processes 3 needs signals that Windows does not have" in refused("--processes", "3")
    assert "start one worker for each process" in refused("--reload")
