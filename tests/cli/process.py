"""`asyncjobs worker` as a process of its own, and what it wrote so far."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.kit.environment import environment
from tests.kit.program import Program
from tests.kit.waiting import ticks

__all__ = ["TASKS", "Ledger", "Process"]

TASKS = """
import asyncio, logging, os, sys, threading, time
from asyncjobs import INJECTED, AsyncJobs, JobContext

app = AsyncJobs(connect_timeout=2)


def write(word, ctx):
    line = f"{word} {ctx.id} {ctx.attempt}\\n".encode()
    ledger = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(ledger, line)
    os.close(ledger)


@app.job
async def nap(seconds: float, *, ctx: JobContext = INJECTED) -> None:
    write("began", ctx)
    await asyncio.sleep(seconds)
    write("ended", ctx)


@app.job(queue="mail")
async def send(*, ctx: JobContext = INJECTED) -> None:
    write("sent", ctx)


@app.job
async def say(text: str) -> None: ...


@app.job(retry=False)
async def fail(*, ctx: JobContext = INJECTED) -> None:
    raise ValueError("planted fault")


@app.job
def nap_in_thread(seconds: float, *, ctx: JobContext = INJECTED) -> None:
    write("began", ctx)
    time.sleep(seconds)  # the point of this job: a thread that nobody can stop


@app.job
async def block_loop(seconds: float, *, ctx: JobContext = INJECTED) -> None:
    write("began", ctx)
    time.sleep(seconds)  # the point of this job: a mistake of the user's that blocks the loop


@app.job
async def leave_thread(seconds: float, *, ctx: JobContext = INJECTED) -> None:
    threading.Thread(target=time.sleep, args=(seconds,)).start()
    write("began", ctx)


@app.job
async def tell_crashes(seconds: float, *, ctx: JobContext = INJECTED) -> None:
    write(f"crashes:{ctx.crashes}", ctx)
    await asyncio.sleep(seconds)
    write("ended", ctx)


@app.job
async def block_at_first(seconds: float, *, ctx: JobContext = INJECTED) -> None:
    write(f"crashes:{ctx.crashes}", ctx)
    if not ctx.crashes:
        time.sleep(seconds)  # the point of this job, as above
    write("ended", ctx)


@app.job
async def block_in_child(seconds: float, *, ctx: JobContext = INJECTED) -> None:
    async def child() -> None:
        write("began", ctx)
        time.sleep(seconds)  # the point of this job, as above

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(child())


@app.job
async def block_traced(seconds: float, *, ctx: JobContext = INJECTED) -> None:
    def step() -> None:
        write("began", ctx)
        time.sleep(seconds)  # as if somebody looked at it in a debugger

    sys.settrace(lambda *about: None if about[1] != "call" else sys.gettrace())
    try:
        step()
    finally:
        sys.settrace(None)


@app.job
async def flood_log(*, ctx: JobContext = INJECTED) -> None:
    write("began", ctx)
    while True:
        logging.getLogger("flood").warning("x" * 1000)
"""


class Process(Program):
    """A running `python -m asyncjobs ...`; its `text` is its stderr."""

    def __init__(
        self, folder: Path, *args: str, env: Mapping[str, str], terminal: bool = False
    ) -> None:
        super().__init__(
            [sys.executable, "-m", "asyncjobs", *args],
            folder,
            environment(env),
            reads="stderr",
            terminal=terminal,
        )

    def wait_for(self, text: str) -> str:
        """All of stderr so far, when `text` has appeared there."""
        return self.wait_until(lambda written: text in written)

    def wait_started(self) -> str:
        """When the worker has said that it has started, in either form."""
        banner = ("worker started", "  process ")
        return self.wait_until(lambda written: any(form in written for form in banner))

    def wait_briefly(self) -> None:
        """Until the process ends or a moment has passed."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(0.01)

    def records(self) -> list[dict[str, Any]]:
        """Every line of stderr; each must be JSON."""
        return [json.loads(line) for line in self._text.splitlines()]

    def record(self, event: str) -> dict[str, Any]:
        """The only line with this event."""
        (found,) = [record for record in self.records() if record["event"] == event]
        return found


class Ledger:
    """What jobs write outside the store: a line each, `word id attempt`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self, word: str) -> list[tuple[str, int]]:
        """(id, attempt) of the lines with this word."""
        if not self.path.exists():
            return []
        parts = [line.split() for line in self.path.read_text().splitlines()]
        return [(id, int(attempt)) for found, id, attempt in parts if found == word]

    def wait_for(self, word: str, number: int) -> None:
        """When there are so many lines with this word."""
        for _ in ticks():
            if len(self.lines(word)) >= number:
                return
        raise AssertionError(f"{word}: {len(self.lines(word))} lines of {number}")

    def wait_for_any(self, start: str) -> None:
        """When there is a line that starts so."""
        for _ in ticks():
            if self.path.exists() and f"\n{start}" in f"\n{self.path.read_text()}":
                return
        raise AssertionError(f"no line {start}")

    def wait_for_running(self, number: int) -> None:
        """When so many jobs have begun and not ended."""
        for _ in ticks():
            if len(self.lines("began")) - len(self.lines("ended")) >= number:
                return
        raise AssertionError(f"not {number} jobs run at a time")
