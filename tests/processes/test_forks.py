"""What jobs fork: no signal handler of the worker's, and an end with the worker's."""

from __future__ import annotations

import os
import signal

import pytest

from tests.kit.environment import ROOT
from tests.kit.waiting import is_alive, wait_gone
from tests.processes.kit import wait_ready
from tests.processes.program import LoopName, Program

LOOPS = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])

FORKS = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

fork = multiprocessing.get_context("fork")


@app.job(retry=False)
async def terminate_child(*, ctx: JobContext = INJECTED) -> None:
    child = fork.Process(target=time.sleep, args=(600,))
    child.start()
    child.terminate()
    await asyncio.to_thread(child.join)
    write(f"code:{child.exitcode}", ctx)


@app.job(retry=False)
def terminate_many(*, ctx: JobContext = INJECTED) -> None:
    # At once: some of the signals come before the child has had a moment of its own.
    children = []
    for _ in range(100):
        child = os.fork()
        if not child:
            signal.pause()
            os._exit(0)
        os.kill(child, signal.SIGTERM)
        children.append(child)
    for child in children:
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == -signal.SIGTERM
    write("ended", ctx)


@app.job(retry=False)
async def come_back(*, ctx: JobContext = INJECTED) -> None:
    child = os.fork()
    if not child:
        return
    _, status = os.waitpid(child, 0)
    write(f"code:{os.waitstatus_to_exitcode(status)}", ctx)


@app.job(retry=False)
async def pool(*, ctx: JobContext = INJECTED) -> None:
    executor = ProcessPoolExecutor(1, mp_context=fork)
    write(f"child:{executor.submit(os.getpid).result()}", ctx)
    executor.submit(time.sleep, 600)
    await asyncio.sleep(600)


@app.job(retry=False)
def program(*, ctx: JobContext = INJECTED) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    write(f"child:{child.pid}", ctx)
    time.sleep(600)


@app.job(retry=False)
async def stubborn(*, ctx: JobContext = INJECTED) -> None:
    child = os.fork()
    if not child:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            time.sleep(600)
    write(f"child:{child}", ctx)


@app.job(retry=False)
async def daemon(*, ctx: JobContext = INJECTED) -> None:
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    child = subprocess.Popen(command, start_new_session=True)
    write(f"child:{child.pid}", ctx)
"""


def child_of(program: Program) -> int:
    program.ledger.wait_for_any("child:")
    text = program.ledger.path.read_text()
    return int(text.partition("child:")[2].split()[0])


@LOOPS
def test_a_child_of_a_job_has_no_handlers_of_the_worker(program: Program, loop: LoopName) -> None:
    program.write(FORKS, loop)
    program.put("terminate_child")
    process = program.work("--max-jobs", "1")
    program.ledger.wait_for(f"code:{-signal.SIGTERM}", 1)
    assert process.end() == 0


@LOOPS
def test_a_child_hears_a_signal_that_comes_at_once(program: Program, loop: LoopName) -> None:
    program.write(FORKS, loop)
    program.put("terminate_many")
    process = program.work()
    program.ledger.wait_for("ended", 1)
    process.send(signal.SIGTERM)
    assert process.end() == 0


@LOOPS
def test_a_child_that_comes_back_to_the_loop_is_no_second_worker(
    program: Program, loop: LoopName
) -> None:
    program.write(FORKS, loop)
    program.put("come_back")
    process = program.work("--max-jobs", "1")
    program.ledger.wait_for("code:1", 1)
    assert process.end() == 0, process.text
    assert "its child came back to the loop; it ends here" in process.text


@pytest.mark.parametrize("name", ["pool", "program", "stubborn"])
def test_children_end_with_a_worker_that_is_stopped(program: Program, name: str) -> None:
    program.write(FORKS)
    program.put(name)
    process = program.work("--grace", "50ms")
    pid = child_of(program)
    process.send(signal.SIGTERM)
    assert process.end() in (0, 4)
    wait_gone(pid)


def test_children_end_with_a_third_signal(program: Program) -> None:
    program.write(FORKS)
    program.put("program")
    process = program.work()
    pid = child_of(program)
    while process.process.poll() is None:
        process.send(signal.SIGTERM)
        process.wait_briefly()
    assert process.end() == 128 + signal.SIGTERM
    wait_gone(pid)


def test_a_forked_child_ends_with_a_worker_that_is_killed(program: Program) -> None:
    program.write(FORKS)
    program.put("stubborn")
    process = program.work()
    pid = child_of(program)
    process.send(signal.SIGKILL)
    process.end()
    wait_gone(pid)


SLOW_CHILD = """
import os, time


def wait_for_the_end_of_the_parent():
    while os.getppid() == parent:
        time.sleep(0.01)


parent = os.getpid()
# Registered before ours, so it runs before ours.
os.register_at_fork(after_in_child=wait_for_the_end_of_the_parent)
"""


def test_a_forked_child_ends_though_the_worker_is_killed_before_it_sets_out(
    program: Program,
) -> None:
    program.write(FORKS)
    (program.folder / "sitecustomize.py").write_text(SLOW_CHILD)
    program.env["PYTHONPATH"] = f"{program.folder}{os.pathsep}{ROOT}"
    program.put("stubborn")
    process = program.work()
    pid = child_of(program)
    process.send(signal.SIGKILL)
    process.end()
    wait_gone(pid)


def test_a_parent_ends_what_a_killed_process_has_left(program: Program) -> None:
    program.write(FORKS)
    program.put("program")
    parent = program.work("--processes", "1", "--reload")
    (_, worker), *_ = wait_ready(parent, 1)
    pid = child_of(program)
    os.kill(worker, signal.SIGKILL)
    wait_gone(pid)
    parent.send(signal.SIGTERM)
    assert parent.end() in (0, 4)


def test_a_daemon_of_a_job_stays(program: Program) -> None:
    program.write(FORKS)
    program.put("daemon")
    process = program.work("--max-jobs", "1")
    pid = child_of(program)
    assert process.end() == 0
    assert is_alive(pid)
    os.kill(pid, signal.SIGKILL)
