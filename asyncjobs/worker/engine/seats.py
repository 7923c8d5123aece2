"""What running jobs may ask of their worker: their notes, and whether they should stop."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from typing import Any, Final, TypeVar, cast

from asyncjobs.errors import StoreUnavailable
from asyncjobs.guard.own import hide
from asyncjobs.jobs.context import JobContext, _current
from asyncjobs.jobs.effects import AttemptEffects, over
from asyncjobs.jobs.seat import StopReason
from asyncjobs.model.awaiting import Awaited, EventWait
from asyncjobs.model.backoff import Pauses
from asyncjobs.model.clock import now_ms as wall_ms
from asyncjobs.model.events import Events
from asyncjobs.model.job import TakenJob
from asyncjobs.model.notes import Note, Notes
from asyncjobs.model.step_events import StepFinished
from asyncjobs.store.lease import Lease
from asyncjobs.worker.engine.attempt import Attempt, Reason, Together, attempt_of
from asyncjobs.worker.engine.running import Running
from asyncjobs.worker.lease.session import Session

__all__ = ["Seats", "WorkerSeat"]

T = TypeVar("T")

PAUSE_FIRST_S: Final = 0.05
PAUSE_MOST_S: Final = 3.0
"""Between tries while the store is away."""


class Seats:
    """Gives running jobs their seats, and tells them when the worker is about to end.

    `session` has the lease as it is now. `running`: the attempts that hold a slot.
    `clock_ahead_ms`: how far the store's clock is ahead of this machine's.
    """

    def __init__(
        self,
        session: Session,
        running: Running,
        hub: Events,
        on_freed: Callable[[Collection[str]], None],
    ) -> None:
        self.on_freed = on_freed
        """Called when a slot was given away: jobs of these queues may come."""
        self.session = session
        self.running = running
        self.hub = hub
        self.clock_ahead_ms = 0
        self.is_ending = False
        self.waiting: set[WorkerSeat] = set()
        """Those on which somebody waits for a stop. Changed on the loop only: jobs in threads have
        seats, too, and a set must not change while it is read."""

    def seat_of(self, context: object) -> WorkerSeat:
        assert isinstance(context, JobContext)
        # Most often a job asks for itself. Only its detached tasks and threads have to search.
        current = _current.get(None)
        attempt = attempt_of(current)
        if attempt is None or not attempt.is_about(context):
            attempt = self.running.find(context)
        if attempt is None and isinstance(current, Together):
            # An item that has left its batch. The call may ask why.
            attempt = current.about(context)
        return WorkerSeat(self, context._job, attempt)

    def end(self) -> None:
        """The worker takes no more jobs and will end. Those that run may finish their piece."""
        self.is_ending = True
        for seat in list(self.waiting):
            seat.wake()


class WorkerSeat:
    """The seat of one attempt of a worker."""

    is_local = False

    def __init__(self, seats: Seats, job: object, attempt: Attempt | None) -> None:
        self._seats = seats
        self._job = cast(TakenJob, job)
        # A strong reference would make a circle through the attempt's context, which keeps both
        # with all arguments until the garbage collector runs.
        self._attempt: weakref.ref[Attempt] | None = None
        if attempt is not None:
            self._attempt = weakref.ref(attempt)
        self._woken: asyncio.Event | None = None
        self._waiters = 0
        """How many tasks of the job wait for a stop."""

    @property
    def attempt(self) -> Attempt | None:
        """The attempt; None when it is over."""
        if self._attempt is None:
            return None
        return self._attempt()

    @property
    def is_open(self) -> bool:
        attempt = self.attempt
        return attempt is not None and attempt in self._seats.running

    @property
    def now_ms(self) -> int:
        return wall_ms() + self._seats.clock_ahead_ms

    @property
    def stop_reason(self) -> StopReason | None:
        attempt = self.attempt
        if attempt is not None and attempt.reason is not None:
            return attempt.reason.value
        # rule:24 jobs hear of the worker's end before the grace, not after it
        if self._seats.is_ending:
            return "shutdown"
        return None

    def wake(self) -> None:
        """Something may have changed: who waits in `stopping` looks again."""
        if self._woken is not None:
            self._woken.set()

    async def stopping(self) -> StopReason:
        if self._woken is None:
            self._woken = asyncio.Event()
        self._seats.waiting.add(self)
        self._waiters += 1
        try:
            while (reason := self.stop_reason) is None:
                self._woken.clear()
                await self._woken.wait()
        finally:
            self._waiters -= 1
            if not self._waiters:
                self._seats.waiting.discard(self)
        return reason

    async def aside(self, wait: Coroutine[Any, Any, T]) -> T:
        attempt = self.attempt
        away = self._seats.running.away
        if attempt is None or not self.is_open or not away.go(attempt):
            return await self._unless_shutdown(wait)
        self._seats.on_freed(self._seats.session.spec.queues)
        try:
            found = await self._unless_shutdown(wait)
            await away.come_back(attempt)
        finally:
            away.forget(attempt)
        return found

    async def _unless_shutdown(self, wait: Coroutine[Any, Any, T]) -> T:
        """Wait for this, but not beyond the begin of a stop: the jobs that it waits for may not
        run before this worker has left."""
        loop = asyncio.get_running_loop()
        waiting = hide(loop.create_task(wait))
        stopping = hide(loop.create_task(self.stopping()))
        both = {waiting, stopping}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                return await waiting
            # rule:38 a job that waits for others holds up no stop
            if (attempt := self.attempt) is not None:
                attempt.stop(Reason.SHUTDOWN)
            # In the attempt's own task the cancellation arrives here, once.
            await asyncio.sleep(0)
            raise asyncio.CancelledError("the worker stops, and the job waits for others")
        finally:
            for task in both:
                task.cancel()
            await asyncio.wait(both)

    async def read(self) -> Notes:
        (found,) = await self._ask(lambda lease: lease.notes([self._job]))
        if found is None:
            await self._lose()
        return found or {}

    async def write(self, notes: Mapping[str, bytes]) -> None:
        named = [Note(self._job, name, value) for name, value in notes.items()]
        kept = await self._ask(lambda lease: lease.note(named))
        # rule:24 an attempt whose notes are refused has lost its job, and stops
        if not all(kept):
            await self._lose()

    async def _ask(self, ask: Callable[[Lease], Awaitable[T]]) -> T:
        """Ask until the store answers, for as long as the attempt goes on."""
        pauses = Pauses(PAUSE_FIRST_S, PAUSE_MOST_S)
        while True:
            try:
                return await ask(self._seats.session.lease)
            except StoreUnavailable:
                await asyncio.sleep(pauses.next_s())
                if not self.is_open:
                    raise asyncio.CancelledError("the attempt is over") from None

    def has_failed(self, attempt: int, kind: str) -> bool:
        present = self.attempt
        if present is None:
            return False
        errors = present.envelope.headers.errors()
        return any(error.attempt == attempt and error.type == kind for error in errors)

    async def await_event(
        self, name: str, key: str, note: str, after: str, timeout_ms: int, over: bytes
    ) -> Awaited:
        wait = EventWait(self._job, name, key, note, after, timeout_ms, over)
        # The same wait again has the same answer, so a lost reply does no harm.
        (answer,) = await self._ask(lambda lease: lease.await_events([wait]))
        if answer is None:
            await self._lose()
        assert answer is not None
        return answer

    def effects(self) -> AttemptEffects:
        attempt = self.attempt
        # rule:37 nothing is kept for an attempt that is over
        if attempt is None or not self.is_open:
            raise over(self._job.ref)
        return attempt.context.effects_in(self._seats.session.backend)

    async def _lose(self) -> None:
        """The store says that the job is not this attempt's any more. Stop it."""
        attempt = self.attempt
        if attempt is not None and self.is_open:
            attempt.stop_again(Reason.LEASE_LOST)
        # In the attempt's own task the cancellation arrives here, once.
        await asyncio.sleep(0)
        raise asyncio.CancelledError("the lease was lost, and the job runs elsewhere")

    def tell_finished(self, step: str, duration_s: float) -> None:
        attempt, hub = self.attempt, self._seats.hub
        if attempt is not None and hub.active and hub.wants(StepFinished):
            info = attempt.info
            hub.emit(StepFinished(info.ref, info.name, info.number, step, duration_s, info=info))
