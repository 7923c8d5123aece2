"""Finds out that a job function has returned work that was not done, instead of a value."""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any, Final

from asyncjobs.errors import UsageError
from asyncjobs.policy.retry import class_name

__all__ = ["close_unfinished", "not_done", "unfinished"]

_DATA: Final = frozenset({str, bool, int, float, list, dict, tuple, set, bytes})


def unfinished(value: Any) -> str | None:
    """The work behind this value that was not done, in words; None for any other value.

    With a forgotten `await` a job would succeed and do nothing. Work that is over is no reason to
    run the job again: its value cannot be kept, and that is all.
    """
    kind = type(value)
    if kind in _DATA:
        return None
    try:
        return _unfinished(kind, value)
    except BaseException:
        # The class of a proxy may raise at any question. The job has returned all the same.
        return None


def _unfinished(kind: type[Any], value: Any) -> str | None:
    is_over = False
    if issubclass(kind, CoroutineType):
        is_over = inspect.getcoroutinestate(value) == inspect.CORO_CLOSED
        work = "a coroutine that was not awaited"
    elif issubclass(kind, AsyncGeneratorType):
        is_over = value.ag_frame is None
        work = "an async generator that was not run"
    elif issubclass(kind, GeneratorType):
        is_over = inspect.getgeneratorstate(value) != inspect.GEN_CREATED
        work = "a generator that was not run"
    elif issubclass(kind, asyncio.Future | concurrent.futures.Future):
        is_over = value.done()
        work = f"a {class_name(kind)} that was not awaited"
    elif hasattr(kind, "__await__"):
        work = f"an awaitable ({class_name(kind)}) that was not awaited"
    else:
        return None
    if is_over:
        return None
    return work


def not_done(name: str, work: str, *, is_async: bool) -> UsageError:
    """The error of an attempt of the job function `name` that has returned unfinished work."""
    advice = "make it an async def function that awaits it"
    if is_async:
        advice = "await it in the function"
    if "generator" in work:
        advice = "return one value, such as a list of its items"
    return UsageError(f"{name} returned {work}; {advice}")


def close_unfinished(value: Any) -> None:
    """Close a coroutine that nobody will run. Otherwise Python warns of it somewhere else."""
    is_coroutine = type(value) is CoroutineType
    if is_coroutine and inspect.getcoroutinestate(value) == inspect.CORO_CREATED:
        value.close()
