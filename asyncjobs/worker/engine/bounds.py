"""How many jobs of one function run at a time in this worker: the option `max_running`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol

from asyncjobs.jobs.function import JobFunction
from asyncjobs.worker.engine.all_executors import AllExecutors
from asyncjobs.worker.engine.attempt import Attempt
from asyncjobs.worker.engine.executors import Executor
from asyncjobs.worker.engine.running import Running
from asyncjobs.worker.engine.slots import Slots
from asyncjobs.worker.engine.threads import Threads

__all__ = ["Bounds"]


class Counted(Protocol):
    """Knows how many attempts of one function have a turn or wait for one."""

    @property
    def attempts(self) -> int: ...


class Bounds:
    """The bounds of a worker's job functions, and how much room they leave.

    `queues`: those whose functions all have a bound, with the bound of each function by name.
    """

    def __init__(self, queues: Mapping[str, Mapping[str, int]]) -> None:
        self.queues = queues
        self._bounded: dict[str, Counted] = {}

    def around(self, function: JobFunction[..., Any], most: int, executor: Executor) -> Bounded:
        """The executor of a function with a bound. The bound outlives a change of middleware."""
        found = self._bounded.get(function.name)
        if not isinstance(found, Bounded):
            found = self._bounded[function.name] = Bounded(most, executor)
        return found

    def count(self, function: JobFunction[..., Any], attempts: Counted) -> None:
        """These are the attempts of a function that keeps its bound by itself."""
        self._bounded[function.name] = attempts

    def slots(self, concurrency: int, running: Running, executors: AllExecutors) -> Slots:
        """What the intake asks: the slots, within these bounds and those of the executors."""
        most = self._beside(executors.most)
        has_places = bool(executors.has_places or self.queues)
        away = running.away
        return Slots(
            concurrency, running.__len__, most, running.room, has_places, away.count, away.admit
        )

    def _beside(self, threads: Callable[[int], dict[str, int]]) -> Callable[[int], dict[str, int]]:
        if not self.queues:
            return threads
        return lambda arrived: self.most(arrived, threads(arrived))

    def most(self, arrived: int, threads: Mapping[str, int]) -> dict[str, int]:
        """The most jobs that queues may hand out whose functions all have a bound, besides those
        for which `threads` says so. `arrived`: how many jobs have come and were not started.

        A job over the bound would only wait here. In the store it waits for any worker. The store
        does not know functions, so a queue gets the sum of its functions' bounds: jobs that wait
        here never hold more slots than that.
        """
        most = dict(threads)
        for queue, functions in self.queues.items():
            free = sum(map(self._free, functions, functions.values())) - arrived
            # rule:28 jobs over the bound of their function stay in the store
            free = max(free, 0)
            most[queue] = min(free, threads.get(queue, free))
        return most

    def _free(self, name: str, most: int) -> int:
        """Negative while jobs of this function wait for each other."""
        bounded = self._bounded.get(name)
        if bounded is None:
            return most
        return most - bounded.attempts


class Bounded:
    """An executor with a bound for one function. An attempt waits for its turn here, then for a
    place in the executor itself."""

    def __init__(self, most: int, executor: Executor) -> None:
        self.attempts: int = 0
        """Attempts that have a turn or wait for one."""
        self._turns = asyncio.Semaphore(most)
        self._executor = executor

    async def acquire(self, attempt: Attempt) -> None:
        self.attempts += 1
        try:
            await self._turns.acquire()
        except BaseException:
            self.attempts -= 1
            raise
        try:
            await self._executor.acquire(attempt)
        except BaseException:
            self._free()
            raise

    def release(self, attempt: Attempt) -> None:
        thread = None
        if isinstance(self._executor, Threads):
            thread = self._executor.thread_of(attempt)
        self._executor.release(attempt)
        if thread is None or thread.done():
            self._free()
        else:
            # rule:28 a thread that was left behind counts until it ends
            thread.add_done_callback(self._free)

    def call(self, attempt: Attempt, function: Callable[[], Any]) -> Coroutine[Any, Any, Any]:
        return self._executor.call(attempt, function)

    def _free(self, _thread: asyncio.Future[Any] | None = None) -> None:
        self.attempts -= 1
        # rule:28 the turn of an attempt that is over goes to the next one
        self._turns.release()
