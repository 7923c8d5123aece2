"""Middleware around the attempts of job functions.

A middleware is `async def m(attempt, call_next)`. It awaits `call_next()` at most once. From the
outside in, an attempt passes the middleware `around` it, the worker (which judges how it ended and
settles it), the middleware `within` it, and the function on its executor. An attempt that never
begins passes none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, TypeAlias

from asyncjobs.model.attempt import AttemptInfo

__all__ = ["CallNext", "Carry", "Middleware", "Middlewares", "enter"]

CallNext: TypeAlias = Callable[[], Coroutine[Any, Any, Any]]
Middleware: TypeAlias = Callable[[AttemptInfo, CallNext], Coroutine[Any, Any, Any]]
Carry: TypeAlias = Callable[[AttemptInfo, Any], Any]
"""Gets the trace that a job carries to its next attempt, and returns it or another one. The other
one must be JSON."""


class Middlewares:
    """The middleware of an app, the outermost first. An added one works from the next attempt on.

    `around` is for telemetry. `call_next()` raises nothing and returns the attempt's `Settlement`,
    which is on its way to the store; None if another worker has to record the end. An exception
    in such a middleware is logged by the worker and changes nothing.

    `within` may change the outcome. `call_next()` returns or raises what the job function does.
    What the middleware returns or raises counts as the function's, and is judged.
    """

    def __init__(self) -> None:
        self.around: tuple[Middleware, ...] = ()
        self.within: tuple[Middleware, ...] = ()
        self._carries: tuple[Carry, ...] = ()
        self._on_change: list[Callable[[], None]] = []

    def add_around(self, middleware: Middleware) -> None:
        """Add a middleware around each attempt, inside of those added before."""
        # A new tuple. Attempts that are running keep the one with which they began.
        self.around += (middleware,)
        self._tell_change()

    def add_within(self, middleware: Middleware) -> None:
        """Add a middleware around each call of a job function, inside of those added before."""
        self.within += (middleware,)
        self._tell_change()

    def add_carry(self, carry: Carry) -> None:
        """Call `carry` each time a job is stored for another attempt, or as dead."""
        self._carries += (carry,)

    def carry(self, attempt: AttemptInfo, trace: Any) -> Any:
        """The trace that the job carries to its next attempt."""
        for each in self._carries:
            trace = each(attempt, trace)
        return trace

    @property
    def carries(self) -> bool:
        """False if `carry` would return the trace unchanged."""
        return bool(self._carries)

    def on_change(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` when a middleware is added. Returns a function that removes it."""
        self._on_change.append(listener)
        return partial(self._on_change.remove, listener)

    def _tell_change(self) -> None:
        # A copy, because a listener may remove itself.
        for listener in tuple(self._on_change):
            listener()


def enter(
    middlewares: Sequence[Middleware], attempt: AttemptInfo, innermost: CallNext
) -> Coroutine[Any, Any, Any]:
    """Call the first middleware. Its `call_next` leads through the others to `innermost`."""
    call_next = innermost
    # From the inside out: each one gets the call of the next one.
    for middleware in reversed(middlewares):
        call_next = partial(middleware, attempt, call_next)
    return call_next()
