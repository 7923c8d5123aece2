"""What is logged of a signal is about no job, whatever code the signal has interrupted."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.cli.conftest import Put, Start
from tests.cli.process import Ledger

KILL = """

@app.job
async def signal_oneself(times: int, *, ctx: JobContext = INJECTED) -> None:
    import signal
    write("began", ctx)
    logging.getLogger("own").warning("a line of the job")
    for _ in range(times):
        signal.raise_signal(signal.SIGTERM)
        await asyncio.sleep(0)
    await asyncio.sleep(0.2)
"""


@pytest.fixture(autouse=True)
def _signalling(folder: Path) -> None:
    with (folder / "tasks.py").open("a") as tasks:
        tasks.write(KILL)


@pytest.mark.parametrize(
    ("times", "code", "event"),
    [
        (1, 0, "SIGTERM: finishing 1 job within 30s; again to release at once"),
        (2, 4, "SIGTERM: releasing 1 job now; again to exit at once"),
    ],
)
def test_the_line_of_a_signal_names_no_job(
    work: Start, put: Put, times: int, code: int, event: str
) -> None:
    (id,) = put("signal_oneself", times, more=KILL)
    process = work()
    assert process.end() == code, process.text
    assert process.record("a line of the job")["job_id"] == id
    line = process.record(event)
    assert not line.keys() & {"job_id", "job", "queue", "attempt", "trace_id"}


def test_a_signal_that_comes_after_the_worker_has_ended_changes_no_code(
    work: Start, folder: Path, put: Put, ledger: Ledger
) -> None:
    with (folder / "tasks.py").open("a") as tasks:
        tasks.write(
            "\nimport atexit, signal\n"
            "def late():\n"
            "    os.kill(os.getpid(), signal.SIGTERM)\n"
            "    os.write(2, b'the end was reached\\n')\n"
            "atexit.register(late)\n"
        )
    put("nap", 0)
    process = work("--max-jobs", "1")
    assert process.end() == 0, process.text
    assert "the end was reached" in process.text
    assert signal.SIGTERM.name not in process.text
