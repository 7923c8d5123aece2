"""Waits in a job for the results of other jobs."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, Protocol, TypeVar, overload

from asyncjobs.errors import UsageError
from asyncjobs.guard.own import hide
from asyncjobs.guard.texts import shown
from asyncjobs.jobs.result_waits import _result_waits
from asyncjobs.jobs.seat import Seat
from asyncjobs.model.clock import Seconds

__all__ = ["Gathers", "HasResult"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class HasResult(Protocol[T_co]):
    """The handle of a job."""

    def result(self, timeout: Seconds | None = None) -> Coroutine[Any, Any, T_co]: ...


class Gathers:
    """The part of a job's context that waits for other jobs."""

    __slots__ = ()

    @property
    def seat(self) -> Seat:
        """Where this attempt gives its slot away."""
        raise NotImplementedError  # the context of the job has it

    @overload
    async def gather(
        self, handles: Iterable[HasResult[T]], /, *, timeout: Seconds | None = None
    ) -> list[T]: ...
    @overload
    async def gather(
        self,
        handles: Iterable[HasResult[T]],
        /,
        *,
        timeout: Seconds | None = None,
        return_exceptions: Literal[True],
    ) -> list[T | BaseException]: ...
    async def gather(
        self,
        handles: Iterable[HasResult[Any]],
        /,
        *,
        timeout: Seconds | None = None,
        return_exceptions: bool = False,
    ) -> list[Any]:
        """Wait for the ends of other jobs without a slot, and return their results in order:
        `prices = await ctx.gather([await price.enqueue(id) for id in ids])`.

        The worker takes another job meanwhile, so jobs on one worker can wait for each other. When
        all have ended, the job waits for a slot and goes on here. Its time-out runs all the while,
        and it keeps its turn of `max_running`.

        When the worker stops, the job is given back at once, and runs again from its start. Give
        the jobs that it waits for ids of their own, such as `price.options(id=f"{ctx.id}:{id}")`:
        then an enqueue finds them, and does not make them again.

        timeout: wait at most this long (seconds or timedelta).
        return_exceptions: put errors into the list in place of results. Otherwise the first one is
        raised, and the other jobs go on.

        Raises what `JobHandle.result` raises, and UsageError for what is no list of handles.
        """
        found = gathered(handles_of(handles), timeout, return_exceptions=return_exceptions)
        return await self.seat.aside(found)


def handles_of(given: Iterable[HasResult[Any]]) -> list[HasResult[Any]]:
    """Raises UsageError for what is no list of handles."""
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise UsageError(f"ctx.gather() takes a list of handles, not {shown(given)}: [handle]")
    handles = list(given)
    for handle in handles:
        if not callable(getattr(handle, "result", None)):
            raise UsageError(
                f"ctx.gather() takes handles of jobs, and {shown(handle)} is none; await the "
                "enqueue first, which returns it"
            )
    return handles


async def gathered(
    handles: Sequence[HasResult[Any]],
    timeout: Seconds | None,
    *,
    return_exceptions: bool,
) -> list[Any]:
    """The results in the order of the handles. Raises the first error, if they are not returned."""
    context = contextvars.copy_context()
    # Each wait for a result reports that it holds a slot. None of these does.
    context.run(_result_waits.set, _holds_none)
    loop = asyncio.get_running_loop()
    # Hidden: a job that cancels all tasks must end by itself.
    tasks = [hide(loop.create_task(each.result(timeout), context=context)) for each in handles]
    try:
        return list(await asyncio.gather(*tasks, return_exceptions=return_exceptions))
    finally:
        left = [task for task in tasks if not task.done()]
        for task in left:
            task.cancel()
        if left:
            # Their jobs go on, but nobody here waits for them any more.
            await asyncio.wait(left)


def _holds_none(app: Any, ref: Any) -> AbstractContextManager[None]:
    return nullcontext()
