"""A store that is away when processes start: their parent goes on trying."""

from __future__ import annotations

import os
import signal
import socket
import sys
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from asyncjobs.host.exits import ExitCode
from asyncjobs.host.supervisor import supervisor as module
from asyncjobs.host.supervisor.patience import Patience
from asyncjobs.host.supervisor.supervisor import Supervisor
from asyncjobs.testing.servers import start_server
from tests.cli.conftest import Start
from tests.cli.process import Process
from tests.kit.environment import ROOT
from tests.kit.waiting import ticks
from tests.processes.kit import lines, newest, wait_ready

HASTY = """
from asyncjobs.host.supervisor import supervisor
from asyncjobs.host.supervisor.patience import Patience
supervisor.PATIENCE = Patience(base_s=0.05, cap_s=0.1, limit=2)
"""
TRIED_AGAIN = "could not reach its store; tried again in"

# Finds its store at each fourth start.
PROGRAM = f"""
import os, signal, sys
from pathlib import Path
_, ready, life = map(int, os.environ["ASYNCJOBS_SUPERVISED"].split(":"))
tries = Path("tries")
number = int(tries.read_text()) + 1 if tries.exists() else 1
tries.write_text(str(number))
if number % 4:
    sys.exit({ExitCode.UNREACHABLE:d})
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
os.write(ready, b"{{}}" + bytes([10]))
os.read(life, 1)
"""


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _hasty(folder: Path, port: int) -> dict[str, str]:
    (folder / "sitecustomize.py").write_text(HASTY)
    return {
        "ASYNCJOBS_URL": f"redis://127.0.0.1:{port}",
        "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}",
    }


def _tries(process: Process) -> int:
    return sum(TRIED_AGAIN in line["event"] for line in lines(process))


def test_the_parent_waits_for_its_store(run: Start, folder: Path) -> None:
    with start_server("valkey") as server:
        server.kill()
        process = run("worker", "tasks:app", "--processes", "2", env=_hasty(folder, server.port))
        for _ in ticks():
            # More often than a crash loop may fail.
            if _tries(process) >= 3:
                break
        (reason, *_) = [line for line in lines(process) if line["level"] == "critical"]
        assert "is not available" in reason["event"]
        server.restart()
        assert set(newest(wait_ready(process, 2))) == {1, 2}
        process.send(signal.SIGTERM)
        assert process.end() == 0


def test_a_parent_that_waits_for_its_store_can_be_stopped(run: Start, folder: Path) -> None:
    process = run("worker", "tasks:app", "--processes", "2", env=_hasty(folder, _free_port()))
    process.wait_for(TRIED_AGAIN)
    process.send(signal.SIGTERM)
    assert process.end() == 0


@pytest.mark.anyio
async def test_starts_without_a_store_are_no_crash_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Not even when the process crashes in between, more often than it may in a row."""
    monkeypatch.chdir(tmp_path)
    caplog.set_level("INFO", module.logger.name)
    patience = Patience(base_s=0.01, cap_s=0.02, limit=3)
    begun: list[object] = []
    command = [sys.executable, "-c", PROGRAM]
    whole = Supervisor(command, 1, grace_s=1, patience=patience, on_begun=begun.append)
    codes: list[int] = []

    async def run() -> None:
        codes.append(await whole.run())

    async def ready(times: int) -> None:
        while caplog.text.count("process 1 is ready") < times:
            await anyio.sleep(0.01)

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            await ready(1)
            whole.children()[1].kill()
            await ready(2)
            whole.stop(signal.SIGTERM)
    assert caplog.text.count(TRIED_AGAIN) == 6
    assert len(begun) == 1
    assert "giving up" not in caplog.text
    assert codes == [ExitCode.CLEAN]
