"""Sync job functions run in threads, which nobody can stop."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from asyncjobs.worker.run import Reason, Run

__all__ = ["Threads"]

logger = logging.getLogger("asyncjobs.worker")


class Threads:
    """Owns the worker's threads: a bound of its own, apart from the concurrency."""

    def __init__(self, most: int) -> None:
        self._pool = ThreadPoolExecutor(most, thread_name_prefix="asyncjobs-job")
        self.abandoned = 0
        """Threads still running although their job has been given back."""

    async def call(self, run: Run, function: Callable[[], Any]) -> Any:
        """Run `function` in a thread with this task's context.

        Told to stop, an attempt whose thread has begun keeps its slot until the thread
        ends. Only when the worker must let go (shutdown, lost lease) is it left behind;
        then it may overlap with the job's next run.
        """
        context = contextvars.copy_context()
        begun = self._pool.submit(partial(context.run, function))
        future = asyncio.wrap_future(begun)
        while True:
            try:
                return await asyncio.shield(future)
            except asyncio.CancelledError:
                if future.done() or begun.cancel():
                    raise
                if run.reason in (None, Reason.SHUTDOWN, Reason.LEASE_LOST):
                    self._abandon(future)
                    raise
                logger.warning(
                    "%s: its thread cannot be stopped (%s); it keeps its slot until it ends",
                    run.job.ref,
                    run.reason.value,
                    extra=run.label,
                )

    def _abandon(self, future: asyncio.Future[Any]) -> None:
        self.abandoned += 1

        def ended(future: asyncio.Future[Any]) -> None:
            self.abandoned -= 1
            if not future.cancelled() and (error := future.exception()):
                logger.warning("a thread left behind has failed: %r", error)

        future.add_done_callback(ended)

    def close(self) -> None:
        """Let the threads end by themselves."""
        self._pool.shutdown(wait=False, cancel_futures=True)
