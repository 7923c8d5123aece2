"""A machine that cannot start a process for a while: the supervisor outlasts it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from asyncjobs.host.exits import ExitCode
from asyncjobs.host.supervisor import fleet as module
from asyncjobs.host.supervisor.child import Child
from asyncjobs.host.supervisor.patience import Patience
from asyncjobs.host.supervisor.supervisor import Supervisor

pytestmark = pytest.mark.anyio

# Ready at once, then alive until its parent says otherwise.
PROGRAM = """
import os, signal
_, ready, life = map(int, os.environ["ASYNCJOBS_SUPERVISED"].split(":"))
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
os.write(ready, b"{}" + bytes([10]))
os.read(life, 1)
"""


class Starts:
    """Counts starts and fails the ones that it is told to."""

    def __init__(self, fails: Callable[[int], bool]) -> None:
        self.children: list[Child] = []
        self.tries = 0
        self._fails = fails

    def __call__(self, *args: Any, **options: Any) -> Child:
        self.tries += 1
        if self._fails(self.tries):
            raise BlockingIOError(11, "planted: no more processes")
        self.children.append(Child(*args, **options))
        return self.children[-1]

    async def ready(self, count: int) -> Child:
        """The child with this number, from 1, once it is ready."""
        with anyio.fail_after(20):
            while len(self.children) < count:
                await anyio.sleep(0.01)
            assert await self.children[-1].ready is not None
        return self.children[-1]


def supervise(limit: int) -> Supervisor:
    patience = Patience(base_s=0.01, cap_s=0.02, limit=limit)
    command = [sys.executable, "-c", PROGRAM]
    return Supervisor(command, 1, grace_s=1, patience=patience, on_begun=lambda _: None)


async def test_a_start_that_the_machine_refuses_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    starts = Starts(lambda number: number in (2, 3))
    monkeypatch.setattr(module, "Child", starts)
    whole = supervise(limit=8)
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(whole.run)
            (await starts.ready(1)).kill()
            await starts.ready(2)
            whole.stop(15)
    assert starts.tries == 4
    assert "planted: no more processes" in caplog.text


async def test_one_that_is_always_refused_ends_the_whole(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    starts = Starts(lambda number: number > 1)
    monkeypatch.setattr(module, "Child", starts)
    whole = supervise(limit=3)
    codes: list[int] = []

    async def run() -> None:
        codes.append(await whole.run())

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            (await starts.ready(1)).kill()
    assert codes == [ExitCode.FAILED]
    assert "giving up" in caplog.text
