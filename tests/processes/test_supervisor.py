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
    """A store that lets nobody in until the test says so."""

    def __init__(self) -> None:
        self.may_open = anyio.Event()

    async def open(self) -> None:
        await self.may_open.wait()

    async def reclaim(self, *args: Any, dead: str) -> Reclaimed:
        return Reclaimed(1, 1, None, 0)

    async def close(self) -> None:
        pass


async def test_the_whole_ends_when_the_jobs_of_dead_processes_are_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    starts = Starts(lambda number: False)
    store = SlowStore()
    whole = supervise_on(store, 8, starts, monkeypatch)
    codes: list[int] = []

    async def run() -> None:
        codes.append(await whole.run())

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            first = await starts.ready(1)
            first.kill()
            second = await starts.ready(2)
            whole.stop(15)
            await second.ended
            # Nothing of the second one is left to be done.
            for _ in range(20):
                await anyio.sleep(0)
            assert codes == []
            store.may_open.set()
    assert f"(pid {first.pid}): jobs given back: 1" in caplog.text
    assert codes == [0]


async def test_a_parent_that_gives_up_gives_the_jobs_back_first(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    starts = Starts(lambda number: False)
    store = SlowStore()
    store.may_open.set()
    whole = supervise_on(store, 2, starts, monkeypatch)
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(whole.run)
            for number in (1, 2):
                (await starts.ready(number)).kill()
    assert "giving up" in caplog.text
    for child in starts.children:
        assert f"(pid {child.pid}): jobs given back: 1" in caplog.text


def supervise_on(
    store: SlowStore, limit: int, starts: Starts, monkeypatch: pytest.MonkeyPatch
) -> Supervisor:
    """A parent whose processes say that they have a lease in this store."""
    monkeypatch.setattr(module, "Child", starts)
    monkeypatch.setattr("asyncjobs.host.supervisor.recovery.make_backend", lambda *_: store)
    spec = LeaseSpec("0" * 28, "w", ("default",), 15_000)
    message = lease_message(spec, StoreAccess("redis://localhost", "asyncjobs"))
    return supervise(limit, {"lease": message})
