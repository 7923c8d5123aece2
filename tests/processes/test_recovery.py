"""The jobs of a process that was killed run again at once: its parent gives them back.

The leases here are far longer than these tests wait.
"""

from __future__ import annotations

import os
import signal

import pytest

from tests.cli.conftest import Put, Start
from tests.cli.process import Ledger, Process
from tests.kit.waiting import ticks
from tests.processes.kit import newest, wait_ready

pytestmark = pytest.mark.anyio


def began_again(ledger: Ledger, ids: set[str]) -> bool:
    """Whether each of these jobs has begun twice."""
    began = [id for id, _ in ledger.lines("began")]
    return all(began.count(id) == 2 for id in ids)


def wait_for_second_begin(ledger: Ledger, process: Process, ids: set[str]) -> None:
    for _ in ticks():
        if began_again(ledger, ids):
            return
    raise AssertionError(process.text)


def stop(process: Process) -> int:
    """Release what runs: two signals, the second one when the first was heard."""
    process.send(signal.SIGTERM)
    # Two signals of one kind at once arrive as one.
    process.wait_for("again to release at once")
    process.send(signal.SIGTERM)
    return process.end()


def test_kill_9_of_one_of_two(work: Start, put: Put, ledger: Ledger) -> None:
    process = work("--processes", "2", "--concurrency", "4", "--lease", "300s")
    pids = newest(wait_ready(process, 2))
    ids = put("nap", 60, number=8)
    ledger.wait_for("began", 8)
    os.kill(pids[2], signal.SIGKILL)
    process.wait_for(f"process 2 (pid {pids[2]}): jobs given back: 4")
    # The other one has no free slot: they wait for the process that takes the place.
    wait_ready(process, 3)
    for _ in ticks():
        if len(ledger.lines("began")) == 12:
            break
    began = [id for id, _ in ledger.lines("began")]
    assert sorted(began.count(id) for id in ids) == [1, 1, 1, 1, 2, 2, 2, 2]
    # A crash spends no attempt.
    assert {attempt for _, attempt in ledger.lines("began")} == {1}
    assert stop(process) == 4, process.text


def test_one_process_with_a_parent(work: Start, put: Put, ledger: Ledger) -> None:
    process = work("--processes", "1", "--lease", "300s")
    pids = newest(wait_ready(process, 1))
    ids = set(put("nap", 60, number=3))
    ledger.wait_for("began", 3)
    os.kill(pids[1], signal.SIGKILL)
    wait_for_second_begin(ledger, process, ids)
    assert f"process 1 (pid {pids[1]}): jobs given back: 3" in process.text
    assert stop(process) == 4, process.text


def test_one_that_ends_by_itself_has_nothing_to_give_back(
    work: Start, put: Put, ledger: Ledger
) -> None:
    process = work("--processes", "2", "--lease", "300s")
    wait_ready(process, 2)
    put("nap", 0, number=3)
    ledger.wait_for("ended", 3)
    process.send(signal.SIGTERM)
    assert process.end() == 0
    assert "given back" not in process.text


def test_the_last_one_is_killed_while_all_stop(work: Start, put: Put, ledger: Ledger) -> None:
    """The parent stays until the jobs are back, though no process is left."""
    process = work("--processes", "1", "--lease", "300s", "--grace", "60s")
    pids = newest(wait_ready(process, 1))
    put("nap", 60, number=2)
    ledger.wait_for("began", 2)
    process.send(signal.SIGTERM)
    process.wait_for("stopping all processes")
    os.kill(pids[1], signal.SIGKILL)
    assert process.end() == 1
    assert f"process 1 (pid {pids[1]}): jobs given back: 2" in process.text
    other = work("--lease", "300s", "--grace", "0s")
    ledger.wait_for("began", 4)
    other.send(signal.SIGTERM)
    assert other.end() == 4
