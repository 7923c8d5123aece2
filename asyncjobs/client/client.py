"""Sends jobs to the store: many concurrent enqueues, one batch at a time."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import Context
from functools import partial
from typing import Final

from asyncjobs.backends.base import Backend, EnqueueBatch, Enqueued, Placed
from asyncjobs.client.calls import (
    MAX_BATCH_BYTES,
    MAX_BATCH_JOBS,
    Call,
    Lone,
    Part,
    answer_calls,
    by_queue,
    closed_error,
    fail_calls,
    in_chunks,
    maybe_stored_error,
    partly_stored_error,
)
from asyncjobs.clock import new_id
from asyncjobs.config import AppSettings
from asyncjobs.errors import PayloadTooLarge, StoreError, StoreUnavailable
from asyncjobs.events import Events, JobEnqueued, tell_failed, tell_stored
from asyncjobs.job import NewJob
from asyncjobs.own import hide

__all__ = ["Client"]

MAX_WAITING_JOBS: Final = 10_000
MAX_WAITING_BYTES: Final = 64 << 20
FIRST_PAUSE_S: Final = 0.05
LONGEST_PAUSE_S: Final = 1.0
LEAD_CALLS: Final = 16
"""With fewer callers a second trip costs more than is won by it."""


class Client:
    """The way of new jobs to one store, on one event loop.

    Owns the calls that wait, the batch in flight and the task that sends it. What is
    enqueued in one turn of the loop, or while a batch is in flight, becomes the next
    batch. Never owns the backend, and never cancels a batch because one of its callers left.
    """

    def __init__(self, backend: Backend, settings: AppSettings, events: Events) -> None:
        """To be made on the loop that it will run on."""
        self.backend = backend
        self.loop = asyncio.get_running_loop()
        self.queues: set[str] = set()
        self._max_payload, self._timeout_s = settings.max_payload, settings.connect_timeout_s
        self._events = events
        self._waiting: deque[Call] = deque()
        self._waiting_jobs = 0
        self._waiting_bytes = 0
        self._in_flight: list[Call] = []
        self._space: deque[asyncio.Future[None]] = deque()
        self._lone: Lone | None = None
        self._flusher: asyncio.Task[None] | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._failure: StoreUnavailable | None = None
        self._closed = False
        # Not that of the caller who comes first: its job and span are not those of the others.
        self._context = Context()

    async def enqueue(self, job: NewJob, name: str) -> Placed | None:
        """Store one job of the job function `name`; None when it is new, else the job in its
        place.

        Raises PayloadTooLarge, StoreFull, StoreUnavailable, and NotOpen after close().
        """
        size = len(job.envelope)
        if size > self._max_payload:
            raise self._too_large(job, name)
        deadline_s = self.loop.time() + self._timeout_s
        try:
            if self._flusher is None and self._lone is None and not self._closed:
                (place,) = await self._send_alone(job, size, deadline_s)
            else:
                if self._space or self._is_full():
                    await self._wait_for_space(deadline_s)
                (place,) = await self._put((job,), size, deadline_s)
        except Exception as error:
            waited_s = self.loop.time() - deadline_s + self._timeout_s
            tell_failed(self._events, (job,), (name,), error, waited_s)
            raise
        if self._events.active:
            duration_s = self.loop.time() - (deadline_s - self._timeout_s)
            self._events.emit(JobEnqueued(job.ref, name, place is None, size, duration_s))
        return place

    async def enqueue_many(
        self, jobs: Sequence[NewJob], names: Sequence[str]
    ) -> list[Placed | None]:
        """Store many jobs, in batches; for each: None when it is new, else the job in its place.

        Nothing is stored when one of them is too large. Raises like `enqueue`, StoreFull only
        when none of them is stored; else StoreUnavailable says how many are.
        """
        for job, name in zip(jobs, names, strict=True):
            if len(job.envelope) > self._max_payload:
                raise self._too_large(job, name)
        answers: list[Placed | None] = []
        stored, began_s = 0, self.loop.time()
        for chunk, size in in_chunks(jobs):
            deadline_s = self.loop.time() + self._timeout_s
            own_names = names[len(answers) : len(answers) + len(chunk)]
            try:
                if self._space or self._is_full():
                    await self._wait_for_space(deadline_s)
                parts = by_queue(chunk, size)
                sent = [self._put(part.jobs, part.size, deadline_s) for part in parts]
            except Exception as error:
                tell_failed(self._events, chunk, own_names, error, self.loop.time() - began_s)
                raise
            found, failure = await self._gather(own_names, parts, sent, began_s)
            stored += len(found)
            if failure is not None:
                is_refusal = isinstance(failure, StoreError)
                if stored and is_refusal and not isinstance(failure, StoreUnavailable):
                    raise partly_stored_error(stored, len(jobs), failure) from failure
                raise failure
            answers += [found[place] for place in range(len(chunk))]
        return answers

    async def _gather(
        self,
        names: Sequence[str],
        parts: Sequence[Part],
        sent: Sequence[asyncio.Future[Sequence[Placed | None]]],
        began_s: float,
    ) -> tuple[dict[int, Placed | None], Exception | None]:
        """What became of the parts of a chunk: the answers for the places that are stored, and
        the first error. Tells of both, a part at a time: a later one may fail."""
        found: dict[int, Placed | None] = {}
        failure: Exception | None = None
        answers = await asyncio.gather(*sent, return_exceptions=True)
        for part, answer in zip(parts, answers, strict=True):
            own_names = [names[place] for place in part.places]
            waited_s = self.loop.time() - began_s
            if isinstance(answer, Exception):
                failure = failure or answer
                tell_failed(self._events, part.jobs, own_names, answer, waited_s)
            elif isinstance(answer, BaseException):
                raise answer
            else:
                found.update(zip(part.places, answer, strict=True))
                if self._events.active:
                    stored = [place is None for place in answer]
                    tell_stored(self._events, part.jobs, own_names, stored, waited_s)
        return found, failure

    async def close(self) -> None:
        """Send what waits, for at most `connect_timeout`; fail the rest with NotOpen."""
        self._closed = True
        try:
            async with asyncio.timeout(self._timeout_s):
                if (lone := self._lone) is not None:
                    lone.left = self.loop.create_future()
                    await lone.left
                if (flusher := self._flusher) is not None:
                    await asyncio.wait([flusher])
        except TimeoutError:
            pass  # the others get NotOpen
        finally:
            if self._alarm is not None:
                self._alarm.cancel()
            if (flusher := self._flusher) is not None:
                flusher.cancel()
            if (lone := self._lone) is not None:
                lone.stop()
            self._fail_all()
        if flusher is not None:
            await asyncio.wait([flusher])

    # ── a caller's side ──────────────────────────────────────────────────────────────

    def _put(
        self, jobs: Sequence[NewJob], size: int, deadline_s: float, *, is_first: bool = False
    ) -> asyncio.Future[Sequence[Placed | None]]:
        """Let these jobs wait for the next batch; its answer for them. Raises NotOpen."""
        if self._closed and not is_first:  # that one has come before the end
            raise closed_error()
        loop = self.loop
        answer: asyncio.Future[Sequence[Placed | None]] = loop.create_future()
        call = Call(jobs, size, answer, deadline_s)
        if is_first:
            self._waiting.appendleft(call)
        else:
            self._waiting.append(call)
        self._waiting_jobs += len(jobs)
        self._waiting_bytes += size
        if self._alarm is None:
            self._arm(deadline_s)
        if self._flusher is None and self._lone is None:
            self._start_flusher()
        return answer

    async def _send_alone(
        self, job: NewJob, size: int, deadline_s: float
    ) -> Sequence[Placed | None]:
        """Send a job in its caller's own task: no other task to make and to wait for.

        Those who come in the same turn of the loop go with it in one batch, after all.
        """
        task = asyncio.current_task()
        assert task is not None, "a coroutine that is awaited on the loop has a task"
        lone = self._lone = Lone(task, deadline_s)
        try:
            await asyncio.sleep(0)
            if self._waiting:
                self._lone = None
                return await self._put((job,), size, deadline_s, is_first=True)
            if self._alarm is None:
                self._arm(deadline_s)
            enqueued = await self._send(EnqueueBatch(new_id(), (job,)), lambda: lone.is_late)
        except asyncio.CancelledError:
            if not lone.was_stopped():
                raise
            enqueued = None
        finally:
            if self._lone is lone:
                self._lone = None
            if self._waiting and self._flusher is None and self._lone is None:
                self._start_flusher()
            lone.leave()
        if enqueued is None:
            error = closed_error() if self._closed else self._unavailable()
            raise error from error.__cause__
        if enqueued.refused:
            raise enqueued.refused[job.queue]
        return enqueued.places

    def _start_flusher(self) -> None:
        # Not as an argument: a task factory of the user's own may take no context.
        start = partial(self.loop.create_task, name="asyncjobs enqueue")
        flusher = hide(self._context.copy().run(start, self._flush()))
        # Of an eager task factory it may be over by now: nothing had to be waited for.
        self._flusher = None if flusher.done() else flusher

    def _is_full(self) -> bool:
        return self._waiting_jobs >= MAX_WAITING_JOBS or self._waiting_bytes >= MAX_WAITING_BYTES

    async def _wait_for_space(self, deadline_s: float) -> None:
        turn: asyncio.Future[None] = self.loop.create_future()
        self._space.append(turn)
        try:
            async with asyncio.timeout_at(deadline_s):
                await turn
        except TimeoutError:
            raise self._unavailable() from None
        except asyncio.CancelledError:
            # Called and cancelled in one turn of the loop: the place is the next one's.
            if turn.done() and not turn.cancelled():
                self._give_space(1)
            raise

    def _give_space(self, places: int) -> None:
        while self._space and places > 0:
            turn = self._space.popleft()
            if not turn.done():
                turn.set_result(None)
                places -= 1

    def _too_large(self, job: NewJob, name: str) -> PayloadTooLarge:
        error = PayloadTooLarge(
            f"{name}: the job {job.ref} is {len(job.envelope):,} bytes, over max_payload="
            f"{self._max_payload:,}; store the data elsewhere and pass its key, or "
            "raise max_payload on the app"
        )
        tell_failed(self._events, (job,), (name,), error, 0.0)
        return error

    # ── the sending side: one task, while anything waits ─────────────────────────────

    async def _flush(self) -> None:
        try:
            while self._waiting:
                calls = self._in_flight = self._next_calls()
                if calls:
                    enqueued = await self._send_calls(calls)
                    if enqueued is not None:
                        await self._tell(calls, enqueued)
        except asyncio.CancelledError:
            self._fail_all()
            raise
        finally:
            self._in_flight = []
            self._flusher = None

    def _next_calls(self) -> list[Call]:
        """The calls of the next batch. One whose caller has left is not sent at all."""
        calls: list[Call] = []
        jobs = size = taken = 0
        if self._waiting_jobs <= MAX_BATCH_JOBS and self._waiting_bytes <= MAX_BATCH_BYTES:
            calls = [call for call in self._waiting if not call.answer.done()]
            taken, self._waiting_jobs, self._waiting_bytes = self._waiting_jobs, 0, 0
            self._waiting.clear()
        while self._waiting:
            call = self._waiting[0]
            # rule:11 batches of an enqueue are bounded
            if calls and (
                jobs + len(call.jobs) > MAX_BATCH_JOBS or size + call.size > MAX_BATCH_BYTES
            ):
                break
            self._waiting.popleft()
            self._waiting_jobs -= len(call.jobs)
            self._waiting_bytes -= call.size
            taken += len(call.jobs)
            if not call.answer.done():
                calls.append(call)
                jobs += len(call.jobs)
                size += call.size
        self._give_space(taken)
        return calls

    async def _tell(self, calls: list[Call], enqueued: Enqueued) -> None:
        """Answer the callers of a batch so that they and the store work side by side.

        What waits is sent first: its batch is with the store while these callers go on.
        Callers who all wait for one batch would all wait for the next one, too, so one
        half of them gets a lead of one turn.
        """
        self._in_flight = []
        place = 0
        if len(calls) >= LEAD_CALLS and not self._waiting:
            half = len(calls) // 2
            place = answer_calls(calls[:half], enqueued, 0)
            calls = calls[half:]
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                answer_calls(calls, enqueued, place)
                raise
        if self._waiting:
            self.loop.call_soon(answer_calls, calls, enqueued, place)
        else:
            answer_calls(calls, enqueued, place)

    async def _send_calls(self, calls: list[Call]) -> Enqueued | None:
        """The answer for all jobs of these calls; None when the callers have an error."""
        jobs = [job for call in calls for job in call.jobs]
        batch = EnqueueBatch(new_id(), jobs)
        try:
            return await self._send(batch, lambda: all(call.answer.done() for call in calls))
        except Exception as error:
            fail_calls(calls, error)
            return None

    async def _send(self, batch: EnqueueBatch, is_given_up: Callable[[], bool]) -> Enqueued | None:
        """The answer for a batch; None when nobody wants it any more.

        Sent again as it is while the store is away: by its token a batch that was stored,
        and whose reply was lost, is answered again and not stored again.
        """
        pause_s, unsure = FIRST_PAUSE_S, False
        # Much shorter than a caller's whole time: those who wait behind want a try, too.
        longest_s = min(LONGEST_PAUSE_S, self._timeout_s / 8)
        while True:
            try:
                enqueued = await self.backend.enqueue(batch)
                break
            except StoreUnavailable as error:
                self._failure, unsure = error, True
            await asyncio.sleep(random.uniform(0, min(pause_s, longest_s)))
            pause_s *= 2
            if is_given_up():
                return None
        self._failure = None
        for job in batch.jobs:
            if job.queue not in self.queues:
                self.queues.add(job.queue)
        if enqueued.refused and unsure:
            # A try before may have stored these jobs: then they were not refused, and who is
            # told so would enqueue them twice.
            refused = {queue: maybe_stored_error(why) for queue, why in enqueued.refused.items()}
            return enqueued._replace(refused=refused)
        return enqueued

    # ── deadlines: one timer for all calls, however many wait ────────────────────────

    def _arm(self, deadline_s: float) -> None:
        if self._alarm is None:
            self._alarm = self.loop.call_at(deadline_s, self._expire, context=self._context)

    def _expire(self) -> None:
        """Fail the calls whose time is over, and come back for the next one.

        Set anew when it has gone off, not for each call. The batch in flight goes on for
        the other callers, and until the backend gives up.
        """
        self._alarm = None
        now_s = self.loop.time()
        next_s: float | None = None
        if (lone := self._lone) is not None:
            if lone.deadline_s <= now_s + 0.001:
                lone.stop()
            else:
                next_s = lone.deadline_s
        for call in (*self._in_flight, *self._waiting):
            if call.answer.done():
                continue
            # A timer may fire early by the clock's resolution.
            if call.deadline_s <= now_s + 0.001:
                call.fail(self._unavailable())
            else:
                next_s = min(next_s or call.deadline_s, call.deadline_s)
                break
        if next_s is None and self._flusher is not None:
            next_s = now_s + self._timeout_s
        if next_s is not None:
            self._arm(next_s)

    def _unavailable(self) -> StoreUnavailable:
        why = f": {self._failure}" if self._failure is not None else ""
        error = StoreUnavailable(
            f"the store at {self.backend.address} did not confirm the enqueue within "
            f"connect_timeout={self._timeout_s:g} s{why}. The jobs may be "
            "stored: repeat the call with the same job ids to be sure"
        )
        error.__cause__ = self._failure
        return error

    def _fail_all(self) -> None:
        for call in (*self._in_flight, *self._waiting):
            call.fail(closed_error())
        self._waiting.clear()
        self._waiting_jobs = self._waiting_bytes = 0
        for turn in self._space:
            if not turn.done():
                turn.set_result(None)
        self._space.clear()
