"""Workers whose jobs run in processes of their own: no process outlives its worker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.environment import LIMIT_S, environment
from tests.kit.waiting import wait_gone
from tests.processes.kit import wait_ready
from tests.processes.program import Program

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

JOBS = """
import logging

@app.job(isolation="process", retry=False, sensitive=["secret"])
def says(secret: str, *, ctx: JobContext = INJECTED) -> None:
    logging.getLogger("shop").info("about %s", secret)
    # In one write: the worker writes to the same stream, and may come in between.
    os.write(2, b"printed\\n")
    write("said", ctx)


@app.job(isolation="process", retry=False)
def stays(*, ctx: JobContext = INJECTED) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    write(f"pids:{os.getppid()}:{os.getpid()}:{child.pid}", ctx)
    time.sleep(600)


@app.job(isolation="process", retry=False, queue="heavy")
def told(*, ctx: JobContext = INJECTED) -> None:
    write(f"server:{os.getppid()}", ctx)
    time.sleep(0.05)
    write("told", ctx)
"""
MAIN = """
import asyncio
import os

from asyncjobs import AsyncJobs, JobDiscarded, Worker

app = AsyncJobs("memory:")


class Broken(Exception): ...


@app.job(isolation="process")
def double(number: int) -> list[int]:
    return [2 * number, os.getpid()]


@app.job(isolation="process", retry=False, discard_on=Broken)
def breaks() -> None:
    raise Broken


async def main() -> None:
    async with app, Worker(app):
        value, pid = await (await double.enqueue(21)).result(20)
        try:
            await (await breaks.enqueue()).result(20)
        except JobDiscarded:
            print(value, pid != os.getpid(), "discarded")
"""
GUARD = """
if __name__ == "__main__":
    asyncio.run(main())
"""


def pids_of(program: Program) -> list[int]:
    program.ledger.wait_for_any("pids:")
    text = program.ledger.path.read_text()
    return [int(each) for each in text.partition("pids:")[2].split()[0].split(":")]


def test_no_process_outlives_a_worker_that_is_killed(program: Program) -> None:
    program.write(JOBS)
    program.put("stays")
    process = program.work()
    pids = pids_of(program)
    process.send(signal.SIGKILL)
    for pid in pids:
        wait_gone(pid)


def test_a_stop_gives_the_job_back_and_ends_all(program: Program) -> None:
    program.write(JOBS)
    program.put("stays")
    process = program.work("--grace", "50ms")
    pids = pids_of(program)
    process.send(signal.SIGTERM)
    assert process.end() == 4, process.text
    for pid in pids:
        wait_gone(pid)
    assert "1 released" in process.text


def test_lines_of_a_job_are_lines_of_the_worker(program: Program) -> None:
    program.write(JOBS)
    (id,) = program.put("says", "hunter2-hunter2")
    process = program.work("--max-jobs", "1", "--log-format", "json", "--job-processes", "1")
    assert process.end() == 0, process.text
    lines = [json.loads(line) for line in process.text.splitlines() if line.startswith("{")]
    (line,) = [each for each in lines if each["logger"] == "shop"]
    assert (line["event"], line["job_id"], line["level"]) == ("about ***", id, "info")
    assert "printed\n" in process.text
    assert "hunter2" not in process.text


def test_each_of_two_worker_processes_has_its_own(program: Program) -> None:
    program.write(JOBS)
    process = program.work("--processes", "2", "--log-format", "json")
    wait_ready(process, 2)
    ids = program.put("told", number=40)
    program.ledger.wait_for("told", len(ids))
    process.send(signal.SIGTERM)
    assert process.end() == 0, process.text
    servers = {
        int(word.partition(":")[2])
        for word in program.ledger.path.read_text().split()
        if word.startswith("server:")
    }
    assert len(servers) == 2
    for pid in servers:
        wait_gone(pid)


@pytest.mark.parametrize("guard", [True, False])
def test_the_main_program_may_have_the_functions(tmp_path: Path, *, guard: bool) -> None:
    (tmp_path / "shop.py").write_text(MAIN + (GUARD if guard else "\nasyncio.run(main())\n"))
    done = subprocess.run(
        [sys.executable, "shop.py"],
        cwd=tmp_path,
        env=environment({}),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    if guard:
        assert done.stdout == "42 True discarded\n", done.stderr
        return
    # Without the guard the program would start itself again and again.
    assert done.returncode == 1
    assert 'put what starts it under if __name__ == "__main__"' in done.stderr
