"""Streams as callers leave them: closed, or with few characters."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from asyncjobs.testing.servers import Server
from tests.cli.conftest import Put
from tests.cli.dying import Corpse, bury
from tests.cli.process import Ledger
from tests.kit.environment import LIMIT_S, environment
from tests.kit.waiting import ticks

TEXT = "Zürich – 漢"
CLOSED = [(2,), (0, 1, 2)]


def run(
    folder: Path, server: Server, *args: str, closed: Sequence[int] = (), encoding: str = "utf-8"
) -> subprocess.CompletedProcess[bytes]:
    extra = {"ASYNCJOBS_URL": server.url, "PYTHONIOENCODING": encoding}
    return subprocess.run(
        without(closed, *args),
        cwd=folder,
        env=environment({**extra, "LEDGER": str(folder.parent / "ledger")}),
        capture_output=True,
        timeout=4 * LIMIT_S,  # three interpreters start, on a machine that may be busy
        check=False,
    )


def without(closed: Sequence[int], *args: str) -> list[str]:
    """The command, by a shell that closes some of its streams first."""
    shut = " ".join(f"{number}{'<' if number == 0 else '>'}&-" for number in closed)
    return ["sh", "-c", f'exec "$@" {shut}', "sh", sys.executable, "-m", "asyncjobs", *args]


@pytest.mark.parametrize("closed", CLOSED)
@pytest.mark.parametrize("flags", [(), ("--processes", "2")])
def test_a_worker_runs_jobs_without_streams(
    folder: Path,
    server: Server,
    put: Put,
    ledger: Ledger,
    closed: Sequence[int],
    flags: tuple[str, ...],
) -> None:
    put("send")
    worker = ("worker", "tasks:app", "--burst", "--burst-wait", "0s", *flags)
    assert run(folder, server, *worker, closed=closed).returncode == 0
    assert len(ledger.lines("sent")) == 1


def first_files(pid: int) -> list[str]:
    """What the numbers 0 to 2 of a process are, as far as they are open."""
    places: list[str] = []
    for number in range(3):
        with suppress(FileNotFoundError):
            places.append(os.readlink(f"/proc/{pid}/fd/{number}"))
    return places


def test_a_closed_number_is_given_to_nothing_else(folder: Path, server: Server, put: Put) -> None:
    """What a third signal writes, past the log, must not reach a connection to the store."""
    env = {"ASYNCJOBS_URL": server.url, "LEDGER": str(folder.parent / "ledger")}
    with subprocess.Popen(
        without((0, 1, 2), "worker", "tasks:app"), cwd=folder, env=environment(env)
    ) as process:
        try:
            for _ in ticks():
                places = first_files(process.pid)
                # The list of all queues is the last that a start writes. A signal before that would
                # leave keys of queues that are in no list.
                if server.command("KEYS", "asyncjobs:queues") and len(places) == 3:
                    break
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT_S) == 0
    assert places == [os.devnull] * 3


@pytest.mark.parametrize("closed", [(1,), (2,)])
def test_other_commands_end_as_they_would(
    folder: Path, server: Server, closed: Sequence[int]
) -> None:
    bury(server.url, Corpse("a", message=TEXT))
    for command in ("dead list", "dead list --json", "check"):
        assert run(folder, server, *command.split(), closed=closed).returncode == 0


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_a_stdout_of_few_characters(folder: Path, server: Server, encoding: str) -> None:
    bury(server.url, Corpse("a", message=TEXT))
    for command in ("dead list", "dead show a", "jobs show a"):
        done = run(folder, server, *command.split(), encoding=encoding)
        assert b"Traceback" not in done.stderr, done.stderr
    for command in ("dead list --json", "jobs show a --json"):
        done = run(folder, server, *command.split(), encoding=encoding)
        # click itself takes utf-8 in the place of ascii.
        text = done.stdout.decode("utf-8" if encoding == "ascii" else encoding)
        assert TEXT in json.dumps(json.loads(text), ensure_ascii=False)
    listed = run(folder, server, "dead", "list", encoding="latin-1").stdout.decode("latin-1")
    assert r"Zürich \u2013 \u6f22" in listed
