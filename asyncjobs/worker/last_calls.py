"""The end of a worker, as the callbacks of its last jobs see it."""

from __future__ import annotations

import asyncio
import time

import anyio

from asyncjobs.guard.own import hide
from asyncjobs.worker.engine.callbacks import Callbacks
from asyncjobs.worker.stop_request import StopRequest

__all__ = ["end_callbacks"]


async def end_callbacks(
    callbacks: Callbacks, stop_request: StopRequest, grace_end_s: float, moment_s: float
) -> None:
    """Wait for the callbacks of jobs that have ended: to the end of the grace or until somebody
    hurries, and then for a moment. Cancel the others. `grace_end_s`: in monotonic seconds."""
    if not callbacks.is_idle:
        left_s = max(grace_end_s - time.monotonic(), 0.0)
        loop = asyncio.get_running_loop()
        idle = hide(loop.create_task(callbacks.wait()))
        hurried = hide(loop.create_task(stop_request.is_hurried_within(left_s)))
        await asyncio.wait({idle, hurried}, return_when=asyncio.FIRST_COMPLETED)
        for task in (idle, hurried):
            task.cancel()
        await asyncio.wait({idle, hurried})
        # rule:17 callbacks hold up the end of a worker no longer than its grace
        with anyio.move_on_after(moment_s):
            await callbacks.wait()
    await callbacks.stop()
