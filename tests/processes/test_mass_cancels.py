"""A job that cancels all tasks of the event loop: the worker goes on, and nobody else pays."""

from __future__ import annotations

import signal

import pytest

from tests.processes.kit import lines
from tests.processes.program import LoopName, Program
from tests.processes.test_watchdog import wait_dead

JOBS = """
@app.job(retry=False)
def nap_in_thread(seconds: float, *, ctx: JobContext = INJECTED) -> None:
    write("began", ctx)
    time.sleep(seconds)
    write("ended", ctx)


@app.job(retry=False)
async def cancel_all(*, ctx: JobContext = INJECTED) -> None:
    write("cancelled", ctx)
    for task in asyncio.all_tasks():
        task.cancel()
    await asyncio.sleep(0)


@app.job(retry=False)
async def cancel_others(*, ctx: JobContext = INJECTED) -> None:
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    await asyncio.sleep(0.1)
    write("cancelled", ctx)


@app.job(retry=False)
async def cancel_all_and_wait(*, ctx: JobContext = INJECTED) -> None:
    write("cancelled", ctx)
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    write("ended", ctx)


@app.job(retry=False)
async def cancel_itself(*, ctx: JobContext = INJECTED) -> None:
    asyncio.current_task().cancel()
    await asyncio.sleep(0)
"""
LOOPS = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])


@LOOPS
@pytest.mark.parametrize("name", ["cancel_all", "cancel_others"])
def test_a_job_that_cancels_all_tasks_costs_nobody_an_attempt(
    program: Program, loop: LoopName, name: str
) -> None:
    program.write(JOBS, loop)
    naps = program.put("nap", 1.0, number=20)
    threads = program.put("nap_in_thread", 1.0, number=3)
    process = program.work("--lease", "1h")
    program.ledger.wait_for("began", 23)
    (id,) = program.put(name)
    program.ledger.wait_for("cancelled", 1)
    program.ledger.wait_for("ended", 23)
    process.send(signal.SIGTERM)
    assert process.end() == 0
    # With `retry=False` a second attempt would not have been.
    assert sorted(program.ledger.lines("ended")) == sorted((each, 1) for each in naps + threads)
    assert sorted(program.ledger.lines("crashes:0")) == sorted((each, 1) for each in naps * 2)
    # Threads cannot be stopped: they have run on, and once.
    began = [each for each, _ in program.ledger.lines("began") if each in threads]
    assert sorted(began) == sorted(threads)
    (said,) = [line for line in lines(process) if "cancelled all tasks" in line["event"]]
    assert (said["level"], said["job_id"]) == ("error", id)


def test_who_cancels_all_tasks_fails_by_that(program: Program) -> None:
    program.write(JOBS)
    (id,) = program.put("cancel_all")
    process = program.work("--lease", "1h")
    assert "is dead (exhausted)" in wait_dead(program.url, id)
    process.send(signal.SIGTERM)
    assert process.end() == 0


def test_who_cancels_itself_after_a_mass_cancel_of_another_fails(program: Program) -> None:
    program.write(JOBS)
    program.put("cancel_all")
    process = program.work("--lease", "1h")
    program.ledger.wait_for("cancelled", 1)
    (id,) = program.put("cancel_itself")
    assert "is dead (exhausted)" in wait_dead(program.url, id)
    process.send(signal.SIGTERM)
    assert process.end() == 0


@LOOPS
def test_a_mass_cancel_reaches_jobs_that_have_not_made_a_step(
    program: Program, loop: LoopName
) -> None:
    # Taken together: when the first one cancels all tasks, those of the others have not run yet.
    program.write(JOBS, loop)
    program.put("cancel_all")
    naps = program.put("nap", 0.1, number=10) + program.put("nap_in_thread", 0.1, number=2)
    process = program.work("--lease", "1h", "--grace", "2s")
    program.ledger.wait_for("ended", 12)
    process.send(signal.SIGTERM)
    assert process.end() == 0
    assert sorted(program.ledger.lines("ended")) == sorted((each, 1) for each in naps)


@LOOPS
def test_who_cancels_all_tasks_may_wait_for_their_end(program: Program, loop: LoopName) -> None:
    program.write(JOBS, loop)
    (nap,) = program.put("nap", 0.5)
    process = program.work("--lease", "1h", "--grace", "2s")
    program.ledger.wait_for("began", 1)
    # The second one, too, is found out.
    for number in (1, 2):
        program.put("cancel_all_and_wait")
        program.ledger.wait_for("ended", number)
    program.ledger.wait_for("ended", 3)
    process.send(signal.SIGTERM)
    assert process.end() == 0
    assert (nap, 1) in program.ledger.lines("ended")
    assert sum("cancelled all tasks" in line["event"] for line in lines(process)) == 2
