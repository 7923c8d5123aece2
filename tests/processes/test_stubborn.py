"""Jobs that hold up the worker's end: it comes all the same, soon after the grace."""

from __future__ import annotations

import os
import signal

import pytest

from tests.kit.environment import ROOT
from tests.processes.kit import lines
from tests.processes.program import LoopName, Program

LOOPS = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])

STUBBORN = """
import contextlib

@app.job
async def ignore(name: str, *, ctx: JobContext = INJECTED) -> None:
    number = getattr(signal, name)
    signal.signal(number, signal.SIG_IGN)
    write("began", ctx)
    while signal.getsignal(number) is signal.SIG_IGN:
        await asyncio.sleep(0.01)
    write("restored", ctx)


@app.job
async def block(*, ctx: JobContext = INJECTED) -> None:
    write("began", ctx)
    time.sleep(600)  # the point of this job


@app.job
async def swallow(*, ctx: JobContext = INJECTED) -> None:
    write("began", ctx)
    while True:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            pass


@app.job
async def start_threads(*, ctx: JobContext = INJECTED) -> None:
    threading.Thread(target=time.sleep, args=(600,)).start()
    asyncio.get_running_loop().run_in_executor(None, time.sleep, 600)
    write("began", ctx)


def lose_stderr():
    reader, writer = os.pipe()
    os.close(reader)
    os.dup2(writer, 2)


@app.job
async def leave_threads_unheard(*, ctx: JobContext = INJECTED) -> None:
    lose_stderr()
    threading.Thread(target=time.sleep, args=(600,)).start()
    write("began", ctx)


@app.job
async def block_unheard(*, ctx: JobContext = INJECTED) -> None:
    lose_stderr()
    write("began", ctx)
    while True:
        with contextlib.suppress(Exception):
            time.sleep(600)  # the point of this job


@app.job
async def hang_at_exit(*, ctx: JobContext = INJECTED) -> None:
    import atexit

    atexit.register(time.sleep, 600)
    write("began", ctx)
"""

HURRIED = """
from asyncjobs.cli.worker import last_resort
from asyncjobs.cli.worker import serve
serve.STOP_S = 0.3
last_resort.END_LIMIT_S = 0.3
"""


def hurry(program: Program) -> None:
    """What may take long over its end may not."""
    (program.folder / "sitecustomize.py").write_text(HURRIED)
    program.env["PYTHONPATH"] = f"{program.folder}{os.pathsep}{ROOT}"


@LOOPS
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_handler_that_a_job_has_replaced_comes_back(
    program: Program, loop: LoopName, name: str
) -> None:
    program.write(STUBBORN, loop)
    program.put("ignore", name)
    process = program.work()
    program.ledger.wait_for("restored", 1)
    process.wait_for(f"a job has replaced the handler of {name}")
    process.send(getattr(signal, name))
    assert process.end() == 0


@LOOPS
def test_a_job_that_blocks_the_loop_is_given_back_at_the_end_of_a_stop(
    program: Program, loop: LoopName
) -> None:
    program.write(STUBBORN, loop)
    hurry(program)
    program.put("block")
    process = program.work("--grace", "50ms", "--lease", "1h", "--hard-limit", "off")
    program.ledger.wait_for("began", 1)
    process.send(signal.SIGTERM)
    assert process.end() == 4
    said = [line["event"] for line in lines(process) if line["level"] == "critical"]
    assert said == ["a job holds up the stop: all jobs are given back, and the process ends now"]
    # It is nobody's fault: ready at once, without a crash.
    other = program.work("--grace", "50ms", "--hard-limit", "off")
    program.ledger.wait_for("began", 2)
    other.send(signal.SIGTERM)
    assert other.end() == 4
    assert [attempt for _, attempt in program.ledger.lines("began")] == [1, 1]


@LOOPS
@pytest.mark.parametrize("name", ["start_threads", "hang_at_exit"])
def test_what_is_left_behind_does_not_hold_up_the_end(
    program: Program, loop: LoopName, name: str
) -> None:
    program.write(STUBBORN, loop)
    hurry(program)
    program.put(name)
    process = program.work("--grace", "50ms", "--max-jobs", "1")
    program.ledger.wait_for("began", 1)
    assert process.end() == 0
    assert process.text.endswith("asyncjobs: tasks or threads of jobs do not end; exit now\n")


def test_an_attempt_that_swallows_its_end_is_given_back(program: Program) -> None:
    """With the limits as they are."""
    program.write(STUBBORN)
    program.put("swallow")
    process = program.work("--grace", "50ms")
    program.ledger.wait_for("began", 1)
    process.send(signal.SIGTERM)
    assert process.end() == 4


@LOOPS
def test_a_process_whose_stderr_nobody_reads_ends_all_the_same(
    program: Program, loop: LoopName
) -> None:
    program.write(STUBBORN, loop)
    hurry(program)
    program.put("leave_threads_unheard")
    process = program.work("--grace", "50ms", "--max-jobs", "1")
    program.ledger.wait_for("began", 1)
    assert process.end() == 0


@LOOPS
def test_a_third_signal_ends_a_process_whose_stderr_nobody_reads(
    program: Program, loop: LoopName
) -> None:
    program.write(STUBBORN, loop)
    program.put("block_unheard")
    process = program.work("--grace", "1h", "--hard-limit", "off")
    program.ledger.wait_for("began", 1)
    for _ in range(3):
        process.send(signal.SIGTERM)
        # Signals that come together are one.
        process.wait_briefly()
        process.wait_briefly()
    assert process.end() == 128 + signal.SIGTERM
