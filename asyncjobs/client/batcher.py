"""Collects the jobs of many callers into batches. One batch at a time is on its way."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from contextvars import Context
from functools import partial
from typing import Final

from asyncjobs.client.alarm import Alarm, is_over
from asyncjobs.client.delivery import Delivery
from asyncjobs.client.space import Space
from asyncjobs.client.waiters import (
    MAX_BATCH_BYTES,
    MAX_BATCH_JOBS,
    Waiter,
    answer_waiters,
    closed_error,
    fail_waiters,
)
from asyncjobs.guard.own import hide
from asyncjobs.model.clock import new_id
from asyncjobs.model.job import NewJob
from asyncjobs.store.answers import Enqueued, Placed
from asyncjobs.store.seam import EnqueueBatch

__all__ = ["Batcher"]

LEAD_WAITERS: Final = 16
"""With fewer callers in a batch, an early half would cost a trip more than it saves."""


class Batcher:
    """Collects jobs while a batch is on its way, and sends them as the next batch.

    Owns the waiters, the batch in flight and the task that sends it. `is_held`: a lone caller is
    on its way, and the batcher sends nothing until its end. Never cancels a batch because one of
    its callers left.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, delivery: Delivery, alarm: Alarm, timeout_s: float
    ) -> None:
        self.flusher: asyncio.Task[None] | None = None
        self.is_held = False
        self.is_closed = False
        self.waiting: deque[Waiter] = deque()
        self.in_flight: list[Waiter] = []
        self.space = Space(loop, delivery.unavailable)
        self._loop = loop
        self._delivery = delivery
        self._alarm = alarm
        self._timeout_s = timeout_s
        # An empty context. The task sends the jobs of many callers, so it must not run in the
        # context of the first one: their spans and their current job differ.
        self._context = Context()

    # ── a caller's side ──────────────────────────────────────────────────────────────

    def put(
        self, jobs: Sequence[NewJob], size: int, deadline_s: float, *, is_first: bool = False
    ) -> asyncio.Future[Sequence[Placed | None]]:
        """Add these jobs to the next batch. The future gets the batch's answer for them.

        `is_first`: put them before all others, even after the close: the caller came before it.
        Raises NotOpen.
        """
        if self.is_closed and not is_first:
            raise closed_error()
        answer: asyncio.Future[Sequence[Placed | None]] = self._loop.create_future()
        waiter = Waiter(jobs, size, answer, deadline_s)
        if is_first:
            self.waiting.appendleft(waiter)
        else:
            self.waiting.append(waiter)
        space = self.space
        space.jobs += len(jobs)
        space.bytes += size
        # Asked here, not in `arm`: the timer is nearly always set, and a call costs more.
        if self._alarm.timer is None:
            self._alarm.arm(deadline_s)
        if self.flusher is None and not self.is_held:
            self._start()
        return answer

    def release(self) -> None:
        """The lone caller has its answer. Send what was enqueued meanwhile."""
        self.is_held = False
        if self.waiting and self.flusher is None:
            self._start()

    def expire(self, now_s: float) -> float | None:
        """Fail the waiters whose deadline has passed. Returns when to check again.

        The batch in flight goes on for the other callers, until the backend gives up.
        """
        for waiter in (*self.in_flight, *self.waiting):
            if waiter.answer.done():
                continue
            if not is_over(waiter.deadline_s, now_s):
                return waiter.deadline_s
            waiter.fail(self._delivery.unavailable())
        return None if self.flusher is None else now_s + self._timeout_s

    def fail_all(self) -> None:
        """Fail all waiters with NotOpen."""
        for waiter in (*self.in_flight, *self.waiting):
            waiter.fail(closed_error())
        self.waiting.clear()
        self.space.clear()

    # ── the sending side: one task, while anything waits ─────────────────────────────

    def _start(self) -> None:
        # Run inside the context, not given as an argument: a user's own task factory may not
        # take a context.
        start = partial(self._loop.create_task, name="asyncjobs enqueue")
        flusher = hide(self._context.copy().run(start, self._flush()))
        # With an eager task factory the task may be done already, if nothing had to wait.
        self.flusher = None if flusher.done() else flusher

    async def _flush(self) -> None:
        try:
            while self.waiting:
                waiters = self.in_flight = self._next_waiters()
                if waiters:
                    enqueued = await self._send(waiters)
                    if enqueued is not None:
                        await self._tell(waiters, enqueued)
        except asyncio.CancelledError:
            # Only `Client.close` cancels this task, when its time is over.
            self.fail_all()
            raise
        finally:
            self.in_flight = []
            self.flusher = None

    def _next_waiters(self) -> list[Waiter]:
        """The waiters of the next batch. Jobs whose caller has left are not sent."""
        space = self.space
        if space.jobs <= MAX_BATCH_JOBS and space.bytes <= MAX_BATCH_BYTES:
            # The usual case: everything that waits fits into one batch.
            waiters = [waiter for waiter in self.waiting if not waiter.answer.done()]
            self.waiting.clear()
            space.give_back(space.jobs, space.bytes)
            return waiters
        # A waiter whose caller has left takes no room in the batch. Its room in the queue becomes
        # free all the same, so both are counted.
        waiters = []
        jobs = size = taken_jobs = taken_bytes = 0
        while self.waiting:
            waiter = self.waiting[0]
            # rule:11 batches of an enqueue are bounded
            if waiters and (
                jobs + len(waiter.jobs) > MAX_BATCH_JOBS or size + waiter.size > MAX_BATCH_BYTES
            ):
                break
            self.waiting.popleft()
            taken_jobs += len(waiter.jobs)
            taken_bytes += waiter.size
            if not waiter.answer.done():
                waiters.append(waiter)
                jobs += len(waiter.jobs)
                size += waiter.size
        space.give_back(taken_jobs, taken_bytes)
        return waiters

    async def _send(self, waiters: list[Waiter]) -> Enqueued | None:
        """The answer for all jobs of these waiters; None if the callers got an error instead."""
        jobs = [job for waiter in waiters for job in waiter.jobs]
        batch = EnqueueBatch(new_id(), jobs)
        try:
            return await self._delivery.send(
                batch, lambda: all(waiter.answer.done() for waiter in waiters)
            )
        except Exception as error:
            fail_waiters(waiters, error)
            return None

    async def _tell(self, waiters: list[Waiter], enqueued: Enqueued) -> None:
        """Answer the callers of a batch so that they and the store work at the same time.

        If jobs wait, their batch is sent first, and these callers go on while the store works.
        If none wait, half the callers are woken one turn of the loop early. Otherwise all would
        enqueue in lockstep, and the store would idle between batches.
        """
        # These callers have an answer, so a close or a deadline must not fail them any more.
        self.in_flight = []
        place = 0
        if len(waiters) >= LEAD_WAITERS and not self.waiting:
            half = len(waiters) // 2
            place = answer_waiters(waiters[:half], enqueued, 0)
            waiters = waiters[half:]
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                answer_waiters(waiters, enqueued, place)
                raise
        if self.waiting:
            # Not at once: `_flush` goes on first, and sends the next batch.
            self._loop.call_soon(answer_waiters, waiters, enqueued, place)
        else:
            answer_waiters(waiters, enqueued, place)
