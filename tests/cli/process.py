"""`asyncjobs worker` as a process of its own, and what it wrote so far."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import asyncjobs

ROOT = Path(asyncjobs.__file__).resolve().parent.parent
LIMIT_S = 30.0

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


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """This process's, without what would change a worker's flags or colors."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ASYNCJOBS_", "NO_COLOR", "FORCE_COLOR"))
    }
    return kept | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", "TERM": "xterm", **extra}


class Process:
    """A running `python -m asyncjobs ...`; killed by pid when the test leaves it running."""

    def __init__(
        self, folder: Path, *args: str, env: Mapping[str, str], terminal: bool = False
    ) -> None:
        self._text = ""
        self._grown = threading.Condition()
        if terminal:
            source, sink = pty.openpty()
        else:
            source, sink = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "asyncjobs", *args],
            cwd=folder,
            env=environment(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=sink,
        )
        os.close(sink)
        self._reader = threading.Thread(target=self._read, args=(source,), daemon=True)
        self._reader.start()

    def _read(self, source: int) -> None:
        # A terminal whose other end is gone answers with an error, a pipe with nothing.
        with contextlib.suppress(OSError):
            while piece := os.read(source, 65536):
                with self._grown:
                    self._text += piece.decode()
                    self._grown.notify_all()
        os.close(source)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        # A child that outlives the process holds its streams open: that is a failure.
        self.process.communicate(timeout=LIMIT_S)
        self._reader.join(LIMIT_S)

    def wait_for(self, text: str) -> str:
        """All of stderr so far, when `text` has appeared there."""
        with self._grown:
            assert self._grown.wait_for(lambda: text in self._text, LIMIT_S), self._text
            return self._text

    def wait_started(self) -> str:
        """When the worker has said that it has started, in either form."""
        with self._grown:
            banner = ("worker started", "  process ")
            found = self._grown.wait_for(lambda: any(b in self._text for b in banner), LIMIT_S)
            assert found, self._text
            return self._text

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait_briefly(self) -> None:
        """Until the process ends or a moment has passed."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(0.01)

    def end(self) -> int:
        """The exit code."""
        code = self.process.wait(LIMIT_S)
        self._reader.join(LIMIT_S)
        return code

    @property
    def text(self) -> str:
        return self._text

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


def ticks() -> Iterator[None]:
    """Until the limit is over, a look every 10 ms."""
    pause = threading.Event()
    for _ in range(int(LIMIT_S * 100)):
        yield
        pause.wait(0.01)
