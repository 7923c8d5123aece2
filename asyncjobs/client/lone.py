"""Sends the job of a lone caller in the caller's own task."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from asyncjobs.client.alarm import Alarm, is_over
from asyncjobs.client.batcher import Batcher
from asyncjobs.client.delivery import Delivery
from asyncjobs.client.waiters import closed_error
from asyncjobs.model.clock import new_id
from asyncjobs.model.job import NewJob
from asyncjobs.store.answers import Placed
from asyncjobs.store.seam import EnqueueBatch

__all__ = ["Lone", "LoneSender"]


class Lone:
    """A caller that sends its job itself, because nobody else waits.

    `left` is set by whoever waits for its end.
    """

    __slots__ = ("cancels", "deadline_s", "is_late", "left", "task")

    def __init__(self, task: asyncio.Task[Any], deadline_s: float) -> None:
        self.task = task
        # Cancellations that were asked for before. `stop` adds one of its own, and `was_stopped`
        # must not take a cancellation by the user for it.
        self.cancels = task.cancelling()
        self.deadline_s = deadline_s
        self.is_late = False
        self.left: asyncio.Future[None] | None = None

    def stop(self) -> None:
        """The deadline has passed: cancel what the caller waits for. Safe to call twice."""
        if not self.is_late:
            self.is_late = True
            self.task.cancel()

    def was_stopped(self) -> bool:
        """Whether a CancelledError comes from `stop` alone. Ask once for each such error."""
        return self.is_late and self.task.uncancel() <= self.cancels

    def leave(self) -> None:
        """The caller has its answer or its error."""
        if self.left is not None and not self.left.done():
            self.left.set_result(None)


class LoneSender:
    """Sends a job in its caller's own task, which saves making and awaiting another task.

    Measured: 97 → 69 µs for an enqueue without company (docs/explanation/performance.md). Callers
    that come while the job is on its way wait in the batcher.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, delivery: Delivery, batcher: Batcher, alarm: Alarm
    ) -> None:
        self.current: Lone | None = None
        self._loop = loop
        self._delivery = delivery
        self._batcher = batcher
        self._alarm = alarm

    async def send(self, job: NewJob, size: int, deadline_s: float) -> Sequence[Placed | None]:
        """The store's answer for this job. Raises StoreUnavailable, NotOpen, or the refusal.

        If other callers enqueue in the same turn of the loop, all go in one batch after all.
        """
        task = asyncio.current_task()
        assert task is not None, "a coroutine that is awaited on the loop has a task"
        batcher = self._batcher
        lone = self.current = Lone(task, deadline_s)
        batcher.is_held = True
        try:
            # Give other tasks one turn of the loop: callers that are ready join this batch.
            await asyncio.sleep(0)
            if batcher.waiting:
                self.current = None
                batcher.is_held = False
                return await batcher.put((job,), size, deadline_s, is_first=True)
            if self._alarm.timer is None:
                self._alarm.arm(deadline_s)
            batch = EnqueueBatch(new_id(), (job,))
            enqueued = await self._delivery.send(batch, lambda: lone.is_late)
        except asyncio.CancelledError:
            if not lone.was_stopped():
                raise
            enqueued = None
        finally:
            # Also after an error: the batcher would wait for ever.
            if self.current is lone:
                self.current = None
                batcher.release()
            lone.leave()
        if enqueued is None:
            error = closed_error() if batcher.is_closed else self._delivery.unavailable()
            raise error from error.__cause__
        if enqueued.refused:
            raise enqueued.refused[job.queue]
        return enqueued.places

    def expire(self, now_s: float) -> float | None:
        """Stop the caller if its deadline has passed. Returns the deadline if it has not."""
        lone = self.current
        if lone is None:
            return None
        if not is_over(lone.deadline_s, now_s):
            return lone.deadline_s
        lone.stop()
        return None

    async def wait(self) -> None:
        """Wait until the lone caller, if there is one, has its answer."""
        if self.current is not None:
            self.current.left = self._loop.create_future()
            await self.current.left

    def stop(self) -> None:
        """Stop the lone caller, if there is one."""
        if self.current is not None:
            self.current.stop()
