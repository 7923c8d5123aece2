"""The job functions of the tests. A worker finds them at module level only."""

from __future__ import annotations

import asyncio
import os
import threading
from contextvars import ContextVar
from datetime import timedelta
from typing import Any

from asyncjobs import INJECTED, Discard, JobContext, Retry, Snooze, current_job
from tests.worker.kit import Stage

stage = Stage()
"""A new one for each test."""
thread_gates: dict[str, threading.Event] = {}

variable: ContextVar[str] = ContextVar("variable", default="unset")


class Broken(Exception):
    """What the jobs of these tests fail with."""


async def echo(value: Any = None) -> Any:
    return value


async def note(what: Any) -> None:
    stage.note(what)


async def gated(name: str, *, ctx: JobContext = INJECTED) -> str:
    """Waits at its gate; writes down how it was started, stopped and left."""
    stage.note(("started", name))
    stage.note(("attempt", name, ctx.attempt))
    try:
        await stage.gate(name).wait()
    except asyncio.CancelledError:
        stage.note(("stopped", name))
        raise
    finally:
        stage.note(("left", name))
    return name


async def tidies(name: str) -> None:
    """Told to stop, it still waits for something in its `finally` block."""
    stage.note(("started", name))
    try:
        await stage.gate(name).wait()
    finally:
        await asyncio.sleep(0.01)
        stage.note(("tidied", name))


async def stubborn(name: str) -> str:
    """Swallows every cancellation until its gate opens."""
    stage.note(("started", name))
    gate = stage.gate(name)
    while not gate.is_set():
        try:
            await gate.wait()
        except asyncio.CancelledError:
            stage.note(("swallowed", name))
    return name


async def flaky(fails: int, *, ctx: JobContext = INJECTED) -> int:
    """Fails so many times, then returns the number of its attempt."""
    stage.note(ctx.attempt)
    if ctx.attempt <= fails:
        raise Broken(f"attempt {ctx.attempt}")
    return ctx.attempt


async def flaky_and_unwanted(*, ctx: JobContext = INJECTED) -> None:
    """Fails at once after somebody has asked for its end."""
    assert stage.again is not None
    await stage.again.handle(ctx.id).cancel()
    raise Broken


async def slow_flaky(seconds: float, *, ctx: JobContext = INJECTED) -> int:
    """Runs into its time-out on the first attempt."""
    stage.note(("attempt", ctx.attempt))
    try:
        if ctx.attempt == 1:
            await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        stage.note("stopped")
        raise
    finally:
        stage.note("left")
    return ctx.attempt


async def asks_retry(times: int, *, ctx: JobContext = INJECTED) -> int:
    stage.note(ctx.attempt)
    if ctx.attempt <= times:
        raise Retry("once more", delay=0)
    return ctx.attempt


async def snoozes(times: int, *, ctx: JobContext = INJECTED) -> int:
    stage.note(ctx.attempt)
    if len(stage.notes) <= times:
        raise Snooze(timedelta(milliseconds=1))
    return ctx.attempt


async def discards() -> None:
    raise Discard("nothing to do")


async def fails(text: str = "broken") -> None:
    raise Broken(text)


async def fails_in_group(kinds: list[str]) -> None:
    known: dict[str, Exception] = {
        "broken": Broken("leaf"),
        "discard": Discard("leaf"),
        "value": ValueError("leaf"),
    }
    raise ExceptionGroup("several", [ExceptionGroup("inner", [known[k] for k in kinds])])


async def exits(kind: str, *, ctx: JobContext = INJECTED) -> int:
    """Raises what would end a program, on its first attempt."""
    if ctx.attempt == 1:
        raise {"exit": SystemExit(3), "interrupt": KeyboardInterrupt()}[kind]
    return ctx.attempt


async def cancels_itself(*, ctx: JobContext = INJECTED) -> int:
    if ctx.attempt == 1:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)
    return ctx.attempt


async def sets_variable(value: str) -> str:
    before = variable.get()
    variable.set(value)
    await asyncio.sleep(0)
    return before


async def describes(*, ctx: JobContext = INJECTED) -> dict[str, Any]:
    """All that a job can know of itself."""
    assert current_job() is ctx
    return {
        "id": ctx.id,
        "queue": ctx.queue,
        "name": ctx.name,
        "attempt": ctx.attempt,
        "max_attempts": ctx.max_attempts,
        "crashes": ctx.crashes,
        "enqueued_at": ctx.enqueued_at.isoformat(),
        "scheduled_at": ctx.scheduled_at.isoformat() if ctx.scheduled_at else None,
        "deadline": ctx.deadline.isoformat() if ctx.deadline else None,
    }


async def expiry(*, ctx: JobContext = INJECTED) -> str | None:
    return ctx.expires_at and ctx.expires_at.isoformat()


async def reports(name: str, *, ctx: JobContext = INJECTED) -> None:
    ctx.progress(1, 4, "begun")
    ctx.progress(2, 4, "half")
    stage.note(("reported", name))
    await stage.gate(name).wait()


async def changes_arguments(values: list[int], *, ctx: JobContext = INJECTED) -> list[int]:
    seen = list(values)
    values.append(99)
    if ctx.attempt == 1:
        raise Broken("after a change")
    return seen


async def enqueues(depth: int) -> int:
    """Enqueues the next one of its kind, until `depth` is used up."""
    stage.note(depth)
    if depth > 0:
        assert stage.again is not None
        await stage.again.enqueue(depth - 1)
    return depth


def in_thread(value: Any = None) -> dict[str, Any]:
    """A sync job: where it ran, and which job it is."""
    return {"value": value, "thread": threading.current_thread().name, "id": current_job().id}


def thread_fails(fails: int, *, ctx: JobContext = INJECTED) -> int:
    if ctx.attempt <= fails:
        raise Broken("in a thread")
    return ctx.attempt


def thread_exits(kind: str, *, ctx: JobContext = INJECTED) -> int:
    if ctx.attempt == 1:
        raise {
            "exit": SystemExit(3),
            "interrupt": KeyboardInterrupt(),
            "stop": StopIteration("odd"),
        }[kind]
    return ctx.attempt


def thread_gated(name: str, *, ctx: JobContext = INJECTED) -> int:
    """Waits in its thread, which nobody can stop."""
    stage.note(("started", name))
    assert thread_gates.setdefault(name, threading.Event()).wait(20)
    stage.note(("left", name))
    return ctx.attempt


def thread_reports(name: str, *, ctx: JobContext = INJECTED) -> None:
    ctx.progress(3, note="from a thread")
    stage.note(("reported", name))
    assert thread_gates.setdefault(name, threading.Event()).wait(20)


# -- the ledger ---------------------------------------------------------------------------

ledger: int = -1
"""File that is appended to, one line an execution, outside of the store."""


def write_ledger(number: int, attempt: int) -> None:
    os.write(ledger, f"{number} {attempt}\n".encode())


async def booked(number: int, fails: int, *, ctx: JobContext = INJECTED) -> int:
    write_ledger(number, ctx.attempt)
    if ctx.attempt <= fails:
        raise Broken("planted")
    return number


def booked_in_thread(number: int, fails: int, *, ctx: JobContext = INJECTED) -> int:
    write_ledger(number, ctx.attempt)
    if ctx.attempt <= fails:
        raise Broken("planted")
    return number


async def meets(parties: int) -> None:
    """Returns once so many of its kind run at the same time, a second later."""
    stage.note("in")
    if len(stage.notes) >= parties:
        stage.open("all")
    await stage.gate("all").wait()
    await asyncio.sleep(1)
