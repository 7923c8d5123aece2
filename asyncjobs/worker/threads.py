"""Sync job functions run in threads, which nobody can stop."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

from asyncjobs.guarded import GuardedLog
from asyncjobs.worker.describing import describe
from asyncjobs.worker.run import Attempt, Reason

__all__ = ["THREAD_NAME", "Threads", "call_job"]

logger = GuardedLog("asyncjobs.worker")

THREAD_NAME: Final = "asyncjobs-job"
"""What the names of the threads begin with."""


class Threads:
    """Owns the worker's threads: a bound of its own, apart from the concurrency."""

    def __init__(self, most: int, sync_queues: Mapping[str, bool]) -> None:
        """`sync_queues` says of queues with sync job functions whether they have no others."""
        self.sync_queues = sync_queues
        self._pool = ThreadPoolExecutor(most, thread_name_prefix=THREAD_NAME)
        self._most = most
        self._places = asyncio.Semaphore(most)
        self._users = 0
        self.is_swept: Callable[[Attempt], bool] = lambda attempt: False
        """Whether this attempt was cancelled by another job."""
        self.abandoned = 0
        """Threads still running although their job has been given back."""

    def most(self, unstarted: int) -> dict[str, int]:
        """What queues with sync functions may hand out, with so many jobs not started.

        A job that would wait here for a thread is better left to a worker that has one.
        """
        if not self.sync_queues:
            return {}
        free = self._most - self._users - unstarted
        return {
            queue: max(free, 0) if only_sync else 0
            for queue, only_sync in self.sync_queues.items()
            if only_sync or free < 0
        }

    async def call(
        self, attempt: Attempt, function: Callable[[], Any], begin: Callable[[], None]
    ) -> Any:
        """Run `function` in a thread with this task's context, after calling `begin`, which
        may raise: then it is not run.

        Told to stop, an attempt whose thread has begun keeps its slot until the thread
        ends. Only when the worker must let go (shutdown, lost lease) is it left behind;
        then it may overlap with the job's next run.
        """
        self._users += 1
        try:
            # The time-out must not count the wait for a thread, or jobs die unstarted.
            await self._places.acquire()
        except BaseException:
            self._users -= 1
            raise
        try:
            begin()
        except BaseException:
            self._ended()
            raise
        future = asyncio.wrap_future(self._submit(function))
        future.add_done_callback(self._ended)
        while True:
            try:
                return await asyncio.shield(future)
            except asyncio.CancelledError:
                if future.done() and not future.cancelled():
                    return future.result()
                if self.is_swept(attempt):
                    # By another job. The thread goes on, so the attempt does.
                    _uncancel()
                    continue
                if attempt.reason in (None, Reason.SHUTDOWN, Reason.LEASE_LOST):
                    self._abandon(attempt, future)
                    raise
                logger.warning(
                    "%s: its thread cannot be stopped (%s); it keeps its slot until it ends",
                    attempt.job.ref,
                    attempt.reason.value,
                    extra=attempt.label,
                )

    def _submit(self, function: Callable[[], Any]) -> Future[Any]:
        context = contextvars.copy_context()
        calls = [function]
        try:
            return self._pool.submit(context.run, call_job, calls)
        except BaseException:
            # The system has no more threads. The pool has kept the call all the same, for a
            # thread that becomes free: by then the attempt has failed, and it must not run.
            calls.clear()
            self._ended()
            raise

    def _ended(self, _future: asyncio.Future[Any] | None = None) -> None:
        self._users -= 1
        self._places.release()

    def _abandon(self, attempt: Attempt, future: asyncio.Future[Any]) -> None:
        self.abandoned += 1

        def ended(future: asyncio.Future[Any]) -> None:
            self.abandoned -= 1
            if not future.cancelled() and (error := future.exception()):
                told = describe(error, attempt.mask)
                logger.warning(
                    "%s: its thread, left behind, has failed: %s: %s",
                    attempt.job.ref,
                    told.kind,
                    told.message,
                    extra=attempt.label,
                )

        future.add_done_callback(ended)

    def close(self) -> None:
        """Let the threads end by themselves."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _uncancel() -> None:
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()


def call_job(calls: list[Callable[[], Any]]) -> Any:
    """In a thread: the job function, unless its call was given up before."""
    if not calls:
        return None
    try:
        return calls.pop()()
    except StopIteration as error:
        # A future cannot hold one: its waiter, and so the slot, would never hear of it.
        raise RuntimeError("the job function raised StopIteration") from error
