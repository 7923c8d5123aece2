"""What users put around the attempts and the enqueues of job functions, and where.

A scope is an app, a registry or a job function. Each has `Hooks`, which know the scope around
them. Nothing here is asked when a job runs: what a job function passes is put together once, and
again when somebody adds a hook.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias, TypeVar

from asyncjobs.errors import RegistrationError
from asyncjobs.guard.texts import shown
from asyncjobs.jobs.attempt import JobAttempt
from asyncjobs.jobs.enqueue_call import EnqueueMiddleware
from asyncjobs.jobs.middleware import CallNext, enter

__all__ = ["AttemptMiddleware", "Hooked", "Hooks", "Passage", "check_hook"]

AttemptMiddleware: TypeAlias = Callable[[JobAttempt, CallNext], Coroutine[Any, Any, Any]]
"""A middleware around attempts: `async def m(attempt, call_next)`."""
M = TypeVar("M", bound=AttemptMiddleware)
N = TypeVar("N", bound=EnqueueMiddleware)


class Hooks:
    """The hooks of one scope, in the order in which they were added. `outer`: those around it."""

    def __init__(self, outer: Hooks | None = None) -> None:
        self.outer = outer
        self.middleware: tuple[AttemptMiddleware, ...] = ()
        self.enqueue_middleware: tuple[EnqueueMiddleware, ...] = ()
        self.on_change: Callable[[], None] | None = None
        """Set by the app, on the outermost scope: what was put together has to be made anew."""

    def changed(self) -> None:
        """Tell the app that a hook was added."""
        outermost = self.scopes()[-1]
        if outermost.on_change is not None:
            outermost.on_change()

    def scopes(self) -> list[Hooks]:
        """This scope, the one around it, and so on to the app."""
        found: list[Hooks] = [self]
        while (outer := found[-1].outer) is not None:
            found.append(outer)
        return found

    def passage(self) -> Passage | None:
        """What an attempt passes on its way to the job function; None for most functions."""
        # rule:16 the scopes around a job function are passed from the outside in
        middleware = tuple(each for scope in reversed(self.scopes()) for each in scope.middleware)
        if not middleware:
            return None
        return Passage(middleware)

    def enqueue_chain(self) -> tuple[EnqueueMiddleware, ...]:
        """What an enqueue passes on its way to the store, the outermost first."""
        return tuple(each for scope in reversed(self.scopes()) for each in scope.enqueue_middleware)


class Passage:
    """What the attempts of one job function pass, put together. Knows no worker."""

    __slots__ = ("_middleware",)

    def __init__(self, middleware: tuple[AttemptMiddleware, ...]) -> None:
        """`middleware`: the outermost first."""
        self._middleware = middleware

    def run(self, attempt: JobAttempt, call: CallNext) -> Coroutine[Any, Any, Any]:
        """Run `call` as the innermost part of this attempt. Returns or raises how it ended."""
        return enter(self._middleware, attempt, call)


class Hooked:
    """An app, a registry or a job function: what hooks can be added to.

    A hook holds for the job functions of its scope and of all scopes inside of it. From the
    outside in these are: the app, the registries that it includes, the registry of the function,
    the function.
    """

    hooks: Hooks

    def middleware(self, middleware: M, /) -> M:
        """Put a middleware around each attempt: `async def m(attempt, call_next)`.

        `attempt` is a JobAttempt. `await call_next()` runs what is inside, and returns or raises
        what the job function does. What the middleware returns or raises counts instead. It may
        leave out `call_next()`, and must not call it twice. The first one that was added is the
        outermost of its scope.

        Returns the middleware. Raises RegistrationError for what is not async, or does not take
        two arguments.
        """
        check_hook(middleware, "a middleware", "attempt", "call_next")
        self.hooks.middleware += (middleware,)
        self.hooks.changed()
        return middleware

    def enqueue_middleware(self, middleware: N, /) -> N:
        """Put a middleware around each enqueue: `async def e(call, send)`.

        `call` is an EnqueueCall. `return await send()` stores the job, and
        `send(call.replace(...))` stores a changed call. `raise Abort(reason)` before `send()`
        refuses the call: nothing is stored, and the caller gets Aborted. A middleware may return
        the handle of another job without `send()`. It must not call it twice.

        `enqueue`, `enqueue_sync` and `enqueue_many` pass it. The ticks of schedules, `trigger` and
        `backfill` do not: no caller makes these jobs. Nor do retries.

        Returns the middleware. Raises RegistrationError for what is not async, or does not take
        two arguments.
        """
        check_hook(middleware, "an enqueue middleware", "call", "send")
        self.hooks.enqueue_middleware += (middleware,)
        self.hooks.changed()
        return middleware


def check_hook(function: Any, what: str, *parameters: str) -> None:
    """Raises RegistrationError for what cannot be awaited with these arguments.

    Now, while the module is imported, and not in the first job that runs.
    """
    example = f"async def f({', '.join(parameters)})"
    if not callable(function) or not _is_async(function):
        raise RegistrationError(f"{what} must be {example}, not {shown(function)}")
    try:
        inspect.signature(function).bind(*parameters)
    except TypeError as error:
        raise RegistrationError(
            f"{what} is called as {example}, and {shown(function)} does not fit: {error}"
        ) from error


def _is_async(function: Any) -> bool:
    inner = function
    # A partial is never a coroutine function itself. What it calls may be one.
    while isinstance(inner, functools.partial):
        inner = inner.func
    return any(map(inspect.iscoroutinefunction, (inner, type(inner).__call__)))
