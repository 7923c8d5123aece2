"""Four processes under one parent: deaths, restarts under load, modes, the one banner."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.cli.conftest import Put, Start
from tests.cli.process import Ledger, Process
from tests.kit.waiting import ticks
from tests.processes.kit import OLD_ENDED, READY, lines, matches, newest, wait_ready


def wait_ended(ledger: Ledger, ids: list[str]) -> None:
    for _ in ticks():
        if {id for id, _ in ledger.lines("ended")} >= set(ids):
            return
    raise AssertionError(f"{len(ledger.lines('ended'))} of {len(ids)} jobs have ended")


def stop(process: Process) -> int:
    process.send(signal.SIGTERM)
    return process.end()


def test_kill_9_of_one_of_four_under_load_loses_nothing(
    work: Start, put: Put, ledger: Ledger
) -> None:
    ids = put("nap", 0.5, number=400)
    process = work("--processes", "4", "--concurrency", "10", "--lease", "1s")
    pids = newest(wait_ready(process, 4))
    # Three of them can run thirty: the one that is killed runs some.
    ledger.wait_for_running(31)
    os.kill(pids[2], signal.SIGKILL)
    again = wait_ready(process, 5)
    assert again[4][0] == 2
    assert again[4][1] != pids[2]
    wait_ended(ledger, ids)
    assert stop(process) == 0
    assert f"process 2 (pid {pids[2]}) was killed by SIGKILL; a new one starts in 0." in (
        process.text
    )
    # What ran in the killed one ran again, and a crash spends no attempt.
    assert {attempt for _, attempt in ledger.lines("began")} == {1}
    assert len(ledger.lines("began")) > len(ids)


def test_a_restart_under_load_renews_one_by_one_and_loses_nothing(
    work: Start, put: Put, ledger: Ledger
) -> None:
    ids = put("nap", 0.1, number=600)
    process = work("--processes", "3", "--concurrency", "5")
    before = newest(wait_ready(process, 3))
    ledger.wait_for("began", 15)
    process.send(signal.SIGHUP)
    process.wait_for("restart: all processes are new")
    after = newest(matches(process, READY))
    assert set(before.values()).isdisjoint(after.values())
    told: list[tuple[str, int]] = []
    for line in lines(process):
        for word, pattern in (("ready", READY), ("ended", OLD_ENDED)):
            if found := pattern.fullmatch(line["event"]):
                told.append((word, int(found[1])))
    one_by_one = [(word, number) for number in (1, 2, 3) for word in ("ready", "ended")]
    assert told[3:] == one_by_one
    wait_ended(ledger, ids)
    assert stop(process) == 0
    # Nobody was killed and no job released: each has run once.
    assert len(ledger.lines("began")) == len(ledger.lines("ended")) == len(ids)


def test_a_restart_into_broken_code_keeps_the_old_processes(
    work: Start, put: Put, ledger: Ledger, folder: Path
) -> None:
    process = work("--processes", "2")
    before = newest(wait_ready(process, 2))
    good = (folder / "tasks.py").read_text()
    (folder / "tasks.py").write_text("import does_not_exist\n")
    process.send(signal.SIGHUP)
    process.wait_for("before it was ready; the old ones work on")
    put("nap", 0, number=4)
    ledger.wait_for("ended", 4)
    assert newest(matches(process, READY)) == before
    (folder / "tasks.py").write_text(good)
    process.send(signal.SIGHUP)
    process.wait_for("restart: all processes are new")
    assert set(newest(wait_ready(process, 4)).values()).isdisjoint(before.values())
    assert stop(process) == 0


def test_a_restart_asked_for_during_a_restart_is_done_too(work: Start) -> None:
    process = work("--processes", "2")
    wait_ready(process, 2)
    process.send(signal.SIGHUP)
    wait_ready(process, 3)
    process.send(signal.SIGHUP)
    ready = wait_ready(process, 6)
    assert [number for number, _ in ready[2:]] == [1, 2, 1, 2]
    assert stop(process) == 0


def test_burst_ends_when_all_have_ended(work: Start, put: Put, ledger: Ledger) -> None:
    ids = put("nap", 0.05, number=60)
    process = work("--processes", "3", "--concurrency", "4", "--burst", "--burst-wait", "0s")
    assert process.end() == 0
    assert sorted(ledger.lines("ended")) == sorted((id, 1) for id in ids)
    assert len(matches(process, READY)) == 3
    ended = [line for line in lines(process) if line["event"].startswith("worker ended: ")]
    assert len(ended) == 3


def test_max_jobs_renews_each_process(work: Start, put: Put, ledger: Ledger) -> None:
    ids = put("nap", 0, number=10)
    process = work("--processes", "2", "--max-jobs", "3")
    wait_ended(ledger, ids)
    assert len(wait_ready(process, 5)) >= 5
    assert stop(process) == 0
    assert "ended with exit code 0; a new one starts" in process.text
    assert len(ledger.lines("began")) == len(ids)


def test_one_banner_and_lines_that_say_whose_they_are(work: Start, put: Put) -> None:
    put("fail")
    process = work("--processes", "3", "--name", "blue", "--queues", "default,mial")
    pids = newest(wait_ready(process, 3))
    process.wait_for("planted fault")
    assert stop(process) == 0
    banner = process.record("worker started")
    assert (banner["processes"], banner["pid"]) == (3, process.process.pid)
    assert (banner["worker"], banner["queues"]) == ("blue", {"default": 1, "mial": 1})
    assert "tasks.nap" in banner["functions"]
    # Hints come with the banner: once.
    process.record("no job function here names queue 'mial'; did you mean 'mail'?")
    (failure,) = [line for line in lines(process) if "planted fault" in str(line)]
    assert pids[failure["process"]] == failure["pid"]


def test_the_banner_as_text(work: Start) -> None:
    process = work("--processes", "2", "--log-format", "console", "--name", "blue")
    process.wait_for("process 2 is ready")
    assert stop(process) == 0
    assert process.text.count(", worker blue\n") == 1
    assert "  concurrency  1,000 jobs at a time in each process\n" in process.text
    pid = process.process.pid
    assert f"  process      pid {pid} with 2 worker processes, Python 3." in process.text
