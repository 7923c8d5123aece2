"""Jobs that fill the loop's default executor: the worker reconnects, and it ends."""

from __future__ import annotations

import os
import signal

import pytest

from asyncjobs.testing.servers import start_server
from tests.processes.kit import lines
from tests.processes.program import LoopName, Program

FILL = """
@app.job(retry=False)
async def fill(seconds: float, *, ctx: JobContext = INJECTED) -> None:
    naps = [asyncio.to_thread(time.sleep, seconds) for _ in range(10)]
    asyncio.get_running_loop().call_soon(write, "began", ctx)
    await asyncio.gather(*naps)
"""
LOOPS = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
# As many as asyncio gives a machine, and some that wait.
FULL = min(32, (os.cpu_count() or 1) + 4) // 10 + 2


@LOOPS
def test_a_worker_whose_executor_is_full_can_be_stopped(program: Program, loop: LoopName) -> None:
    program.write(FILL, loop)
    program.put("fill", 600, number=FULL)
    health = str(program.folder / "health")
    process = program.work("--grace", "50ms", "--health-file", health, "--health-port", "0")
    program.ledger.wait_for("began", FULL)
    process.send(signal.SIGTERM)
    assert process.end() == 4
    said = f"worker ended: {FULL} jobs taken, {FULL} released; a release spends no attempt"
    assert said in [line["event"] for line in lines(process)]


@LOOPS
def test_a_worker_whose_executor_is_full_reconnects_by_name(
    program: Program, loop: LoopName
) -> None:
    program.write(FILL, loop)
    with start_server("valkey", config={"appendonly": "yes"}) as own:
        program.url = own.url.replace("127.0.0.1", "localhost")
        assert "localhost" in program.url
        program.put("fill", 600, number=FULL)
        process = program.work("--grace", "50ms", "--lease", "2s", "--log-level", "debug")
        program.ledger.wait_for("began", FULL)
        own.kill()
        process.wait_for("heartbeat failed")
        own.restart()
        program.put("nap", 0)
        program.ledger.wait_for("ended", 1)
        process.send(signal.SIGTERM)
        assert process.end() == 4
