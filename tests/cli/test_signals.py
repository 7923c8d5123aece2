"""First, second and third signal; what may hold up the end, and does not."""

from __future__ import annotations

import signal
import socket
from contextlib import closing

import pytest

from tests.cli.conftest import Put, Start
from tests.cli.process import Ledger


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_lets_running_jobs_finish(
    work: Start, put: Put, ledger: Ledger, number: signal.Signals
) -> None:
    put("nap", 0.5, number=3)
    process = work()
    ledger.wait_for("began", 3)
    process.send(number)
    assert process.end() == 0
    assert len(ledger.lines("ended")) == 3
    process.record(f"{number.name}: finishing 3 jobs within 30s; again to release at once")
    process.record("worker ended: 3 jobs taken, none released")


def test_the_first_takes_no_more(work: Start, put: Put, ledger: Ledger) -> None:
    put("nap", 0.5, number=5)
    process = work("--concurrency", "1")
    ledger.wait_for("began", 1)
    process.send(signal.SIGTERM)
    process.wait_for("finishing 1 job within")
    assert process.end() == 0
    assert len(ledger.lines("began")) == len(ledger.lines("ended")) < 5


def test_an_idle_worker_ends_at_once(work: Start) -> None:
    process = work()
    process.wait_started()
    process.send(signal.SIGTERM)
    assert process.end() == 0
    process.record("SIGTERM: stopping, no job is running")


def test_the_grace_ends_with_4_and_spends_no_attempt(work: Start, put: Put, ledger: Ledger) -> None:
    (id,) = put("nap", 60)
    process = work("--grace", "50ms")
    ledger.wait_for("began", 1)
    process.send(signal.SIGTERM)
    assert process.end() == 4
    process.record("worker ended: 1 job taken, 1 released; a release spends no attempt")
    again = work()
    ledger.wait_for("began", 2)
    assert ledger.lines("began") == [(id, 1)] * 2
    again.send(signal.SIGTERM)
    again.send(signal.SIGINT)
    assert again.end() == 4


def test_the_second_releases_now(work: Start, put: Put, ledger: Ledger) -> None:
    put("nap", 60, number=2)
    process = work("--grace", "1h")
    ledger.wait_for("began", 2)
    process.send(signal.SIGINT)
    process.wait_for("SIGINT: finishing 2 jobs within 3600s")
    process.send(signal.SIGTERM)
    assert process.end() == 4
    process.record("SIGTERM: releasing 2 jobs now; again to exit at once")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_third_exits_although_the_loop_is_blocked(
    work: Start, put: Put, ledger: Ledger, number: signal.Signals
) -> None:
    put("block_loop", 60)
    process = work()
    ledger.wait_for("began", 1)
    # Signals of one kind that wait together are delivered once: so until it has had all.
    while process.process.poll() is None:
        process.send(number)
        process.wait_briefly()
    assert process.end() == 128 + number
    process.record("third signal: exit now; running jobs are run again when the lease ends")


def test_a_signal_during_the_start_ends_it(run: Start) -> None:
    with closing(socket.socket()) as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        deaf.settimeout(30)
        url = f"redis://127.0.0.1:{deaf.getsockname()[1]}"
        process = run("worker", "tasks:app", env={"ASYNCJOBS_URL": url})
        connection, _ = deaf.accept()
        with closing(connection):
            process.send(signal.SIGTERM)
            assert process.end() == 0
    process.record("SIGTERM: stopped before the start was over")


def test_a_thread_left_behind_by_a_sync_job_does_not_hold_up_the_end(
    work: Start, put: Put, ledger: Ledger
) -> None:
    put("nap_in_thread", 600)
    process = work("--grace", "50ms")
    ledger.wait_for("began", 1)
    process.send(signal.SIGTERM)
    assert process.end() == 4
    process.record("1 thread left behind by sync jobs; the process ends all the same")


def test_a_thread_that_a_job_has_started_does_not_hold_up_the_end(
    work: Start, put: Put, ledger: Ledger
) -> None:
    put("leave_thread", 600)
    process = work("--max-jobs", "1")
    ledger.wait_for("began", 1)
    assert process.end() == 0
    assert process.text.endswith("asyncjobs: tasks or threads of jobs do not end; exit now\n")
