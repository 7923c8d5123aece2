"""A job that blocks the event loop: named, kept from running twice, ended, alone to blame."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from asyncjobs import AsyncJobs, JobFailed, State
from asyncjobs.options.app import AppSettings
from asyncjobs.testing.servers import Server, start_server
from tests.cli.conftest import Put, Start
from tests.cli.process import Ledger, Process
from tests.kit.environment import LIMIT_S, environment
from tests.processes.kit import lines

BLOCKED = 5
MAX_CRASHES = AppSettings().max_crashes
"""How many crashes a job of these tests survives."""


def warnings(process: Process) -> list[dict[str, Any]]:
    """The log lines that say that the loop is blocked."""
    return [line for line in lines(process) if line["event"].startswith("the event loop is block")]


def wait_dead(url: str, id: str) -> str:
    """What is said of the job, once it is dead: for that many processes may have to start."""

    async def wait() -> str:
        async with AsyncJobs(url) as app, asyncio.timeout(5 * LIMIT_S):
            handle = app.handle(id)
            while await handle.status() is not State.DEAD:
                await asyncio.sleep(0.05)
            with pytest.raises(JobFailed) as error:
                await handle.result(0)
            return str(error.value)

    return asyncio.run(wait())


def test_a_job_that_blocks_for_three_leases_runs_once_and_is_named(
    work: Start, put: Put, ledger: Ledger
) -> None:
    (id,) = put("block_loop", 3.5)
    first = work("--lease", "1s", "--name", "first")
    ledger.wait_for("began", 1)
    second = work("--lease", "1s", "--name", "second")
    second.wait_started()
    put("nap", 0)
    ledger.wait_for("ended", 1)
    first.wait_for("the event loop is free again after")
    for process in (first, second):
        process.send(signal.SIGTERM)
        assert process.end() == 0
    # The nap began too, on the second.
    assert [name for name, _ in ledger.lines("began")].count(id) == 1
    (warning,) = warnings(first)
    assert (warning["level"], warning["job_id"], warning["queue"]) == ("warning", id, "default")
    assert f"by default/{id} (tasks.block_loop)" in warning["event"]
    assert "time.sleep(seconds)" in warning["event"]
    assert "asyncjobs/worker" not in warning["event"]
    assert warnings(second) == []


def test_over_the_hard_limit_only_the_job_that_blocks_is_charged(
    work: Start, put: Put, ledger: Ledger
) -> None:
    others = put("tell_crashes", 2, number=20)
    process = work("--hard-limit", "800ms", "--block-warning", "200ms", "--lease", "1h")
    ledger.wait_for("crashes:0", 20)
    (id,) = put("block_at_first", 600)
    assert process.end() == BLOCKED
    last = lines(process)[-1]
    assert (last["level"], last["job_id"]) == ("critical", id)
    assert "longer than hard_limit=0.8 s" in last["event"]
    assert ledger.lines("ended") == []
    # At once, and not when the lease ends, which is an hour.
    again = work()
    ledger.wait_for("ended", 21)
    again.send(signal.SIGTERM)
    assert again.end() == 0
    assert sorted(name for name, _ in ledger.lines("crashes:0")) == sorted([*others, *others, id])
    assert ledger.lines("crashes:1") == [(id, 1)]


def test_a_job_that_always_blocks_is_dead_alone(
    work: Start, put: Put, ledger: Ledger, server: Server
) -> None:
    (id,) = put("block_loop", 600)
    others = put("tell_crashes", 0.3, number=50)
    parent = work("--processes", "2", "--hard-limit", "400ms", "--block-warning", "off")
    assert "is dead (crashed)" in wait_dead(server.url, id)
    ledger.wait_for("ended", 50)
    parent.send(signal.SIGTERM)
    assert parent.end() == 0
    assert "ended with exit code 5: a job blocked it for longer than --hard-limit" in parent.text
    assert [name for name, _ in ledger.lines("began")] == [id] * MAX_CRASHES
    assert {name for name, _ in ledger.lines("ended")} == set(others)
    counted = [f"crashes:{number + 1}" for number in range(MAX_CRASHES)]
    assert not [word for word in counted if ledger.lines(word)]


def test_a_task_that_a_job_has_started_is_the_jobs(work: Start, put: Put, ledger: Ledger) -> None:
    (id,) = put("block_in_child", 1)
    process = work("--block-warning", "200ms", "--max-jobs", "1")
    assert process.end() == 0
    # On a busy machine the worker's own start may take as long.
    (warning,) = [each for each in warnings(process) if "in child" in each["event"]]
    assert warning["job_id"] == id


def test_the_process_ends_although_the_store_is_away(run: Start, put: Put, ledger: Ledger) -> None:
    with start_server("valkey") as own:
        put("block_loop", 600, url=own.url)
        process = run(
            "worker", "tasks:app", "--hard-limit", "1500ms", env={"ASYNCJOBS_URL": own.url}
        )
        ledger.wait_for("began", 1)
    assert process.end() == BLOCKED
    assert "when its lease ends, all its jobs are charged with a crash" in process.text


def test_a_process_that_was_stopped_is_not_blocked(work: Start, put: Put, ledger: Ledger) -> None:
    # Long enough that nothing else stops the loop for it, on a machine that is busy.
    process = work("--hard-limit", "2s", "--block-warning", "1500ms")
    process.wait_started()
    process.send(signal.SIGSTOP)
    threading.Event().wait(4)  # the time that it is stopped for
    process.send(signal.SIGCONT)
    put("nap", 0)
    ledger.wait_for("ended", 1)
    process.send(signal.SIGTERM)
    assert process.end() == 0
    assert warnings(process) == []


def test_nobody_is_ended_under_a_debugger(work: Start, put: Put, ledger: Ledger) -> None:
    put("block_traced", 2)
    process = work("--hard-limit", "500ms", "--block-warning", "off", "--max-jobs", "1")
    assert process.end() == 0
    (warning,) = warnings(process)
    assert "a debugger is at work" in warning["event"]


@pytest.mark.parametrize("off", ["off", "0"])
def test_both_can_be_turned_off(work: Start, put: Put, ledger: Ledger, off: str) -> None:
    put("block_loop", 1.5)
    flags = ("--block-warning", off, "--hard-limit", off, "--stuck-after", off)
    process = work("--max-jobs", "1", *flags)
    assert process.end() == 0
    assert warnings(process) == []
    assert len(ledger.lines("began")) == 1


def test_a_limit_below_the_warning_is_refused(work: Start) -> None:
    process = work("--hard-limit", "1s", "--block-warning", "2s")
    assert process.end() == 2
    assert "hard_limit=1 s must be longer than block_warning=2 s" in process.text


def test_a_log_that_nobody_reads_does_not_hold_up_the_end(
    folder: Path, put: Put, ledger: Ledger, server: Server
) -> None:
    """The loop is blocked inside the log, and so is whoever else has something to say."""
    put("flood_log")
    own = {"ASYNCJOBS_URL": server.url, "LEDGER": str(ledger.path)}
    command = [sys.executable, "-m", "asyncjobs", "worker", "tasks:app", "--hard-limit", "1s"]
    with subprocess.Popen(
        [*command, "--block-warning", "500ms"],
        cwd=folder,
        env=environment(own),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            assert process.wait(LIMIT_S) == BLOCKED
        finally:
            process.kill()
