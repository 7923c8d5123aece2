"""Where job functions are called: one executor for each `Isolation`."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol, TypeAlias

from asyncjobs.jobs.isolation import Isolation
from asyncjobs.worker.engine.attempt import Attempt

__all__ = ["Executor", "Executors", "OnLoop"]


class Executor(Protocol):
    """Calls the job functions of one `Isolation`. Knows nothing of settlements.

    An attempt acquires a place, begins, calls the function, and releases its place, in this
    order. Its time-out runs from its begin.
    """

    async def acquire(self, attempt: Attempt) -> None:
        """Wait for a place. Nobody calls this for a job function that `starts_at_once`."""
        ...

    def release(self, attempt: Attempt) -> None:
        """Free the place of an attempt that is over, whether or not its function was called."""
        ...

    def call(self, attempt: Attempt, function: Callable[[], Any]) -> Coroutine[Any, Any, Any]:
        """Call the function; returns its value or raises its error. When the attempt's task is
        cancelled, the executor decides what happens to the function."""
        ...


class OnLoop:
    """The executor of async functions. It always has a place. Who cancels the task of an attempt
    cancels its function, too."""

    async def acquire(self, attempt: Attempt) -> None:
        return

    def release(self, attempt: Attempt) -> None:
        return

    def call(self, attempt: Attempt, function: Callable[[], Any]) -> Coroutine[Any, Any, Any]:
        made: Coroutine[Any, Any, Any] = function()
        return made


Executors: TypeAlias = Mapping[Isolation, Executor]
