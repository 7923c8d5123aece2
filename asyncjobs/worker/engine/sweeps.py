"""Jobs that cancel all tasks of the event loop: found out, and their neighbours given back.

`for task in asyncio.all_tasks(): task.cancel()` is a common clean-up. The worker's own tasks
are hidden from it. The attempts of other jobs are not: a job that is stopped by another one
must not fail for it.
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

__all__ = ["Sweeps"]

logger = GuardedLog("asyncjobs.worker")


class Sweeps:
    """Knows when a job has cancelled all tasks, and which. Owns the decoy while started."""

    def __init__(self, clock_s: Callable[[], float]) -> None:
        self._clock_s = clock_s
        self._swept_s = float("-inf")
        self._culprit: TakenJob | None = None
        self._decoy: _Decoy | None = None

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._decoy = _Decoy(loop, self._note)

    async def stop(self) -> None:
        decoy, self._decoy = self._decoy, None
        if decoy is not None:
            decoy.end()
            await asyncio.wait({decoy})

    def _note(self, loop: asyncio.AbstractEventLoop, culprit: Attempt) -> None:
        is_told = self._culprit is culprit.job
        self._swept_s, self._culprit = self._clock_s(), culprit.job
        if self._decoy is not None:
            # The next sweep must be found out, too.
            self._decoy = _Decoy(loop, self._note)
        if is_told:
            # It sweeps until no task is left, as it hopes.
            return
        logger.error(
            "%s has cancelled all tasks of the event loop; other jobs that this stops are given "
            "back, and spend no attempt: cancel the tasks that the job has started, and no others",
            culprit.job.ref,
            extra=culprit.label,
        )

    def hit(self, attempt: Attempt) -> bool:
        """Whether this attempt was cancelled by another job. Asked when it was cancelled."""
        return (
            attempt.reason is None
            and attempt.started_s <= self._swept_s
            and attempt.job is not self._culprit
            and attempt.task is not None
            and attempt.task.cancelling() > 0
        )


class _Decoy(asyncio.Task[None]):
    """Stands among all tasks and does nothing: a job that cancels all cancels this one, and
    another takes its place. It does end then, for the job may wait until all have ended."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_swept: Callable[[asyncio.AbstractEventLoop, Attempt], None],
    ) -> None:
        self._over: asyncio.Future[None] = loop.create_future()
        self._on_swept = on_swept
        # Not in the context of a job that sweeps: it would keep the job's arguments.
        super().__init__(self._stand(), loop=loop, name="asyncjobs-decoy", context=Context())

    async def _stand(self) -> None:
        await self._over

    def end(self) -> None:
        if not self._over.done():
            self._over.set_result(None)

    def cancel(self, msg: Any | None = None) -> bool:
        culprit = attempt_of(_current.get(None))
        if culprit is not None and not self.cancelling():
            self._on_swept(self.get_loop(), culprit)
        # Else it is the end of the program, or somebody who cancels it twice.
        return super().cancel(msg)
