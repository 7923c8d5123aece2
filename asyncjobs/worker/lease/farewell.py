"""Gives the jobs of a worker back when its own event loop cannot do it any more."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Collection
from typing import Final

from asyncjobs.errors import AsyncJobsError
from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.host.exits import say_at_once
from asyncjobs.model.job import TakenJob
from asyncjobs.worker.lease.session import Session

__all__ = ["FAREWELL_S", "say_farewell", "within"]

logger = GuardedLog("asyncjobs.worker")

FAREWELL_S: Final = 4.0
"""How long the request to the store may take."""


def say_farewell(
    session: Session, charged: Collection[TakenJob] = (), limit_s: float = FAREWELL_S
) -> None:
    """Release the jobs of this worker. Each of `charged` counts a crash. Blocks.

    Uses a loop and a connection of its own, so call it from a thread that runs no loop.
    """
    # Without a twin, the store can only be used on the worker's loop, which does not turn.
    if session.backend.capabilities.threaded_heartbeat:
        asyncio.run(_say_farewell(session, charged, limit_s))


async def _say_farewell(session: Session, charged: Collection[TakenJob], limit_s: float) -> None:
    twin = session.backend.for_thread()
    try:
        async with asyncio.timeout(limit_s):
            await twin.attach(session.spec).leave(charged)
    except (AsyncJobsError, TimeoutError) as error:
        logger.error(
            "the store did not hear of the end of this worker; when its lease ends, all its jobs "
            "are charged with a crash: %s",
            str(error) or "no answer in time",
        )
    finally:
        await twin.close()


def within(limit_s: float, do: Callable[[], object]) -> None:
    """Call `do` in a thread of its own, and wait for it no longer than `limit_s`.

    If no thread can be started, `do` is left out: a process that a job has filled with threads must
    end all the same. Called in this thread, `do` might block for ever.
    """
    # A daemon: a step that hangs must not keep the process alive.
    thread = threading.Thread(target=do, name="asyncjobs-step", daemon=True)
    try:
        thread.start()
    except RuntimeError:
        say_at_once(b"asyncjobs: no thread can be started; a step of the end is left out\n")
        return
    thread.join(limit_s)
