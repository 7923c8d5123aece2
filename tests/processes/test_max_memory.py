"""`--max-memory`: a process that holds too much ends in a planned way, and nobody is charged."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from tests.cli.conftest import Put, Start
from tests.cli.process import Ledger, Process
from tests.kit.waiting import ticks
from tests.processes.kit import READY, lines, matches

MEMORY = 6
HOLD = """

_held = []


@app.job
async def hold(mib: int, seconds: float, *, ctx: JobContext = INJECTED) -> None:
    write(f"crashes:{ctx.crashes}", ctx)
    _held.append(b"x" * (mib << 20))
    await asyncio.sleep(seconds)
    write("ended", ctx)
"""


@pytest.fixture(autouse=True)
def _holding(folder: Path) -> None:
    with (folder / "tasks.py").open("a") as tasks:
        tasks.write(HOLD)


def over(process: Process) -> list[str]:
    """The log lines that say that a process holds too much."""
    pattern = re.compile(r"the process holds \d+ MiB of memory, more than max_memory=250 MiB")
    return [line["event"] for line in lines(process) if pattern.match(line["event"])]


def first_attempts(ledger: Ledger) -> dict[str, int]:
    """How often each job began; all of them uncharged first attempts."""
    assert "crashes:1" not in ledger.path.read_text()
    began = ledger.lines("crashes:0")
    assert {attempt for _, attempt in began} == {1}
    found = [id for id, _ in began]
    return {id: found.count(id) for id in found}


def test_it_takes_no_more_finishes_and_ends_with_a_code_of_its_own(
    work: Start, put: Put, ledger: Ledger
) -> None:
    first = put("hold", 260, 3, more=HOLD)
    process = work("--max-memory", "250MiB")
    process.wait_for("it takes no more jobs")
    late = put("hold", 1, 0, more=HOLD)
    assert process.end() == MEMORY
    assert len(over(process)) == 1
    assert ledger.lines("ended") == [(id, 1) for id in first]
    again = work("--max-jobs", "1")
    assert again.end() == 0
    assert first_attempts(ledger) == dict.fromkeys([*first, *late], 1)


def test_what_the_grace_does_not_suffice_for_is_released_uncharged(
    work: Start, put: Put, ledger: Ledger
) -> None:
    (id,) = put("hold", 260, 600, more=HOLD)
    process = work(env={"ASYNCJOBS_WORKER_MAX_MEMORY": "250mib", "ASYNCJOBS_WORKER_GRACE": "100ms"})
    assert process.end() == MEMORY
    assert "worker ended: 1 job taken, 1 released" in process.text
    again = work("--grace", "0s")
    for _ in ticks():
        if first_attempts(ledger)[id] == 2:
            break
    again.send(signal.SIGTERM)
    assert again.end() == 4
    assert first_attempts(ledger) == {id: 2}


def test_a_stop_while_it_finishes_is_the_first_one(work: Start, put: Put, ledger: Ledger) -> None:
    (id,) = put("hold", 260, 4, more=HOLD)
    process = work("--max-memory", "250MiB")
    process.wait_for("it takes no more jobs")
    process.send(signal.SIGTERM)
    process.wait_for("SIGTERM: finishing 1 job within 30s")
    # The operator's stop: clean, so that nothing starts it again.
    assert process.end() == 0, process.text
    assert ledger.lines("ended") == [(id, 1)]


def test_the_parent_replaces_it_and_stays_clean(work: Start, put: Put, ledger: Ledger) -> None:
    ids = put("hold", 70, 0.4, number=12, more=HOLD)
    flags = ("--processes", "2", "--concurrency", "1", "--max-memory", "250MiB")
    process = work(*flags)
    ledger.wait_for("ended", len(ids))
    process.wait_for("ended with exit code 6: it held more than --max-memory; a new one starts")
    process.send(signal.SIGTERM)
    assert process.end() == 0, process.text
    assert first_attempts(ledger) == dict.fromkeys(ids, 1)
    assert "failure" not in process.text


def test_a_burst_goes_on_in_the_new_process(work: Start, put: Put, ledger: Ledger) -> None:
    ids = put("hold", 130, 1.2, number=5, more=HOLD)
    process = work(
        "--processes",
        "2",
        "--concurrency",
        "1",
        "--burst",
        "--burst-wait",
        "0s",
        "--max-memory",
        "250MiB",
    )
    assert process.end() == 0, process.text
    assert sorted(ledger.lines("ended")) == sorted((id, 1) for id in ids)
    assert len(matches(process, READY)) > 2


def test_one_that_could_never_run_a_job_is_refused(work: Start) -> None:
    process = work("--max-memory", "5MB")
    assert process.end() == 2
    assert re.search(r"max_memory=5 MiB is too low: the process holds \d+ MiB", process.text)
