"""Lifespans in real worker processes: each opens its own, and closes it after its jobs."""

from __future__ import annotations

import signal

import pytest

from tests.cli.process import Ledger
from tests.processes.kit import wait_ready
from tests.processes.program import Program

POOL = """
from asyncjobs import Depends


def tell(word):
    ledger = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(ledger, f"{word} {os.getpid()} 1\\n".encode())
    os.close(ledger)


@app.lifespan
async def pool():
    tell("opened")
    if os.environ.get("HOW") == "broken":
        raise ConnectionRefusedError("planted")
    if os.environ.get("HOW") == "slow":
        await asyncio.sleep(60)
    yield os.getpid()
    tell("closed")


@app.job
async def uses(seconds: float, *, pool: int = Depends(pool)) -> None:
    assert pool == os.getpid()
    tell("began")
    await asyncio.sleep(seconds)
    tell("ended")
"""


def words(ledger: Ledger) -> list[str]:
    return [line.split()[0] for line in ledger.path.read_text().splitlines()]


def test_it_closes_after_the_jobs_of_a_stopped_worker(program: Program, ledger: Ledger) -> None:
    program.write(POOL)
    program.put("uses", 0.3, number=2)
    assert not ledger.path.exists()  # the program that enqueues has opened nothing
    process = program.work()
    ledger.wait_for("began", 2)
    process.send(signal.SIGTERM)
    assert process.end() == 0
    assert words(ledger) == ["opened", "began", "began", "ended", "ended", "closed"]


def test_one_that_fails_is_named_and_ends_the_worker(program: Program, ledger: Ledger) -> None:
    program.write(POOL)
    program.env["HOW"] = "broken"
    process = program.work()
    assert process.end() == 1
    (told,) = process.records()
    assert told["event"] == (
        "the resource tasks.pool could not be opened: ConnectionRefusedError: planted"
    )
    assert told["level"] == "critical"
    assert "tasks.py" in told["exception"]


def test_a_parent_tells_of_it_once(program: Program, ledger: Ledger) -> None:
    program.write(POOL)
    program.env["HOW"] = "broken"
    process = program.work("--processes", "2")
    assert process.end() == 1
    assert process.text.count("the resource tasks.pool could not be opened") == 1
    assert words(ledger) == ["opened"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_opening(
    program: Program, ledger: Ledger, number: signal.Signals
) -> None:
    program.write(POOL)
    program.env["HOW"] = "slow"
    process = program.work()
    ledger.wait_for("opened", 1)
    process.send(number)
    assert process.end() == 0
    assert "stopped before the start was over" in process.text
    assert words(ledger) == ["opened"]


def test_each_process_has_one_and_a_restart_new_ones(program: Program, ledger: Ledger) -> None:
    program.write(POOL)
    process = program.work("--processes", "2")
    wait_ready(process, 2)
    assert len({pid for pid, _ in ledger.lines("opened")}) == 2
    process.send(signal.SIGHUP)
    process.wait_for("restart: all processes are new")
    assert len(ledger.lines("opened")) == 4
    assert len(ledger.lines("closed")) == 2
    process.send(signal.SIGTERM)
    assert process.end() == 0
    assert {pid for pid, _ in ledger.lines("closed")} == {pid for pid, _ in ledger.lines("opened")}
