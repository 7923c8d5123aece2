"""Checks of listeners: only plain functions may listen to events."""

from __future__ import annotations

import functools
import inspect
from typing import Any

from asyncjobs.errors import UsageError
from asyncjobs.guard.texts import shown

__all__ = ["check_kind", "check_listener", "refuse_answer"]

_ADVICE = (
    "write a plain function, which may hand the event on: queue.put_nowait(event), or "
    "loop.create_task(...) with a reference kept to the task"
)


def check_kind(kind: Any, base: type) -> None:
    """Raises UsageError for what is no class of event. Otherwise a wrong class would never match,
    and a text would fail later, inside an enqueue."""
    if not isinstance(kind, type) or not issubclass(kind, base):
        raise UsageError(
            f"on({shown(kind)}) is not a class of event; write one of asyncjobs.events, such as "
            "app.on(JobDead, listener)"
        )


def check_listener(listener: Any) -> None:
    """Raises UsageError for what cannot be called, and for what is async.

    Partials, methods and objects whose call is async are refused, too. Python would make a
    coroutine for each event, and nobody would ever run it.
    """
    if not callable(listener):
        raise UsageError(f"the listener {shown(listener)} cannot be called; {_ADVICE}")
    # A partial is never a coroutine function itself. What it calls may be one.
    inner = listener
    while isinstance(inner, functools.partial):
        inner = inner.func
    for called in (inner, type(inner).__call__):
        if _never_runs(called):
            raise UsageError(
                f"the listener {shown(listener)} is async and would never run; {_ADVICE}"
            )


def _never_runs(called: Any) -> bool:
    return (
        inspect.iscoroutinefunction(called)
        or inspect.isasyncgenfunction(called)
        or inspect.isgeneratorfunction(called)
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
