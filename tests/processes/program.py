"""Programs whose jobs do to their worker what no job should, on both event loops."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any, Literal

import pytest

from asyncjobs import AsyncJobs
from asyncjobs.testing.servers import Server
from tests.cli.conftest import Start
from tests.cli.process import Ledger, Process

__all__ = ["LoopName", "Program", "program"]

LoopName = Literal["asyncio", "uvloop"]

_HEAD = """
import asyncio, os, signal, subprocess, sys, threading, time
from asyncjobs import INJECTED, AsyncJobs, JobContext, RetryPolicy, constant

app = AsyncJobs(connect_timeout=2, max_crashes=3)
soon = RetryPolicy(max_attempts=3, backoff=constant(0))


def write(word, ctx):
    line = f"{word} {ctx.id} {ctx.attempt}\\n".encode()
    ledger = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(ledger, line)
    os.close(ledger)


@app.job(retry=False)
async def nap(seconds: float, *, ctx: JobContext = INJECTED) -> None:
    write(f"crashes:{ctx.crashes}", ctx)
    write("began", ctx)
    await asyncio.sleep(seconds)
    write("ended", ctx)
"""


class Program:
    """A folder with a program of the test, and workers that run it."""

    def __init__(self, folder: Path, run: Start, server: Server, ledger: Ledger) -> None:
        self.folder = folder
        self.server = server
        self.ledger = ledger
        self.url = server.url
        self.env: dict[str, str] = {}
        self._run = run
        self._text = _HEAD

    def write(self, text: str, loop: LoopName = "uvloop") -> None:
        """Its job functions, beside `nap`; and the event loop that its workers run on."""
        self._text = _HEAD + text
        (self.folder / "tasks.py").write_text(self._text)
        if loop == "asyncio":
            (self.folder / "uvloop.py").write_text("raise ImportError('not here')\n")

    def work(self, *args: str) -> Process:
        """Start `asyncjobs worker`."""
        env = {"ASYNCJOBS_URL": self.url, **self.env}
        return self._run("worker", "tasks:app", *args, env=env)

    def put(self, name: str, *args: Any, number: int = 1) -> list[str]:
        """Enqueue calls of a function; returns the ids."""

        async def send() -> list[str]:
            namespace: dict[str, Any] = {"__name__": "tasks"}
            exec(self._text, namespace)
            app: AsyncJobs = namespace["app"]
            async with app:
                calls = [namespace[name].bind(*args) for _ in range(number)]
                return [handle.id for handle in await app.enqueue_many(calls)]

        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ASYNCJOBS_URL", self.url)
            patch.setenv("LEDGER", str(self.ledger.path))
            assert os.environ["ASYNCJOBS_URL"]
            return asyncio.run(send())


@pytest.fixture
def program(folder: Path, run: Start, server: Server, ledger: Ledger) -> Program:
    return Program(folder, run, server, ledger)
