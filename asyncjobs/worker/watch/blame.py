"""Finds the job that blocks the event loop, as far as another thread can tell.

Also describes the threads that leave the loop no turn. Most likely they run sync jobs that compute.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from contextvars import Context
from types import FrameType
from typing import Any, Final, NamedTuple

from asyncjobs.jobs.context import Current, JobContext, _current
from asyncjobs.worker.engine import threads
from asyncjobs.worker.engine.attempt import Attempt, attempt_of
from asyncjobs.worker.engine.runner import ATTEMPT_CODE
from asyncjobs.worker.engine.running import Running
from asyncjobs.worker.engine.threads import THREAD_NAME, Threads
from asyncjobs.worker.watch.stacks import frames_above, stack_text
from asyncjobs.worker.watch.starving import cpu_of_thread

__all__ = ["Blocker", "describe_threads", "find_blocker"]

SHOWN_JOBS: Final = 3
_CALL: Final = threads.call_job.__code__
_THREADS: Final = Threads.call.__code__
_HANDLE: Final = asyncio.Handle._run.__code__
_DEBUGGERS: Final = frozenset({"bdb", "pdb", "ipdb", "pudb", "pydevd", "debugpy", "_pydevd_bundle"})


class Blocker(NamedTuple):
    """What keeps the loop's thread busy. `attempt`: the job's, while it holds its slot."""

    context: JobContext | None
    attempt: Attempt | None
    stack: str
    is_debugged: bool

    def __str__(self) -> str:
        if self.context is None:
            return "no job, the loop itself"
        return f"{self.context.ref} ({self.context.name})"

    @property
    def label(self) -> dict[str, Any]:
        """The fields of a log line about it."""
        context = self.context
        if context is None:
            return {}
        return {
            "job_id": context.id,
            "job": context.name,
            "queue": context.queue,
            "attempt": context.attempt,
        }


def find_blocker(thread: int, loop: asyncio.AbstractEventLoop, running: Running) -> Blocker:
    """What runs in the loop's thread at this moment."""
    frames = list(frames_above(sys._current_frames().get(thread)))
    place = next((n for n, frame in enumerate(frames) if frame.f_code is ATTEMPT_CODE), None)
    # A sync function runs in a thread. On the loop its attempt only hands the call over, so the job
    # is not to blame for what happens there.
    is_handing = any(frame.f_code is _THREADS for frame in frames[:place])
    current = None
    if not is_handing:
        current = _of_task(loop)
    if place is None:
        # Not the job's own task. A task or callback that the job has started has its context.
        place = next((n for n, frame in enumerate(frames) if frame.f_code is _HANDLE), None)
        current = current or _of_handle(frames, place)
    # A plain call of a job function has a context of its own. The attempt that has made the call
    # is what blocks.
    attempt = attempt_of(current)
    if attempt is not None:
        current = attempt
        if attempt not in running:
            attempt = None
    context = None
    if current is not None:
        context = current.context
    text = stack_text(reversed(frames[:place]))
    return Blocker(context, attempt, text, _is_debugged(frames))


def describe_threads(running: Running) -> tuple[str, str]:
    """The sync jobs that have a thread, as text, and the stack of the busiest thread."""
    attempts = running.in_threads()
    names = [f"{attempt.job.ref} ({attempt.function.name})" for attempt in attempts[:SHOWN_JOBS]]
    if len(attempts) > SHOWN_JOBS:
        names.append(f"{len(attempts) - SHOWN_JOBS:,} more")
    frames = sys._current_frames()
    busy = [
        (cpu_of_thread(thread.native_id or 0) or 0.0, thread.ident)
        for thread in threading.enumerate()
        if thread.name.startswith(THREAD_NAME)
    ]
    if not busy:
        return ", ".join(names) or "none", ""
    _, ident = max(busy, key=lambda pair: pair[0])
    found = list(frames_above(frames.get(ident or 0)))
    place = next((n for n, frame in enumerate(found) if frame.f_code is _CALL), None)
    return ", ".join(names) or "none", stack_text(reversed(found[:place]))


def _of_task(loop: asyncio.AbstractEventLoop) -> Current | None:
    task = asyncio.current_task(loop)
    if task is None:
        return None
    if sys.version_info >= (3, 12):
        return task.get_context().get(_current)
    # Before Python 3.12 a task does not show its context, so it is looked for among the objects
    # that the task refers to.
    for held in gc.get_referents(task):
        if isinstance(held, Context):
            return held.get(_current)
    return None


def _of_handle(frames: list[FrameType], place: int | None) -> Current | None:
    # Only handles of asyncio's own loop: those of uvloop are no Python code and have no frames.
    if place is None:
        return None
    context = getattr(frames[place].f_locals["self"], "_context", None)
    if not isinstance(context, Context):
        return None
    return context.get(_current)


def _is_debugged(frames: list[FrameType]) -> bool:
    """Whether somebody may be debugging the process step by step."""
    if sys.gettrace() is not None:
        return True
    if sys.version_info >= (3, 12):
        monitoring = sys.monitoring
        if monitoring.get_tool(monitoring.DEBUGGER_ID) is not None:
            return True
    # Each thread has its own tracing. That of the loop's thread shows in its frames.
    return any(
        frame.f_trace is not None
        or str(frame.f_globals.get("__name__", "")).partition(".")[0] in _DEBUGGERS
        for frame in frames
    )
