"""Sync job functions run in threads, which nobody can stop."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, Final

from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.worker.engine.attempt import Attempt, Reason
from asyncjobs.worker.engine.error_text import describe

__all__ = ["THREAD_NAME", "Threads", "call_job"]

logger = GuardedLog("asyncjobs.worker")

THREAD_NAME: Final = "asyncjobs-job"
"""What the names of the threads begin with."""


class Threads:
    """The executor of sync functions. Owns the worker's threads: a bound of its own, apart from
    the concurrency.
    """

    def __init__(self, most: int, sync_queues: Mapping[str, bool]) -> None:
        """`sync_queues` says of queues with sync job functions whether they have no others."""
        self.sync_queues = sync_queues
        self._pool = ThreadPoolExecutor(most, thread_name_prefix=THREAD_NAME)
        self._most = most
        self._places = asyncio.Semaphore(most)
        self._users = 0
        self._called: set[Attempt] = set()
        """Those whose place belongs to a thread now, and is free when that ends."""
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

    async def acquire(self) -> None:
        """Wait until there is a thread for one more attempt."""
        self._users += 1
        try:
            await self._places.acquire()
        except BaseException:
            self._users -= 1
            raise

    def release(self, attempt: Attempt) -> None:
        """This attempt is over; its place is free, unless a thread is still busy with it."""
        if attempt in self._called:
            self._called.remove(attempt)
        else:
            self._free()

    async def call(self, attempt: Attempt, function: Callable[[], Any]) -> Any:
        """Run `function` in a thread with this task's context. Once for each `acquire`.

        Told to stop, the attempt keeps its slot until the thread ends. Only when the worker
        must let go (shutdown, lost lease) is the thread left behind; then it may overlap with
        the job's next attempt.
        """
        future = asyncio.wrap_future(self._submit(function))
        self._called.add(attempt)
        future.add_done_callback(self._free)
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
                    self._leave_behind(attempt, future)
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
            raise

    def _free(self, _future: asyncio.Future[Any] | None = None) -> None:
        self._users -= 1
        self._places.release()

    def _leave_behind(self, attempt: Attempt, future: asyncio.Future[Any]) -> None:
        self.abandoned += 1
        future.add_done_callback(partial(self._left_ended, attempt))

    def _left_ended(self, attempt: Attempt, future: asyncio.Future[Any]) -> None:
        self.abandoned -= 1
        if future.cancelled():
            return
        error = future.exception()
        if error is not None:
            told = describe(error, attempt.mask)
            logger.warning(
                "%s: its thread, left behind, has failed: %s: %s",
                attempt.job.ref,
                told.kind,
                told.message,
                extra=attempt.label,
            )

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
