"""Threads that compute leave the loop no turn: that is said, and nobody else is blamed."""

from __future__ import annotations

import re
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Put, Start
from tests.cli.process import Ledger, Process
from tests.processes.kit import lines

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="other systems tell no thread's processor time"
)
JOBS = """


def compute(seconds):
    began_s = time.thread_time()
    while time.thread_time() - began_s < seconds:
        sum(range(1000))


@app.job(timeout=None)
def spin(seconds: float, *, ctx: JobContext = INJECTED) -> None:
    write(f"crashes:{ctx.crashes}", ctx)
    compute(seconds)
    write("ended", ctx)


@app.job(timeout=None)
async def step_often(times: int, *, ctx: JobContext = INJECTED) -> None:
    # In a thread: who writes on the loop waits there for the lock, and that is a call that blocks.
    await asyncio.to_thread(write, f"crashes:{ctx.crashes}", ctx)
    for _ in range(times):
        await asyncio.sleep(0.001)
    await asyncio.to_thread(write, "ended", ctx)


@app.job(timeout=None)
async def compute_on_loop(seconds: float, *, ctx: JobContext = INJECTED) -> None:
    write("began", ctx)
    compute(seconds)  # the point of this job: a mistake of the user's


@app.job(timeout=None)
async def hold_lock(number: int, *, ctx: JobContext = INJECTED) -> int:
    write("began", ctx)
    return sum(range(number))  # the same; nobody else runs meanwhile, in no thread


@app.job(timeout=None)
def hold_lock_in_thread(number: int, *, ctx: JobContext = INJECTED) -> int:
    write("began", ctx)
    return sum(range(number))
"""


def seconds_of_counting(seconds: float) -> int:
    """To which number this machine counts in about so many seconds of processor time."""
    sample = 2_000_000
    began_s = time.thread_time()
    sum(range(sample))
    return int(sample * seconds / (time.thread_time() - began_s))


@pytest.fixture(autouse=True)
def _jobs(folder: Path) -> None:
    with (folder / "tasks.py").open("a") as tasks:
        tasks.write(JOBS)


def blamed(process: Process) -> list[dict[str, Any]]:
    """The lines that say that something on the loop blocks it."""
    return [
        line
        for line in lines(process)
        if line["event"].startswith(("the event loop is blocked", "the event loop was blocked"))
    ]


def test_sync_jobs_that_compute_are_no_block_and_no_other_job_is(
    work: Start, put: Put, ledger: Ledger
) -> None:
    innocent = put("step_often", 20, number=20, more=JOBS)
    busy = put("spin", 0.1, number=120, more=JOBS)
    process = work("--threads", "40", "--block-warning", "500ms")
    process.wait_for("the event loop gets no turn")
    ledger.wait_for("ended", len(innocent) + len(busy))
    process.send(signal.SIGTERM)
    assert process.end() == 0, process.text
    assert [line for line in blamed(process) if "job_id" in line] == []
    (line,) = [line for line in lines(process) if "gets no turn" in line["event"]]
    assert "job_id" not in line
    assert "no job blocks it, other threads hold the interpreter's lock (GIL)" in line["event"]
    assert "(tasks.spin)" in line["event"]
    assert "the busiest thread is at:" in line["event"]
    assert "crashes:1" not in ledger.path.read_text()


@pytest.mark.parametrize("function", ["block_loop", "compute_on_loop"])
def test_one_that_blocks_the_loop_is_found_beside_those_that_compute(
    work: Start, put: Put, ledger: Ledger, function: str
) -> None:
    put("spin", 1.5, number=2, more=JOBS)
    process = work("--threads", "2", "--block-warning", "500ms")
    ledger.wait_for("crashes:0", 2)
    (id,) = put(function, 1.5, more=JOBS)
    process.wait_for("the event loop is blocked, for")
    process.send(signal.SIGTERM)
    process.end()
    assert [line["job_id"] for line in blamed(process)] == [id]


def test_a_call_on_the_loop_that_holds_the_lock_is_named_afterwards(
    work: Start, put: Put, ledger: Ledger
) -> None:
    (id,) = put("hold_lock", seconds_of_counting(3), more=JOBS)
    process = work("--max-jobs", "1", "--block-warning", "500ms")
    assert process.end() == 0
    lines_of = [line for line in blamed(process) if "holds the interpreter's lock" in line["event"]]
    # Another thread may have been let in first; then the job may be over by the time of the look.
    assert len(lines_of) == 1
    assert lines_of[0].get("job_id", id) == id


def test_a_call_in_a_thread_that_holds_the_lock_is_no_block(
    work: Start, put: Put, ledger: Ledger
) -> None:
    put("hold_lock_in_thread", seconds_of_counting(3), more=JOBS)
    process = work("--max-jobs", "1", "--block-warning", "500ms")
    assert process.end() == 0
    assert blamed(process) == []
    told = [line["event"] for line in lines(process) if "gets no turn" in line["event"]]
    assert told
    # The look comes when the lock is free again. By then the job may be over: it names this
    # job or none, and never another one.
    named = {name for event in told for name in re.findall(r"\((tasks\.\w+)\)", event)}
    assert named <= {"tasks.hold_lock_in_thread"}
