"""Job functions that run in processes of their own. Each is imported there by its module."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from asyncjobs import INJECTED, Discard, JobContext, Retry, Snooze, current_job

logger = logging.getLogger("tests.process_jobs")


class Broken(Exception):
    """An error with an __init__ of its own."""

    def __init__(self, number: int, *, status: int) -> None:
        super().__init__(f"broken by {number}")
        self.status = status


def told(value: Any = None, *, ctx: JobContext = INJECTED) -> dict[str, Any]:
    return {
        "value": value,
        "id": ctx.id,
        "attempt": ctx.attempt,
        "current": current_job().id,
        "pid": os.getpid(),
        "parent": os.getppid(),
        "name": ctx.name,
    }


async def on_a_loop(value: Any) -> Any:
    await asyncio.sleep(0)
    return [value, os.getpid()]


def dies(signal_name: str) -> None:
    os.kill(os.getpid(), getattr(signal, signal_name))


def segfaults() -> None:
    ctypes.string_at(0)


def segfaults_if(number: int, every: int) -> int:
    if number % every == 0:
        ctypes.string_at(0)
    return number


def exits(code: int) -> None:
    os._exit(code)


def dies_at_first(folder: str, *, ctx: JobContext = INJECTED) -> int:
    if ctx.attempt == 1:
        os._exit(3)
    return ctx.attempt


def fails(number: int) -> None:
    raise Broken(number, status=418)


def fails_with(kind: str) -> None:
    errors: dict[str, BaseException] = {
        "exit": SystemExit(3),
        "interrupt": KeyboardInterrupt(),
        "stop": StopIteration(),
        "os": FileNotFoundError(2, "no such thing"),
        "cancelled": asyncio.CancelledError(),
        "group": ExceptionGroup("two", [ValueError("one"), Discard("other")]),
    }
    raise errors[kind]


def signals(kind: str, *, ctx: JobContext = INJECTED) -> int:
    if kind == "discard":
        raise Discard("not wanted")
    if kind == "snooze" and not Path(ctx.id).exists():
        Path(ctx.id).touch()
        raise Snooze(0)
    if kind == "retry" and ctx.attempt == 1:
        raise Retry("again", delay=0)
    return ctx.attempt


def takes(size: int) -> int:
    return len(bytearray(size))


def unkept() -> object:
    return object()


def forgets() -> Any:
    return on_a_loop(1)


def reports(count: int, *, ctx: JobContext = INJECTED) -> None:
    for number in range(count):
        ctx.progress(number + 1, count, "parts")


def reports_and_waits(folder: str, *, ctx: JobContext = INJECTED) -> None:
    ctx.progress(3, 7, "so far")
    _wait_for(Path(folder, "gate"))


def logs(secret: str) -> None:
    logger.warning("told %s of it", secret, extra={"order": 7})


def says_much(size: int) -> int:
    sys.stdout.write("x" * size)
    for number in range(200):
        logger.debug("line %d %s", number, "y" * 1000)
    return size


def _wait_for(gate: Path) -> None:
    while not gate.exists():
        time.sleep(0.005)


def stays(folder: str) -> str:
    """Writes its process id, waits for the gate, and tells how it was left."""
    place = Path(folder)
    _write(place / "pid", os.getpid())
    try:
        _wait_for(place / "gate")
    finally:
        (place / "left").touch()
    return "done"


def asks(folder: str, *, ctx: JobContext = INJECTED) -> str:
    """Works until it should stop."""
    _write(Path(folder, "pid"), os.getpid())
    while ctx.should_stop is None:
        time.sleep(0.005)
    return ctx.should_stop


async def wants_notes(*, ctx: JobContext = INJECTED) -> None:
    await ctx.seat.write({"a": b"1"})


def is_interrupted(folder: str, *, ctx: JobContext = INJECTED) -> int:
    if not Path(folder, "pid").exists():
        _write(Path(folder, "pid"), os.getpid())
        ctx.interrupt()
    return ctx.attempt


async def stays_on_a_loop(folder: str) -> None:
    _write(Path(folder, "pid"), os.getpid())
    try:
        await asyncio.sleep(60)
    finally:
        Path(folder, "left").touch()


def ignores(folder: str) -> None:
    """Swallows what stops it."""
    _write(Path(folder, "pid"), os.getpid())
    while True:
        try:
            time.sleep(60)
        except BaseException:
            Path(folder, "left").touch()


def has_child(folder: str) -> None:
    """Starts a process that would outlive it, and waits."""
    started = subprocess.Popen(["sleep", "60"])
    _write(Path(folder, "grandchild"), started.pid)
    _write(Path(folder, "pid"), os.getpid())
    time.sleep(60)


def leaves_child(folder: str) -> None:
    """Forks a process that holds everything open, and returns."""
    pid = os.fork()
    if pid == 0:
        time.sleep(60)
        os._exit(0)
    _write(Path(folder, "grandchild"), pid)


def _write(path: Path, number: int) -> None:
    path.with_suffix(".new").write_text(str(number))
    path.with_suffix(".new").rename(path)
