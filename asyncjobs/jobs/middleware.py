"""Middleware around the attempts of job functions.

A middleware is `async def m(attempt, call_next)`. It may await `call_next()` once; a second call
raises UsageError. From the outside in, an attempt passes the middleware `around` it, the worker
(which judges how it ended and settles it), the middleware `within` it, the middleware of users (see
jobs/hooks.py), and the function on its executor. An attempt that never begins passes none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, TypeAlias, TypeVar

from asyncjobs.errors import UsageError
from asyncjobs.guard.guarded import report
from asyncjobs.model.attempt import AttemptInfo, BatchInfo
from asyncjobs.model.codec import parse, to_json

__all__ = ["BatchMiddleware", "CallNext", "Carry", "Middleware", "Middlewares", "enter"]

A = TypeVar("A")
CallNext: TypeAlias = Callable[[], Coroutine[Any, Any, Any]]
"""What a middleware of attempts gets as its second argument. `await call_next()` runs what is
inside, and returns or raises what the job function does."""
Middleware: TypeAlias = Callable[[AttemptInfo, CallNext], Coroutine[Any, Any, Any]]
BatchMiddleware: TypeAlias = Callable[[BatchInfo, CallNext], Coroutine[Any, Any, Any]]
Carry: TypeAlias = Callable[[AttemptInfo, Any], Any]
"""Gets the trace that a job carries to its next attempt, and returns it or another one. The other
one must be JSON, nested no deeper than arguments. If it is not, or if the carry raises, the job
keeps the trace that it has."""


class Middlewares:
    """The middleware of an app, the outermost first. An added one works from the next attempt on.

    `around` is for telemetry. `call_next()` raises nothing and returns the attempt's `Settlement`,
    which is on its way to the store; None if another worker has to record the end. The attempt's
    time-out counts from the first step of the outermost one. It depends on `call_next()` what an
    error of such a middleware does:

    - Before it, the attempt fails with this error, as if the function had raised it. If the
      middleware returns without `call_next()`, the attempt fails with UsageError.
    - After it, the job is settled already. The worker logs the error, and nothing else changes.

    `within` may change the outcome. `call_next()` returns or raises what the job function does.
    What the middleware returns or raises counts as the function's, and is judged. It may leave out
    `call_next()`: then the function is not called.
    """

    def __init__(self) -> None:
        self.around: tuple[Middleware, ...] = ()
        self.within: tuple[Middleware, ...] = ()
        self.batches: tuple[BatchMiddleware, ...] = ()
        """Around each call of a batch consumer, which serves several attempts."""
        self._carries: tuple[Carry, ...] = ()
        self._on_change: list[Callable[[], None]] = []

    def add_around(self, middleware: Middleware) -> None:
        """Add a middleware around each attempt, inside of those added before."""
        # A new tuple. Attempts that are running keep the one with which they began.
        self.around += (middleware,)
        self.tell_change()

    def add_within(self, middleware: Middleware) -> None:
        """Add a middleware around each call of a job function, inside of those added before."""
        self.within += (middleware,)
        self.tell_change()

    def add_batch(self, middleware: BatchMiddleware) -> None:
        """Add a middleware around each call of a batch consumer, inside of those added before.
        Each of its attempts passes the other middleware by itself."""
        self.batches += (middleware,)

    def add_carry(self, carry: Carry) -> None:
        """Call `carry` each time a job is stored for another attempt, or as dead."""
        self._carries += (carry,)

    def carry(self, attempt: AttemptInfo, trace: Any) -> Any:
        """The trace that the job carries to its next attempt."""
        for each in self._carries:
            try:
                changed = each(attempt, trace)
                if changed is not trace:
                    changed = _plain(changed)
            # rule:16 a carry that fails leaves the job the trace that it has
            except BaseException as error:
                report("the carry of a middleware failed", error)
            else:
                trace = changed
        return trace

    @property
    def carries(self) -> bool:
        """False if `carry` would return the trace unchanged."""
        return bool(self._carries)

    def on_change(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` when a middleware is added. Returns a function that removes it."""
        self._on_change.append(listener)
        return partial(self._on_change.remove, listener)

    def tell_change(self) -> None:
        """What attempts pass has changed."""
        # A copy, because a listener may remove itself.
        for listener in tuple(self._on_change):
            listener()


def _plain(trace: Any) -> Any:
    """A copy of the trace that every envelope can hold. Raises what JSON does not have, and
    BadRecord for one that is nested too deeply to be read again."""
    # rule:16 a trace that makes a job unreadable is refused
    # Read as a part of an envelope, so that the limit is the same. And what is read from JSON has
    # no keys of a subclass of str, which cannot be written with all headers.
    return parse(b'{"h":{"t":%b}}' % to_json(trace))["h"]["t"]


def enter(
    middlewares: Sequence[Callable[[A, CallNext], Coroutine[Any, Any, Any]]],
    attempt: A,
    innermost: CallNext,
) -> Coroutine[Any, Any, Any]:
    """Call the first middleware. Its `call_next` leads through the others to `innermost`."""
    call_next: CallNext = _Once(innermost)
    # From the inside out: each one gets the call of the next one.
    for middleware in reversed(middlewares):
        call_next = partial(middleware, attempt, call_next)
    return call_next()


class _Once:
    """The last `call_next` of an attempt: the second call is refused.

    A second one would run a job that has been settled, or free the place of its thread twice.
    """

    __slots__ = ("_call",)

    def __init__(self, call: CallNext) -> None:
        self._call: CallNext | None = call

    def __call__(self) -> Coroutine[Any, Any, Any]:
        call = self._call
        # rule:16 a middleware runs a job function once at the most
        if call is None:
            raise UsageError(
                "a middleware has called call_next() twice in one attempt; to run a job again, "
                "let the attempt fail and give its function a retry policy"
            )
        self._call = None
        return call()
