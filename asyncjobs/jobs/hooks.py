"""What users put around the attempts and the enqueues of job functions, and where.

A scope is an app, a registry or a job function. Each has `Hooks`, which know the scope around
them. Nothing here is asked when a job runs: what a job function passes is put together once, and
again when somebody adds a hook.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, TypeAlias, TypeVar, cast

from asyncjobs.errors import RegistrationError
from asyncjobs.guard.texts import shown
from asyncjobs.jobs.attempt import JobAttempt
from asyncjobs.jobs.ended import EndCallback
from asyncjobs.jobs.enqueue_call import EnqueueMiddleware
from asyncjobs.jobs.middleware import CallNext, enter
from asyncjobs.jobs.rescue import Answers, Handler, Rescue, check_kinds

__all__ = ["AttemptMiddleware", "Hooked", "Hooks", "Passage", "check_hook"]

AttemptMiddleware: TypeAlias = Callable[[JobAttempt, CallNext], Coroutine[Any, Any, Any]]
"""A middleware around attempts: `async def m(attempt, call_next)`."""
M = TypeVar("M", bound=AttemptMiddleware)
N = TypeVar("N", bound=EnqueueMiddleware)
C = TypeVar("C", bound=EndCallback)
E = TypeVar("E", bound=Exception)


class Hooks:
    """The hooks of one scope, in the order in which they were added. `outer`: those around it."""

    def __init__(self, outer: Hooks | None = None) -> None:
        self.outer = outer
        self.middleware: tuple[AttemptMiddleware, ...] = ()
        self.enqueue_middleware: tuple[EnqueueMiddleware, ...] = ()
        self.handlers: tuple[Handler, ...] = ()
        self.on_dead: tuple[EndCallback, ...] = ()
        self.on_discard: tuple[EndCallback, ...] = ()
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
        handlers = [scope.handlers for scope in self.scopes() if scope.handlers]
        if not middleware and not handlers:
            return None
        return Passage(middleware, handlers)

    def callbacks(self, *, is_dead: bool) -> tuple[EndCallback, ...]:
        """What is called when a job is dead or discarded: those of the innermost scope first."""
        if is_dead:
            return tuple(each for scope in self.scopes() for each in scope.on_dead)
        return tuple(each for scope in self.scopes() for each in scope.on_discard)

    def enqueue_chain(self) -> tuple[EnqueueMiddleware, ...]:
        """What an enqueue passes on its way to the store, the outermost first."""
        return tuple(each for scope in reversed(self.scopes()) for each in scope.enqueue_middleware)


class Passage:
    """What the attempts of one job function pass, put together. Knows no worker."""

    __slots__ = ("_middleware", "_rescue")

    def __init__(
        self,
        middleware: tuple[AttemptMiddleware, ...],
        handlers: Sequence[Sequence[Handler]] = (),
    ) -> None:
        """`middleware`: the outermost first. `handlers`: by scope, the innermost first."""
        self._middleware = middleware
        self._rescue: Rescue | None = None
        if handlers:
            self._rescue = Rescue(handlers)

    def run(self, attempt: JobAttempt, call: CallNext) -> Coroutine[Any, Any, Any]:
        """Run `call` as the innermost part of this attempt. Returns or raises how it ended."""
        if self._rescue is None:
            return enter(self._middleware, attempt, call)
        # Outside of the middleware, so that their errors are answered, too.
        return self._rescue.run(attempt, partial(enter, self._middleware, attempt, call))


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

    def on_error(self, *kinds: type[E]) -> Answers[E]:
        """Answer errors of these classes: `async def h(attempt, error)`.

        Called after a failed attempt, around all middleware. Another value than None is the result
        of the job, `Succeed(value)` is any value. A returned `Retry`, `Snooze`, `Discard` or
        `Abort` is obeyed as if the job had raised it. None leaves the error to the handlers of the
        scope outside, and at last to the retry policies. If the handler raises, the attempt fails
        with that error.

        In one scope the handler with the most specific class is asked, and of equals the first. A
        group of errors goes to a handler that fits all errors in it. What an attempt raises that
        was stopped (time-out, cancel, shutdown, lost lease) goes to none, nor does `Retry`,
        `Snooze` or `Discard`.

        Returns a decorator. Raises RegistrationError for what is no class of Exception, and for a
        handler that is not async, or does not take two arguments.
        """
        checked = check_kinds(kinds)

        def add(handler: Callable[..., Any], /) -> Any:
            check_hook(handler, "a handler of on_error()", "attempt", "error")
            self.hooks.handlers += (Handler(checked, handler),)
            self.hooks.changed()
            return handler

        return cast("Answers[E]", add)

    def on_dead(self, callback: C, /) -> C:
        """Call `async def c(end)` in the worker when a job is dead. `end` is a JobEnd.

        It runs beside other jobs and changes nothing. What it raises is logged. After 30 s it is
        cancelled. A worker that stops waits for it within its grace. If the worker dies, it is not
        called again. The callbacks of the function come first, those of the app last. A job whose
        function is not known there is told to those of the app alone.

        Returns the callback. Raises RegistrationError for what is not async, or does not take one
        argument.
        """
        check_hook(callback, "a callback of on_dead", "end")
        self.hooks.on_dead += (callback,)
        return callback

    def on_discard(self, callback: C, /) -> C:
        """Call `async def c(end)` in the worker when a job is discarded: by `Discard`, `Abort` or
        `discard_on`, or because it has expired. Everything else is as with `on_dead`."""
        check_hook(callback, "a callback of on_discard", "end")
        self.hooks.on_discard += (callback,)
        return callback


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
