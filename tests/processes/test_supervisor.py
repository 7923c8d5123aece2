"""A machine that cannot start a process for a while: the supervisor outlasts it."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from asyncjobs.host.exits import ExitCode
from asyncjobs.host.supervisor import fleet as module
from asyncjobs.host.supervisor.child import Child
from asyncjobs.host.supervisor.patience import Patience
from asyncjobs.host.supervisor.recovery import StoreAccess, lease_message
from asyncjobs.host.supervisor.supervisor import Supervisor
from asyncjobs.store.answers import Reclaimed
from asyncjobs.store.lease import LeaseSpec

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


def supervise(limit: int, said: dict[str, Any] | None = None) -> Supervisor:
    """`said`: what a process says when it is ready."""
    patience = Patience(base_s=0.01, cap_s=0.02, limit=limit)
    program = PROGRAM.replace('b"{}"', repr(json.dumps(said or {}).encode()))
    command = [sys.executable, "-c", program]
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


class SlowStore:
    """A store that the first one who opens it has to wait for."""

    def __init__(self) -> None:
        self.may_open = anyio.Event()
        self.opened = 0
        self.ended = 0

    async def open(self) -> None:
        self.opened += 1
        if self.opened == 1:
            await self.may_open.wait()

    async def reclaim(self, *args: Any, dead: str) -> Reclaimed:
        return Reclaimed(1, 1, None, 0)

    async def close(self) -> None:
        self.ended += 1


async def test_the_whole_ends_when_the_jobs_of_dead_processes_are_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    starts = Starts(lambda number: False)
    store = SlowStore()
    monkeypatch.setattr(module, "Child", starts)
    monkeypatch.setattr("asyncjobs.host.supervisor.recovery.make_backend", lambda *_: store)
    spec = LeaseSpec("0" * 28, "w", ("default",), 15_000)
    message = lease_message(spec, StoreAccess("redis://localhost", "asyncjobs"))
    whole = supervise(8, {"lease": message})
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(whole.run)
            first = await starts.ready(1)
            first.kill()
            await starts.ready(2)
            whole.stop(15)
            # The second one has ended, and nothing of it is left to be done.
            while store.ended < 1:
                await anyio.sleep(0.01)
            assert store.opened == 2
            assert "jobs given back" in caplog.text
            assert f"(pid {first.pid}): jobs given back" not in caplog.text
            store.may_open.set()
    assert f"(pid {first.pid}): jobs given back: 1" in caplog.text
