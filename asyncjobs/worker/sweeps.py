"""Jobs that cancel all tasks of the event loop: found out, and their neighbours given back.

`for task in asyncio.all_tasks(): task.cancel()` is a common clean-up. The worker's own tasks
are hidden from it. The attempts of other jobs are not: a job that is stopped by another one
must not fail for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from asyncjobs.context import _current
from asyncjobs.guarded import GuardedLog
from asyncjobs.job import TakenJob
from asyncjobs.worker.run import Run

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
        self._decoy = _Decoy(self._note)

    async def stop(self) -> None:
        decoy, self._decoy = self._decoy, None
        if decoy is not None:
            decoy.end()
            await asyncio.wait({decoy})

    def _note(self, culprit: Run) -> None:
        self._swept_s, self._culprit = self._clock_s(), culprit.job
        logger.error(
            "%s has cancelled all tasks of the event loop; other jobs that this stops are given "
            "back, and spend no attempt: cancel the tasks that the job has started, and no others",
            culprit.job.ref,
            extra=culprit.label,
        )

    def hit(self, run: Run) -> bool:
        """Whether this attempt was cancelled by another job. Asked when it was cancelled."""
        return (
            run.reason is None
            and run.started_s <= self._swept_s
            and run.job is not self._culprit
            and run.task is not None
            and run.task.cancelling() > 0
        )


class _Decoy(asyncio.Task[None]):
    """Stands among all tasks and does nothing: a job that cancels all cancels this one."""

    def __init__(self, on_swept: Callable[[Run], None]) -> None:
        loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = loop.create_future()
        self._on_swept = on_swept
        super().__init__(self._stand(), loop=loop, name="asyncjobs-decoy")

    async def _stand(self) -> None:
        await self._over

    def end(self) -> None:
        if not self._over.done():
            self._over.set_result(None)

    def cancel(self, msg: Any | None = None) -> bool:
        culprit = _current.get(None)
        if isinstance(culprit, Run):
            self._on_swept(culprit)
            return False
        # The end of the program.
        return super().cancel(msg)
