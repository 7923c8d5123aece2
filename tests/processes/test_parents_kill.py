"""The parent kills a process that does not end: a planned death, for which nobody is charged."""

from __future__ import annotations

import os
import signal

from tests.kit.environment import ROOT
from tests.processes.program import Program

BLOCKS_AT_FIRST = """
@app.job(retry=False)
async def block(*, ctx: JobContext = INJECTED) -> None:
    is_first = not os.path.exists("began")
    open("began", "w").close()
    write(f"crashes:{ctx.crashes}", ctx)
    if is_first:
        write("blocked", ctx)
        time.sleep(600)  # the point of this job: the process cannot end by itself
    write("ended", ctx)
"""

HURRIED = """
from asyncjobs.cli.worker import serve
from asyncjobs.host.supervisor import supervisor
serve.STOP_S = 600  # or the process would end before it is killed
supervisor.STUCK_S = 6  # enough for the process to tell the store that it was told to end
"""


def test_its_jobs_are_charged_with_no_crash(program: Program) -> None:
    program.write(BLOCKS_AT_FIRST)
    (program.folder / "sitecustomize.py").write_text(HURRIED)
    program.env["PYTHONPATH"] = f"{program.folder}{os.pathsep}{ROOT}"
    (other,) = program.put("nap", 600)
    program.ledger.path.touch()
    flags = ("--grace", "50ms", "--lease", "2s", "--hard-limit", "off")
    parent = program.work("--processes", "2", *flags)
    program.ledger.wait_for("began", 1)
    (id,) = program.put("block")
    program.ledger.wait_for("blocked", 1)
    parent.send(signal.SIGTERM)
    assert parent.end() == 1
    assert "does not end; it is killed" in parent.text
    again = program.work(*flags)
    program.ledger.wait_for("ended", 1)
    program.ledger.wait_for("began", 2)
    again.send(signal.SIGTERM)
    again.end()
    assert [each for each, _ in program.ledger.lines("ended")] == [id]
    crashes = program.ledger.lines("crashes:0")
    assert sorted(each for each, _ in crashes) == sorted([id, id, other, other])
