"""Tells when a job function has returned work that was not done, instead of a value."""

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
    """What work this value stands for that has not been done; None for any other value.

    A forgotten `await` would else be a job that succeeds and does nothing. Work that is over
    is no reason to run the job again: such a value can only not be kept.
    """
    kind = type(value)
    if kind in _DATA:
        return None
    try:
        return _unfinished(kind, value)
    except BaseException:
        # The class of a proxy may raise at any question. Whatever it is, the job has returned.
        return None


def _unfinished(kind: type[Any], value: Any) -> str | None:
    if issubclass(kind, CoroutineType):
        is_over = inspect.getcoroutinestate(value) == inspect.CORO_CLOSED
        return None if is_over else "a coroutine that was not awaited"
    if issubclass(kind, AsyncGeneratorType):
        return None if value.ag_frame is None else "an async generator that was not run"
    if issubclass(kind, GeneratorType):
        is_new = inspect.getgeneratorstate(value) == inspect.GEN_CREATED
        return "a generator that was not run" if is_new else None
    if issubclass(kind, asyncio.Future | concurrent.futures.Future):
        return None if value.done() else f"a {class_name(kind)} that was not awaited"
    if hasattr(kind, "__await__"):
        return f"an awaitable ({class_name(kind)}) that was not awaited"
    return None


def not_done(name: str, work: str, *, is_async: bool) -> UsageError:
    """The error of an attempt of the job function `name` that has returned this work."""
    advice = "make it an async def function that awaits it"
    if is_async:
        advice = "await it in the function"
    if "generator" in work:
        advice = "return one value, such as a list of its items"
    return UsageError(f"{name} returned {work}; {advice}")


def close_unfinished(value: Any) -> None:
    """Close a coroutine that nobody will run, or Python warns of it somewhere else."""
    is_coroutine = type(value) is CoroutineType
    if is_coroutine and inspect.getcoroutinestate(value) == inspect.CORO_CREATED:
        value.close()
