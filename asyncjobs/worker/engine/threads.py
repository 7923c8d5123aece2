"""Runs sync job functions in threads, which nobody can stop."""

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
from asyncjobs.worker.engine.places import Places

__all__ = ["THREAD_NAME", "Threads", "call_job"]

logger = GuardedLog("asyncjobs.worker")

THREAD_NAME: Final = "asyncjobs-job"
"""What the names of the threads begin with."""


class Threads:
    """The executor of sync functions. Owns the worker's threads, which have a limit of their own
    beside the concurrency.
    """

    def __init__(self, most: int, sync_queues: Mapping[str, bool]) -> None:
        """`sync_queues`: the queues with sync job functions, and whether they have no others."""
        self.places = Places(most, sync_queues)
        self._pool = ThreadPoolExecutor(most, thread_name_prefix=THREAD_NAME)
        self._called: dict[Attempt, asyncio.Future[Any]] = {}
        """Attempts whose thread runs. Their place is free when the thread ends."""
        self.is_stopped_by_another: Callable[[Attempt], bool] = lambda attempt: False
        """Whether this attempt was cancelled by another job."""
        self.abandoned = 0
        """Threads that still run although their job was given back."""

    async def acquire(self, attempt: Attempt) -> None:
        """Wait until there is a thread for one more attempt."""
        await self.places.acquire()

    def release(self, attempt: Attempt) -> None:
        """This attempt is over. Its place is free, unless its thread still runs."""
        if attempt in self._called:
            del self._called[attempt]
        else:
            self._free()

    def thread_of(self, attempt: Attempt) -> asyncio.Future[Any] | None:
        """The call in its thread; None before the call, and after `release`."""
        return self._called.get(attempt)

    async def call(self, attempt: Attempt, function: Callable[[], Any]) -> Any:
        """Run `function` in a thread with this task's context. Once for each `acquire`.

        An attempt that is told to stop keeps its slot until the thread ends. Only when the worker
        must let go of the job (shutdown, lost lease), the thread is left behind. Then it may
        overlap with the job's next attempt.
        """
        future = asyncio.wrap_future(self._submit(function))
        self._called[attempt] = future
        future.add_done_callback(self._free)
        while True:
            try:
                return await asyncio.shield(future)
            except asyncio.CancelledError:
                if future.done() and not future.cancelled():
                    return future.result()
                if self.is_stopped_by_another(attempt):
                    # Another job has cancelled it. The thread goes on, and so does the attempt.
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
            # The system has no more threads. But the pool has kept the call for a thread that
            # becomes free. By then the attempt has failed, so the function must not run.
            calls.clear()
            raise

    def _free(self, _future: asyncio.Future[Any] | None = None) -> None:
        self.places.release()

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
    """In a thread: call the job function, unless `calls` was cleared before."""
    if not calls:
        return None
    try:
        return calls.pop()()
    except StopIteration as error:
        # A future cannot hold a StopIteration: its waiter would never wake, nor the slot be freed.
        raise RuntimeError("the job function raised StopIteration") from error
