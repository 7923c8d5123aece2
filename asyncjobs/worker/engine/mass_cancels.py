"""Finds jobs that cancel all tasks of the event loop, so that the others are given back.

`for task in asyncio.all_tasks(): task.cancel()` is a common clean-up. The worker's own tasks
are hidden from it. The attempts of other jobs are not, and must not fail for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import Any

from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.jobs.context import _current
from asyncjobs.model.job import TakenJob
from asyncjobs.worker.engine.attempt import Attempt, attempt_of

__all__ = ["MassCancels"]

logger = GuardedLog("asyncjobs.worker")


class MassCancels:
    """Knows which job has cancelled all tasks, and when. Owns the decoy while started."""

    def __init__(self, clock_s: Callable[[], float]) -> None:
        self._clock_s = clock_s
        self._cancelled_s = float("-inf")
        self._culprit: TakenJob | None = None
        self._decoy: _Decoy | None = None

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._decoy = _Decoy(loop, self._note)

    async def stop(self) -> None:
        decoy = self._decoy
        self._decoy = None
        if decoy is not None:
            decoy.end()
            await asyncio.wait({decoy})

    def _note(self, loop: asyncio.AbstractEventLoop, culprit: Attempt) -> None:
        is_told = self._culprit is culprit.job
        self._cancelled_s = self._clock_s()
        self._culprit = culprit.job
        if self._decoy is not None:
            # The next mass cancel must be found, too.
            self._decoy = _Decoy(loop, self._note)
        if is_told:
            # It cancels tasks again and again until none is left, or so it hopes.
            return
        logger.error(
            "%s has cancelled all tasks of the event loop; other jobs that this stops are given "
            "back, and spend no attempt: cancel the tasks that the job has started, and no others",
            culprit.job.ref,
            extra=culprit.label,
        )

    def have_stopped(self, attempt: Attempt) -> bool:
        """Whether another job has cancelled this attempt. Ask when it was cancelled."""
        return (
            attempt.reason is None
            and attempt.started_s <= self._cancelled_s
            and attempt.job is not self._culprit
            and attempt.task is not None
            and attempt.task.cancelling() > 0
        )


class _Decoy(asyncio.Task[None]):
    """A task that does nothing. A job that cancels all tasks cancels this one, too. Then it ends,
    because the job may wait until all have ended, and another decoy takes its place."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_cancelled: Callable[[asyncio.AbstractEventLoop, Attempt], None],
    ) -> None:
        self._over: asyncio.Future[None] = loop.create_future()
        self._on_cancelled = on_cancelled
        # In an empty context: the one of the job that cancels would keep the job's arguments.
        super().__init__(self._stand(), loop=loop, name="asyncjobs-decoy", context=Context())

    async def _stand(self) -> None:
        await self._over

    def end(self) -> None:
        if not self._over.done():
            self._over.set_result(None)

    def cancel(self, msg: Any | None = None) -> bool:
        culprit = attempt_of(_current.get(None))
        if culprit is not None and not self.cancelling():
            self._on_cancelled(self.get_loop(), culprit)
        # Without an attempt, it is the end of the program. Or it is cancelled for a second time.
        return super().cancel(msg)
