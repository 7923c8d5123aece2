"""Runs the event loop again when a job has stopped it, and logs which job that was.

With asyncio, SystemExit and KeyboardInterrupt of a task or callback stop the loop itself. So
`sys.exit()` in a task that a job has started would end the worker. Nothing is lost when the loop
is run again: the task has ended with its exception, and who awaits the task gets that.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from contextvars import Context
from typing import Any, Final

from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.jobs.context import JobContext, _current
from asyncjobs.worker.engine.runner import attempt_in

__all__ = ["job_behind", "run_until_done"]

logger = GuardedLog("asyncjobs.worker")

_HANDLE: Final = asyncio.Handle._run.__code__


def run_until_done(
    loop: asyncio.AbstractEventLoop,
    task: asyncio.Task[Any],
    on_interrupt: Callable[[], None],
) -> None:
    """Run the loop until the task is done, whatever jobs raise in it or do to it.

    on_interrupt: called for a KeyboardInterrupt, which may come from a signal.
    Raises the error that has broken the loop itself: then it cannot go on.
    """
    task.add_done_callback(lambda _: loop.stop())
    while not task.done():
        try:
            loop.run_forever()
        # rule:17 a loop that SystemExit of a job has ended runs again
        except (SystemExit, KeyboardInterrupt) as error:
            if not task.done():
                _tell(error)
            if isinstance(error, KeyboardInterrupt):
                on_interrupt()
        else:
            if not task.done():
                logger.error("a job has stopped the event loop (loop.stop()); it goes on")


def _tell(error: BaseException) -> None:
    context = job_behind(error)
    label: dict[str, Any] = {}
    who = "a job"
    if context is not None:
        who = f"{context.ref} ({context.name})"
        label = {
            "job_id": context.id,
            "job": context.name,
            "queue": context.queue,
            "attempt": context.attempt,
        }
    logger.error(
        "%s: %s was raised in a task or callback that it has started; that ends no worker, the "
        "event loop goes on; the attempt fails when it awaits that task",
        who,
        type(error).__name__,
        extra=label,
    )


def job_behind(error: BaseException) -> JobContext | None:
    """The job in whose task or callback the error was raised; None if that is not known."""
    trace = error.__traceback__
    while trace is not None:
        # With uvloop the error may already have passed through the attempt that awaits the task.
        attempt = attempt_in(trace.tb_frame)
        if attempt is not None:
            return attempt.context
        trace = trace.tb_next
    for context in _contexts(error):
        current = context.get(_current)
        if current is not None:
            return current.context
    return None


def _contexts(error: BaseException) -> Iterator[Context]:
    trace = error.__traceback__
    while trace is not None:
        # Only handles of asyncio's own loop: those of uvloop are no Python code.
        if trace.tb_frame.f_code is _HANDLE:
            context = getattr(trace.tb_frame.f_locals["self"], "_context", None)
            if isinstance(context, Context):
                yield context
        trace = trace.tb_next
    # The task that has ended with this error. Nothing else refers to the task, so all objects are
    # searched. That is slow, but rare.
    for task in gc.get_objects():
        # Not isinstance: it would ask the users' objects for their class, and they may raise.
        if issubclass(type(task), asyncio.Task) and getattr(task, "_exception", None) is error:
            yield from (held for held in gc.get_referents(task) if isinstance(held, Context))
