"""What jobs let out of the event loop: found, told, and the loop goes on.

asyncio lets SystemExit and KeyboardInterrupt of a task or callback stop the loop itself.
`sys.exit()` in a task that a job has started would so end the worker. Nothing is lost when
the loop is run again: the task has ended with its exception, and whoever awaits it gets it.
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

    on_interrupt: called for a KeyboardInterrupt, which may be a signal's.
    Raises what has broken the loop itself: then it cannot go on.
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
    """The job in whose task or callback it was raised, as far as that can be told."""
    trace = error.__traceback__
    while trace is not None:
        # uvloop lets it out after the attempt that awaits the task has got it, too.
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
        # A handle of asyncio's own loop; those of another loop are no Python code.
        if trace.tb_frame.f_code is _HANDLE:
            context = getattr(trace.tb_frame.f_locals["self"], "_context", None)
            if isinstance(context, Context):
                yield context
        trace = trace.tb_next
    # The task that has ended with it. Nobody else knows that task; this is rare enough.
    for task in gc.get_objects():
        # Not isinstance, which asks objects of users for their class.
        if issubclass(type(task), asyncio.Task) and getattr(task, "_exception", None) is error:
            yield from (held for held in gc.get_referents(task) if isinstance(held, Context))
