"""Checks of listeners, and the log of those that fail."""

from __future__ import annotations

import functools
import inspect
from typing import Any, Final

from asyncjobs.errors import UsageError
from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.guard.texts import shown

__all__ = ["Failures", "check_kind", "check_listener", "is_async", "refuse_answer"]

logger = GuardedLog("asyncjobs.events")

MOST_TOLD: Final = 1_000
"""The most failures of listeners that are logged. Beyond them, nothing more is."""
_ADVICE = "write a plain function, or an async one: async def listener(event)"


def check_kind(kind: Any, base: type) -> None:
    """Raises UsageError for what is no class of event. Otherwise a wrong class would never match,
    and a text would fail later, inside an enqueue."""
    if not isinstance(kind, type) or not issubclass(kind, base):
        raise UsageError(
            f"on({shown(kind)}) is not a class of event; write one of asyncjobs.events, such as "
            "app.on(JobDead, listener)"
        )


def check_listener(listener: Any) -> None:
    """Raises UsageError for what cannot be called, and for generators, which would never run."""
    if not callable(listener):
        raise UsageError(f"the listener {shown(listener)} cannot be called; {_ADVICE}")
    for called in _called(listener):
        if inspect.isasyncgenfunction(called) or inspect.isgeneratorfunction(called):
            raise UsageError(
                f"the listener {shown(listener)} is a generator and would never run; {_ADVICE}"
            )


def is_async(listener: Any) -> bool:
    """Whether somebody has to await what the listener returns. Partials, methods and objects whose
    call is async are async, too."""
    return any(map(inspect.iscoroutinefunction, _called(listener)))


def _called(listener: Any) -> tuple[Any, Any]:
    inner = listener
    # A partial is never a coroutine function itself. What it calls may be one.
    while isinstance(inner, functools.partial):
        inner = inner.func
    return inner, type(inner).__call__


class Failures:
    """Logs the failures of listeners: once for each listener, type of event and of error."""

    __slots__ = ("_told",)

    def __init__(self) -> None:
        self._told: set[tuple[int, type, type[BaseException]]] = set()

    def tell(self, listener: Any, kind: type, error: BaseException) -> None:
        """`listener` has raised `error` on an event of this type."""
        key = (id(listener), kind, type(error))
        if key in self._told or len(self._told) >= MOST_TOLD:
            return
        self._told.add(key)
        logger.error(
            "listener %r failed on %s; jobs go on, and this is logged once",
            listener,
            kind.__name__,
            exc_info=error,
        )


def refuse_answer(listener: Any, answer: Any) -> None:
    """Raises UsageError if a listener returned a coroutine, for example a lambda around an async
    function, which looks plain until it is called.

    The error is logged like any failure of a listener. The coroutine is closed. Otherwise Python
    would warn a second time, somewhere else.
    """
    if inspect.iscoroutine(answer):
        answer.close()
        raise UsageError(
            f"the listener {shown(listener)} returned a coroutine, which nobody runs; {_ADVICE}"
        )
