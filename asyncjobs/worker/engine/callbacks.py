"""Calls `on_dead` and `on_discard` of users, beside the jobs."""

from __future__ import annotations

import asyncio
from collections import deque
from contextvars import Context, copy_context
from typing import Final, NamedTuple

from asyncjobs.guard.errand import run_errand
from asyncjobs.guard.guarded import GuardedLog, call
from asyncjobs.guard.own import hide
from asyncjobs.jobs.attempt import JobAttempt
from asyncjobs.jobs.ended import EndCallback, JobEnd
from asyncjobs.jobs.hooks import Hooks
from asyncjobs.model.job import TakenJob
from asyncjobs.policy.redaction import Mask
from asyncjobs.worker.engine.attempt import Attempt
from asyncjobs.worker.engine.error_text import describe

__all__ = ["Callbacks"]

logger = GuardedLog("asyncjobs.worker")

LIMIT_S: Final = 30.0
"""How long one callback may take."""
MOST_AT_ONCE: Final = 20
MOST_WAITING: Final = 10_000
"""Ends whose callbacks have not begun. More are logged and not called."""
END_S: Final = 1.0
"""How long cancelled callbacks may take for their `finally` blocks."""


class _Errand(NamedTuple):
    """The callbacks of one end. `context`: that of the attempt, with its trace."""

    what: str
    callbacks: tuple[EndCallback, ...]
    end: JobEnd
    mask: Mask | None
    context: Context


class Callbacks:
    """Calls the callbacks of jobs that are dead or discarded: after the settlement was made, and
    with no effect on it.

    Owns their tasks, a bounded number, until `stop`. `app`: the callbacks for jobs whose function
    is not known here.
    """

    def __init__(self) -> None:
        self.app = Hooks()
        self._waiting: deque[_Errand] = deque()
        self._tasks: dict[asyncio.Task[None], JobEnd] = {}
        self._is_stopped = False

    # -- what has ended ------------------------------------------------------------------------

    def dead(self, attempt: Attempt, reason: str, error: BaseException | None) -> None:
        """The job of this attempt is dead."""
        call("calling on_dead", self._ended, attempt, reason, error, True)

    def discarded(self, attempt: Attempt, reason: str, error: BaseException | None) -> None:
        """The job of this attempt is discarded."""
        call("calling on_discard", self._ended, attempt, reason, error, False)

    def dead_unknown(
        self, job: TakenJob, name: str, number: int, reason: str, error: BaseException | None
    ) -> None:
        """A job is dead that never had an attempt here."""
        callbacks = self.app.callbacks(is_dead=True)
        if callbacks:
            end = JobEnd(job.ref, name, number, reason, error)
            self._add("on_dead", callbacks, end, None)

    def _ended(
        self, attempt: Attempt, reason: str, error: BaseException | None, is_dead: bool
    ) -> None:
        callbacks = attempt.function.hooks.callbacks(is_dead=is_dead)
        if not callbacks:
            return
        seen: JobAttempt = attempt.seen()
        name = attempt.function.name
        number = attempt.envelope.attempt
        end = JobEnd(attempt.job.ref, name, number, reason, error, seen)
        what = "on_discard"
        if is_dead:
            what = "on_dead"
        self._add(what, callbacks, end, attempt.mask)

    def _add(
        self, what: str, callbacks: tuple[EndCallback, ...], end: JobEnd, mask: Mask | None
    ) -> None:
        # rule:16 the callbacks that wait are bounded
        if self._is_stopped or len(self._waiting) >= MOST_WAITING:
            _log_missed(what, end, "too many of them wait, or the worker has ended")
            return
        self._waiting.append(_Errand(what, callbacks, end, mask, copy_context()))
        self._start_some()

    # -- the tasks -------------------------------------------------------------------------------

    def _start_some(self) -> None:
        while self._waiting and len(self._tasks) < MOST_AT_ONCE:
            errand = self._waiting.popleft()
            loop = asyncio.get_running_loop()
            # Hidden: a job that cancels all tasks does not cancel the callbacks of another one.
            task = hide(loop.create_task(_run(errand), context=errand.context))
            self._tasks[task] = errand.end
            task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        del self._tasks[task]
        if not self._is_stopped:
            self._start_some()

    @property
    def is_idle(self) -> bool:
        """Whether no callback runs or waits."""
        return not (self._tasks or self._waiting)

    async def wait(self) -> None:
        """Until no callback runs or waits."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def stop(self) -> None:
        """Cancel what still runs, and log what was not called to its end."""
        self._is_stopped = True
        left = dict(self._tasks)
        for task, end in left.items():
            _log_missed("a callback", end, "the worker ends, and it was cancelled")
            task.cancel()
        for errand in self._waiting:
            _log_missed(errand.what, errand.end, "the worker ends before it was called")
        self._waiting.clear()
        if left:
            await asyncio.wait(left, timeout=END_S)


async def _run(errand: _Errand) -> None:
    end = errand.end
    for callback in errand.callbacks:
        error = await run_errand(LIMIT_S, callback, end)
        if error is None:
            continue
        told = describe(error, errand.mask)
        exc_text = None
        if told.shown is None:
            exc_text = told.trace
        text = "%s: a callback of %s failed, which changes nothing: %s: %s"
        about = (end.ref, errand.what, told.kind, told.message)
        logger.error(
            text, *about, exc_info=told.shown, exc_text=exc_text, extra=_label(end), stacklevel=2
        )


def _log_missed(what: str, end: JobEnd, why: str) -> None:
    logger.error("%s: %s was not called to its end: %s", end.ref, what, why, extra=_label(end))


def _label(end: JobEnd) -> dict[str, str | int | None]:
    return {
        "job_id": end.ref.id,
        "job": end.name or None,
        "queue": end.ref.queue,
        "attempt": end.number,
    }
