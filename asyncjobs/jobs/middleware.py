"""What surrounds the attempts of job functions: one seam for tracing and for what is to come.

Each middleware is `async def m(attempt, call_next)`. It awaits `call_next()` once at most. From
the outside in, an attempt passes: those `around` it → the worker, which judges how it ended and
settles it → those `within` → the function, on its executor. An attempt that never begins
passes none of them.
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
"""Given the trace that a job's next attempt will find, returns it, or what JSON can hold in its
place."""


class Middlewares:
    """Holds an app's middleware, the outermost first. What is added holds from the next attempt
    on.

    `around`: `call_next()` raises nothing. It returns the attempt's `Settlement`, after it was
    handed to the store's queue; None when its end is not this worker's to record. For telemetry:
    what is raised here ends up in the worker's log and changes nothing.

    `within`: `call_next()` returns and raises what the job function does. What such a middleware
    returns or raises instead is taken for the function's, and judged.
    """

    def __init__(self) -> None:
        self.around: tuple[Middleware, ...] = ()
        self.within: tuple[Middleware, ...] = ()
        self._carries: tuple[Carry, ...] = ()
        self._on_change: list[Callable[[], None]] = []

    def add_around(self, middleware: Middleware) -> None:
        """Put it inside of those that are around each attempt already."""
        self.around += (middleware,)
        self._tell_change()

    def add_within(self, middleware: Middleware) -> None:
        """Put it inside of those that are around each call of a job function already."""
        self.within += (middleware,)
        self._tell_change()

    def add_carry(self, carry: Carry) -> None:
        """Ask it each time a job is stored for another attempt, or as dead."""
        self._carries += (carry,)

    def carry(self, attempt: AttemptInfo, trace: Any) -> Any:
        """What the job carries to the attempt after this one."""
        for each in self._carries:
            trace = each(attempt, trace)
        return trace

    @property
    def carries(self) -> bool:
        """False when `carry` changes nothing."""
        return bool(self._carries)

    def on_change(self, told: Callable[[], None]) -> Callable[[], None]:
        """Call `told` whenever one is added; returns what ends that."""
        self._on_change.append(told)
        return partial(self._on_change.remove, told)

    def _tell_change(self) -> None:
        for told in tuple(self._on_change):
            told()


def enter(
    middlewares: Sequence[Middleware], attempt: AttemptInfo, innermost: CallNext
) -> Coroutine[Any, Any, Any]:
    """The call of the first of `middlewares`, which leads through all others to `innermost`."""
    call_next = innermost
    for middleware in reversed(middlewares):
        call_next = partial(middleware, attempt, call_next)
    return call_next()
