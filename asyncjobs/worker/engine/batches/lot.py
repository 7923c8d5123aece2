"""One call of a batch consumer, and the attempts that share it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any, NamedTuple

from asyncjobs.errors import BatchError
from asyncjobs.jobs.batches import BatchContext, results_of, results_of_error
from asyncjobs.jobs.calling import CallPlan
from asyncjobs.jobs.context import _current
from asyncjobs.jobs.function import JobFunction
from asyncjobs.jobs.middleware import Middlewares, enter
from asyncjobs.model.attempt import BatchInfo
from asyncjobs.options.carried import restore
from asyncjobs.worker.engine.attempt import Attempt, Reason, Together, start_task
from asyncjobs.worker.engine.executors import Executor
from asyncjobs.worker.engine.running import Running
from asyncjobs.worker.engine.unfinished import close_unfinished, not_done, unfinished

__all__ = ["Lot", "Served"]


class Served(NamedTuple):
    """What the lots of one job function share. `turns`: how many of them may run at a time."""

    function: JobFunction[..., Any]
    executor: Executor
    plan: CallPlan
    turns: asyncio.Semaphore | None
    running: Running
    middlewares: Middlewares


class Lot:
    """The attempts of one call: they wait here for the begin, then for the end of the call.

    Its life: it takes attempts, then it begins. From there on its task waits for a turn and for a
    place, lets the attempts go on, waits until each has brought its item or has left, and calls the
    function. What the function says of an item ends the attempt of that item.
    """

    def __init__(self, key: Any, served: Served) -> None:
        self.key = key
        self.bytes = 0
        self.timer: asyncio.TimerHandle | None = None
        self.has_begun = False
        """Whether its attempts go on. Before that each may be given back unharmed."""
        self._served = served
        self._task: asyncio.Task[Any] | None = None
        self._waiting: dict[Attempt, asyncio.Future[None]] = {}
        """Attempts that are here and have not brought their item, in order."""
        self._arrived: list[Attempt] = []
        """All that have ever been here, in order."""
        self._items: dict[Attempt, Any] = {}
        self._ends: dict[Attempt, asyncio.Future[Any]] = {}
        """Attempts that wait for the end of the call."""
        self._is_stopped = False
        self._trace: TracebackType | None = None
        self._gathered = asyncio.Event()
        self._over = asyncio.Event()

    @property
    def is_empty(self) -> bool:
        """Whether no attempt is here any more."""
        return not (self._waiting or self._ends)

    def is_full(self, size: int) -> bool:
        return len(self._waiting) >= size

    # -- what the attempts do ---------------------------------------------------------------

    def add(self, attempt: Attempt) -> asyncio.Future[None]:
        """Take in one more attempt. The future is done when the batch begins."""
        self.bytes += len(attempt.job.envelope)
        self._arrived.append(attempt)
        begun = self._waiting[attempt] = asyncio.get_running_loop().create_future()
        return begun

    async def serve(self, attempt: Attempt, item: Any) -> Any:
        """Bring the item of this attempt, and wait for its result."""
        if self._over.is_set():
            raise asyncio.CancelledError("the call of its batch is over")
        del self._waiting[attempt]
        self._items[attempt] = item
        end = self._ends[attempt] = asyncio.get_running_loop().create_future()
        self._look()
        try:
            await end
        except asyncio.CancelledError:
            if not end.done() or end.cancelled():
                await self._stopped(attempt)
            # Whoever was told to stop and has finished all the same has finished.
            if not end.done() or end.cancelled():
                raise
        finally:
            self._ends.pop(attempt, None)
        result = end.result()
        if isinstance(result, BaseException):
            # All attempts of a call that has failed raise one error. Each begins with the frames of
            # the function, and not with those of the attempts before it.
            raise result.with_traceback(self._trace)
        return result

    def leave(self, attempt: Attempt) -> None:
        """This attempt is over, with or without the call."""
        if attempt in self._waiting:
            del self._waiting[attempt]
        self._ends.pop(attempt, None)
        self._look()

    def _look(self) -> None:
        """All that are still here have brought their items: the call can be made."""
        if self._waiting or not self.has_begun:
            if self.is_empty:
                self._stop()
            return
        self._gathered.set()

    async def _stopped(self, attempt: Attempt) -> None:
        """This attempt was told to stop while the call goes on."""
        del self._ends[attempt]
        reason = attempt.reason
        if reason is None or reason is Reason.CANCEL:
            # rule:38 a cancelled item leaves, and the others go on
            if not self.is_empty:
                return
        else:
            # Its time is over, the worker ends, or the lease is lost: it is so for all of them.
            for other in [*self._ends, *self._waiting]:
                other.stop(reason)
        self._stop()
        # The clean-up of the function is a part of each attempt: no retry may begin before.
        await self._over.wait()

    def _stop(self) -> None:
        """Cancel the call, once: another cancellation would break off its clean-up."""
        if self._task is not None and not self._is_stopped:
            self._is_stopped = True
            self._task.cancel()

    # -- what the lot does ------------------------------------------------------------------

    def stop_waiting(self) -> None:
        """Nobody waits for the end of the window any more."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take no more attempts, and call the function as soon as there is a place."""
        self.stop_waiting()
        if not self.is_empty:
            self._task = start_task(loop, self._run(), self._served.function.name)

    async def _run(self) -> None:
        """Raises nothing: whatever happens becomes the end of the attempts."""
        served = self._served
        first = next(iter(self._waiting))
        has_turn = has_place = False
        try:
            if served.turns is not None:
                await served.turns.acquire()
                has_turn = True
            # The place comes before the attempts begin. Otherwise their time-outs would run while
            # they wait for a thread.
            await served.executor.acquire(first)
            has_place = True
            self._let_begin()
            await self._gathered.wait()
            if self._ends:
                await self._call(first)
        except BaseException as error:
            self._fail(error)
        finally:
            if has_place:
                served.executor.release(first)
            if has_turn and served.turns is not None:
                served.turns.release()
            self._over.set()

    def _let_begin(self) -> None:
        self.has_begun = True
        for begun in self._waiting.values():
            # One that was cancelled in this turn of the loop leaves in the next one.
            if not begun.done():
                begun.set_result(None)
        self._look()

    async def _call(self, first: Attempt) -> None:
        served = self._served
        function = served.function
        # Copies: who is cancelled leaves, and its place in the list of results stays.
        # In the order of the store: an eager task may bring its item before those of older jobs.
        attempts = [each for each in self._arrived if each in self._ends]
        ends = dict(self._ends)
        if function.carried:
            restore(function.carried, attempts[0].envelope.headers.labels.variables)
        together = Together(attempts)
        together.hide_all()
        _current.set(together)
        filled: dict[str, Any] = {}
        if function.injected is not None:
            filled[function.injected] = BatchContext([each.context for each in attempts])
        items = [self._items[each] for each in attempts]
        execute = partial(served.executor.call, first)
        call: Callable[[], Any] = partial(
            served.plan.call, function.function, (items,), filled, execute
        )
        if around := served.middlewares.batches:
            info = BatchInfo(function.name, first.job.queue, [each.info for each in attempts])
            call = partial(enter, around, info, call)
        # A crash, or a block of the loop, blames all of them.
        served.running.unite(attempts)
        try:
            # `BatchError` passes the middleware and the dependencies as an error, so that a
            # transaction around the call is rolled back.
            results = self._results(await call(), len(attempts))
        except BatchError as error:
            results = results_of_error(function.name, error, len(attempts))
        finally:
            served.running.part(attempts)
        for attempt, result in zip(attempts, results, strict=True):
            _end(ends[attempt], result)

    def _results(self, value: Any, count: int) -> list[Any]:
        function = self._served.function
        if value is not None and (work := unfinished(value)) is not None:
            close_unfinished(value)
            raise not_done(function.name, work, is_async=function.is_async)
        return results_of(function.name, value, count)

    def _fail(self, error: BaseException) -> None:
        """The call has failed for all that are still here."""
        self._trace = error.__traceback__
        for begun in self._waiting.values():
            if not begun.done():
                # They go on, and fail in the call.
                begun.cancel()
        for end in self._ends.values():
            _end(end, error)


def _end(end: asyncio.Future[Any], result: Any) -> None:
    """Errors are results here: a future takes not each of them."""
    if not end.done():
        end.set_result(result)
