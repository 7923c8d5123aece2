"""Sends jobs to the store: many concurrent enqueues, one batch at a time."""

from __future__ import annotations

import asyncio
import copy
import random
from collections import deque
from collections.abc import Sequence
from contextvars import Context
from typing import Final

from asyncjobs.backends.base import Backend, EnqueueBatch
from asyncjobs.clock import new_id
from asyncjobs.config import AppSettings
from asyncjobs.errors import NotOpen, PayloadTooLarge, StoreFull, StoreUnavailable
from asyncjobs.events import Events, JobEnqueued
from asyncjobs.job import NewJob

__all__ = ["Client"]

MAX_BATCH_JOBS: Final = 1_000
MAX_BATCH_BYTES: Final = 4 << 20
MAX_WAITING_JOBS: Final = 10_000
MAX_WAITING_BYTES: Final = 64 << 20
FIRST_PAUSE_S: Final = 0.05
LONGEST_PAUSE_S: Final = 1.0
LEAD_CALLS: Final = 16
"""With fewer callers a second trip costs more than is won by it."""


class _Call:
    """Jobs that one caller waits for. Never larger than a batch may be."""

    __slots__ = ("answer", "deadline_s", "jobs", "size")

    def __init__(
        self,
        jobs: Sequence[NewJob],
        size: int,
        answer: asyncio.Future[list[bool]],
        deadline_s: float,
    ) -> None:
        self.jobs = jobs
        self.size = size
        self.answer = answer
        self.deadline_s = deadline_s

    def fail(self, error: BaseException) -> None:
        """Raise `error` at the caller, unless it has its answer or has left."""
        if not self.answer.done():
            self.answer.set_exception(error)
            # Read once here: a caller cancelled in this very turn never will, and an
            # unread exception is logged.
            self.answer.exception()


class Client:
    """The way of new jobs to one store, on one event loop.

    Owns the calls that wait, the batch in flight and the task that sends it. What is
    enqueued in one turn of the loop, or while a batch is in flight, becomes the next
    batch. Never owns the backend, and never cancels a batch because a caller left.
    """

    def __init__(self, backend: Backend, settings: AppSettings, events: Events) -> None:
        """To be made on the loop that it will run on."""
        self.backend = backend
        self.loop = asyncio.get_running_loop()
        self.queues: set[str] = set()
        self._max_payload, self._timeout_s = settings.max_payload, settings.connect_timeout_s
        self._events = events
        self._waiting: deque[_Call] = deque()
        self._waiting_jobs = 0
        self._waiting_bytes = 0
        self._in_flight: list[_Call] = []
        self._space: deque[asyncio.Future[None]] = deque()
        self._flusher: asyncio.Task[None] | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._failure: StoreUnavailable | None = None
        self._closed = False
        # Not that of the caller who comes first: its job and span are not those of the others.
        self._context = Context()

    async def enqueue(self, job: NewJob, name: str) -> bool:
        """Store one job of the job function `name`; True when it is new.

        Raises PayloadTooLarge, StoreFull, StoreUnavailable, and NotOpen after close().
        """
        size = len(job.envelope)
        if size > self._max_payload:
            raise self._too_large(job, name)
        deadline_s = self.loop.time() + self._timeout_s
        if self._space or self._is_full():
            await self._wait_for_space(deadline_s)
        (is_new,) = await self._put((job,), size, deadline_s)
        if self._events.active:
            duration_s = self.loop.time() - (deadline_s - self._timeout_s)
            self._events.emit(JobEnqueued(job.ref, name, is_new, size, duration_s))
        return is_new

    async def enqueue_many(self, jobs: Sequence[NewJob], names: Sequence[str]) -> list[bool]:
        """Store many jobs, in batches; for each: True when it is new.

        Nothing is stored when one of them is too large. Raises like `enqueue`; then
        batches before the failed one are stored.
        """
        for job, name in zip(jobs, names, strict=True):
            if len(job.envelope) > self._max_payload:
                raise self._too_large(job, name)
        answers: list[bool] = []
        began_s = self.loop.time()
        for chunk, size in _chunks(jobs):
            deadline_s = self.loop.time() + self._timeout_s
            if self._space or self._is_full():
                await self._wait_for_space(deadline_s)
            stored = await self._put(chunk, size, deadline_s)
            if self._events.active:
                # Batch by batch: a later one may fail, and all at once would hold the loop up.
                self._tell_stored(chunk, names[len(answers) :], stored, began_s)
            answers += stored
        return answers

    def _tell_stored(
        self, jobs: Sequence[NewJob], names: Sequence[str], stored: list[bool], began_s: float
    ) -> None:
        duration_s = self.loop.time() - began_s
        for job, name, is_new in zip(jobs, names, stored, strict=False):
            self._events.emit(JobEnqueued(job.ref, name, is_new, len(job.envelope), duration_s))

    async def close(self) -> None:
        """Send what waits, for at most `connect_timeout`; fail the rest with NotOpen."""
        self._closed = True
        flusher = self._flusher
        try:
            if flusher is not None:
                await asyncio.wait([flusher], timeout=self._timeout_s)
        finally:
            if flusher is not None:
                flusher.cancel()
            self._fail_all()
        if flusher is not None:
            await asyncio.wait([flusher])

    # ── a caller's side ──────────────────────────────────────────────────────────────

    def _put(
        self, jobs: Sequence[NewJob], size: int, deadline_s: float
    ) -> asyncio.Future[list[bool]]:
        """Let these jobs wait for the next batch; its answer for them. Raises NotOpen."""
        if self._closed:
            raise _closed()
        loop = self.loop
        answer: asyncio.Future[list[bool]] = loop.create_future()
        self._waiting.append(_Call(jobs, size, answer, deadline_s))
        self._waiting_jobs += len(jobs)
        self._waiting_bytes += size
        if self._flusher is None:
            self._flusher = loop.create_task(
                self._flush(), name="asyncjobs enqueue", context=self._context
            )
        return answer

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
        return PayloadTooLarge(
            f"{name}: the job {job.ref} is {len(job.envelope):,} bytes, over max_payload="
            f"{self._max_payload:,}; store the data elsewhere and pass its key, or "
            "raise max_payload on the app"
        )

    # ── the sending side: one task, while anything waits ─────────────────────────────

    async def _flush(self) -> None:
        try:
            while self._waiting:
                calls = self._in_flight = self._next_calls()
                if calls:
                    self._arm(calls[0].deadline_s)
                    answers = await self._send(calls)
                    if answers is not None:
                        await self._tell(calls, answers)
        except asyncio.CancelledError:
            self._fail_all()
            raise
        finally:
            self._in_flight = []
            self._flusher = None
            if self._alarm is not None:
                self._alarm.cancel()
                self._alarm = None

    def _next_calls(self) -> list[_Call]:
        """The calls of the next batch. One whose caller has left is not sent at all."""
        calls: list[_Call] = []
        jobs = size = taken = 0
        if self._waiting_jobs <= MAX_BATCH_JOBS and self._waiting_bytes <= MAX_BATCH_BYTES:
            calls = [call for call in self._waiting if not call.answer.done()]
            taken, self._waiting_jobs, self._waiting_bytes = self._waiting_jobs, 0, 0
            self._waiting.clear()
        while self._waiting:
            call = self._waiting[0]
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

    async def _tell(self, calls: list[_Call], answers: list[bool]) -> None:
        """Answer the callers of a batch so that they and the store work side by side.

        What waits is sent first: its batch is with the store while these callers go on.
        Callers who all wait for one batch would all wait for the next one, too, so one
        half of them gets a lead of one turn.
        """
        self._in_flight = []
        place = 0
        if len(calls) >= LEAD_CALLS and not self._waiting:
            half = len(calls) // 2
            place = _answer(calls[:half], answers, 0)
            calls = calls[half:]
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                _answer(calls, answers, place)
                raise
        if self._waiting:
            self.loop.call_soon(_answer, calls, answers, place)
        else:
            _answer(calls, answers, place)

    async def _send(self, calls: list[_Call]) -> list[bool] | None:
        """The answers for all jobs of these calls; None when the callers have an error."""
        jobs = [job for call in calls for job in call.jobs]
        # The same token each time: a batch that was stored, and whose reply was lost, is
        # answered again and not stored again.
        batch = EnqueueBatch(new_id(), jobs)
        pause_s = FIRST_PAUSE_S
        unsure = False
        # Much shorter than a caller's whole time: those who wait behind want a try, too.
        longest_s = min(LONGEST_PAUSE_S, self._timeout_s / 8)
        while True:
            try:
                answers = await self.backend.enqueue(batch)
                break
            except StoreUnavailable as error:
                self._failure, unsure = error, True
            except Exception as error:
                # A try before may have stored the batch: then it was not refused, and who
                # is told so would enqueue it twice.
                is_masked = unsure and isinstance(error, StoreFull)
                _fail(calls, self._maybe_stored(error) if is_masked else error)
                return None
            await asyncio.sleep(random.uniform(0, min(pause_s, longest_s)))
            pause_s *= 2
            if all(call.answer.done() for call in calls):
                return None
        self._failure = None
        for job in jobs:
            if job.queue not in self.queues:
                self.queues.add(job.queue)
        return answers

    # ── deadlines: one timer for all calls, however many wait ────────────────────────

    def _arm(self, deadline_s: float) -> None:
        if self._alarm is None:
            self._alarm = self.loop.call_at(deadline_s, self._expire)

    def _expire(self) -> None:
        """Fail the calls whose time is over, and come back for the next one.

        The batch in flight goes on for the other callers, and until the backend gives up.
        """
        self._alarm = None
        now_s = self.loop.time()
        next_s: float | None = None
        for call in (*self._in_flight, *self._waiting):
            if call.answer.done():
                continue
            # A timer may fire early by the clock's resolution.
            if call.deadline_s <= now_s + 0.001:
                call.fail(self._unavailable())
            else:
                next_s = call.deadline_s
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

    def _maybe_stored(self, refusal: Exception) -> StoreUnavailable:
        error = StoreUnavailable(
            f"a first try was not confirmed, and now {refusal}. The jobs may be stored: repeat "
            "the call with the same job ids to be sure"
        )
        error.__cause__ = refusal
        return error

    def _fail_all(self) -> None:
        for call in (*self._in_flight, *self._waiting):
            call.fail(_closed())
        self._waiting.clear()
        self._waiting_jobs = self._waiting_bytes = 0
        for turn in self._space:
            if not turn.done():
                turn.set_result(None)
        self._space.clear()


def _answer(calls: list[_Call], answers: list[bool], place: int) -> int:
    """Answer callers, whose jobs start at `place`; where the next one's jobs start."""
    for call in calls:
        end = place + len(call.jobs)
        if not call.answer.done():
            call.answer.set_result(answers[place:end])
        place = end
    return place


def _chunks(jobs: Sequence[NewJob]) -> list[tuple[Sequence[NewJob], int]]:
    """The jobs in pieces that fit a batch, each with its size in bytes."""
    chunks: list[tuple[Sequence[NewJob], int]] = []
    first = size = 0
    for place, job in enumerate(jobs):
        own = len(job.envelope)
        if place > first and (place - first >= MAX_BATCH_JOBS or size + own > MAX_BATCH_BYTES):
            chunks.append((jobs[first:place], size))
            first, size = place, 0
        size += own
    if first < len(jobs):
        chunks.append((jobs[first:], size))
    return chunks


def _fail(calls: list[_Call], error: Exception) -> None:
    """Give each caller an error of its own: one instance would collect all tracebacks."""
    for call in calls:
        call.fail(_copy(error))


def _copy(error: Exception) -> Exception:
    try:
        own = copy.copy(error)
    except Exception:  # a foreign class may not be made again from its arguments
        return error
    own.__cause__ = error
    return own


def _closed() -> NotOpen:
    return NotOpen("the app was closed while this enqueue waited; it may or may not be stored")
