"""Jobs that meet everything: each has hurdles that the test sets, and returns what it was given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from asyncjobs import INJECTED, JobContext
from tests.worker import jobs


def hurdle(what: Any) -> BaseException | None:
    """The next error that the test wants of such a job; None if it is to succeed."""
    jobs.stage.note(what)
    errors: dict[Any, list[BaseException]] = getattr(jobs.stage, "hurdles", {})
    if errors.get(what):
        return errors[what].pop(0)
    return None


async def bounded(what: str) -> str:
    if (error := hurdle(what)) is not None:
        raise error
    return what


async def stepping(what: str, *, ctx: JobContext = INJECTED) -> str:
    async def once() -> str:
        jobs.stage.note(("step", what))
        return what

    found = await ctx.step("once", once)
    if (error := hurdle(what)) is not None:
        raise error
    return found


async def batched(items: list[str]) -> list[str | Exception]:
    ends: list[Any] = []
    for item in items:
        error = hurdle(item)
        ends.append(item if error is None else error)
    return ends


async def leaf(what: str) -> str:
    jobs.stage.note(("leaf", what))
    return what


async def gathering(what: str, *, ctx: JobContext = INJECTED) -> str:
    assert jobs.stage.again is not None
    child = await jobs.stage.again.options(id=f"{ctx.id}:leaf").enqueue(what)
    (found,) = await ctx.gather([child])
    if (error := hurdle(what)) is not None:
        raise error
    return str(found)


async def waiting(what: str, *, ctx: JobContext = INJECTED) -> str:
    found = await ctx.wait_for("go", key=what, timeout=60)
    jobs.stage.note(what)
    return str(found)


def apart(folder: str) -> str:
    """In a process: fails until there is a file."""
    if not (Path(folder) / "go").exists():
        raise ValueError("there is no file yet")
    return folder
