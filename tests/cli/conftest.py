"""A folder with a user's program, a real store, and workers started in the folder."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest

from asyncjobs import AsyncJobs
from asyncjobs.testing.servers import Server
from tests.cli.process import TASKS, Ledger, Process


class Start(Protocol):
    def __call__(
        self, *args: str, env: dict[str, str] | None = None, terminal: bool = False
    ) -> Process: ...


Put = Callable[..., list[str]]


@pytest.fixture
def server(servers: Any) -> Iterator[Server]:
    """An empty Valkey, empty again afterwards."""
    server: Server = servers.get("valkey")
    yield server
    server.command("FLUSHALL")


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The user's working directory, with `tasks.py`."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "tasks.py").write_text(TASKS)
    return folder


@pytest.fixture
def run(folder: Path, ledger: Ledger) -> Iterator[Start]:
    """Start `asyncjobs ...` in the folder; it is gone at the end of the test."""
    with ExitStack() as stack:

        def start(*args: str, env: dict[str, str] | None = None, terminal: bool = False) -> Process:
            full = {"LEDGER": str(ledger.path)} | (env or {})
            return stack.enter_context(Process(folder, *args, env=full, terminal=terminal))

        yield start


@pytest.fixture
def work(run: Start, server: Server) -> Start:
    """Start `asyncjobs worker tasks:app ...` on the server."""

    def start(*args: str, env: dict[str, str] | None = None, terminal: bool = False) -> Process:
        full = {"ASYNCJOBS_URL": server.url} | (env or {})
        return run("worker", "tasks:app", *args, env=full, terminal=terminal)

    return start


@pytest.fixture
def put(server: Server, ledger: Ledger) -> Put:
    """Enqueue `number` jobs of a function of `tasks.py`; returns their ids.

    `more`: what a test has added to the file.
    """

    def enqueue(
        name: str, *args: Any, number: int = 1, url: str | None = None, more: str = ""
    ) -> list[str]:
        async def send() -> list[str]:
            namespace: dict[str, Any] = {"__name__": "tasks"}
            exec(TASKS + more, namespace)
            app: AsyncJobs = namespace["app"]
            async with app:
                calls = [namespace[name].bind(*args) for _ in range(number)]
                return [handle.id for handle in await app.enqueue_many(calls)]

        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ASYNCJOBS_URL", url or server.url)
            patch.setenv("LEDGER", str(ledger.path))
            assert os.environ["ASYNCJOBS_URL"]
            return asyncio.run(send())

    return enqueue
