"""What is asyncjobs' own: threads that no job can fill, tasks that no job can cancel."""

from __future__ import annotations

import ast
import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import asyncjobs
from asyncjobs.guard.own import hide, in_own_thread
from asyncjobs.store.redis import resolving
from asyncjobs.store.redis.resolving import addresses_of

pytestmark = pytest.mark.anyio

PACKAGE = Path(asyncjobs.__file__).parent
JOBS_EXECUTOR = {"to_thread", "run_in_executor", "getaddrinfo", "getnameinfo", "run_sync"}
"""What waits in an executor that jobs use, too."""
TASKS = {"create_task", "ensure_future", "Task"}

# The module, and why it may.
MAY_WAIT = {
    "store/redis/resolving.py": "socket.getaddrinfo itself, in a thread of its own",
    "jobs/function.py": "runs the user's function, called directly",
    "jobs/steps.py": "runs the user's function, as a step of a job",
}
MAY_SHOW = {
    "worker/engine/attempt.py": "the attempts, which are the users'",
    "cli/worker/supervise.py": "a process without jobs",
    "host/supervisor/fleet.py": "a process without jobs",
    "host/health/server.py": "a loop without jobs",
    "worker/lease/heartbeat.py": "a loop without jobs, in its thread",
}


def calls(names: set[str]) -> Iterator[tuple[str, ast.Call, bool]]:
    """(module, the call, whether it is hidden) of each call of these names."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if PACKAGE / "testing" in path.parents:
            continue  # no job runs beside it
        tree = ast.parse(path.read_text())
        hidden = {
            id(argument)
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "hide"
            for argument in node.args
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                if name in names:
                    yield str(path.relative_to(PACKAGE)), node, id(node) in hidden


def test_nothing_of_ours_waits_in_an_executor_that_jobs_use() -> None:
    found = [(where, call.lineno) for where, call, _ in calls(JOBS_EXECUTOR)]
    assert [place for place in found if place[0] not in MAY_WAIT] == []


def test_each_task_of_ours_beside_jobs_is_hidden_from_them() -> None:
    found = [(where, call.lineno) for where, call, hidden in calls(TASKS) if not hidden]
    assert [place for place in found if place[0] not in MAY_SHOW] == []


async def test_a_hidden_task_is_not_among_all_and_ends_as_any() -> None:
    task = hide(asyncio.create_task(asyncio.sleep(0, "done")))
    assert task not in asyncio.all_tasks()
    assert await task == "done"


@contextmanager
def full_executor() -> Iterator[None]:
    """No thread of the loop's default executor is free."""
    opened = threading.Event()
    loop = asyncio.get_running_loop()
    for _ in range(64):
        loop.run_in_executor(None, opened.wait)
    try:
        yield
    finally:
        opened.set()


async def test_a_thread_of_its_own_waits_for_no_job() -> None:
    with full_executor():
        assert await asyncio.wait_for(in_own_thread(len, "abc"), 30) == 3
        with pytest.raises(ZeroDivisionError):
            await in_own_thread(lambda: 1 // 0)


async def test_a_caller_that_leaves_is_not_waited_for() -> None:
    opened = threading.Event()
    call = asyncio.create_task(in_own_thread(opened.wait))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    opened.set()
    assert await in_own_thread(opened.is_set)


async def test_names_are_looked_up_while_jobs_fill_the_executor() -> None:
    with full_executor():
        found = await asyncio.wait_for(addresses_of("localhost", 1), 30)
    assert found
    assert set(found) <= {"127.0.0.1", "::1"}


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_an_address_is_not_looked_up(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", None)
    assert await addresses_of(host, 1) == [host]


async def test_a_name_is_looked_up_once_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a resolver that does not answer collects a thread for each try to reconnect."""
    opened = threading.Event()
    asked: list[str] = []

    def slowly(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        asked.append(host)
        opened.wait()
        return [(2, 1, 6, "", ("192.0.2.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", slowly)
    first = asyncio.create_task(addresses_of("store", 1))
    others = [asyncio.create_task(addresses_of("store", 1)) for _ in range(5)]
    await asyncio.sleep(0)
    first.cancel()
    opened.set()
    assert await asyncio.gather(*others) == [["192.0.2.1"]] * 5
    assert asked == ["store"]


async def test_what_cannot_be_looked_up_is_an_os_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """For those the store is unavailable, and tried again."""
    with pytest.raises(OSError, match="no host name"):
        await addresses_of("a" * 64 + ".example", 1)

    def no_thread(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(resolving.threading.Thread, "start", no_thread)
    with pytest.raises(OSError, match="cannot look up store"):
        await addresses_of("store", 1)
