"""Runs the jobs of a test, in the test: the engine of a worker on a store in memory."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine, Sequence
from types import TracebackType
from typing import Any, Final, ParamSpec, Self, TypeVar, overload

from asyncjobs.app import AsyncJobs
from asyncjobs.client.opening import running_loop
from asyncjobs.errors import JobsLeft, UsageError
from asyncjobs.guard.texts import shown
from asyncjobs.jobs.function import JobCall, JobFunction
from asyncjobs.model.clock import Seconds, seconds
from asyncjobs.model.events import AttemptEnded, Event, JobReleased, JobStarted
from asyncjobs.testing.openings import OwnLoop
from asyncjobs.testing.outcomes import Drained, Performed, drained_of, raise_dead
from asyncjobs.testing.performing import perform_once
from asyncjobs.testing.recorder import Recorder
from asyncjobs.testing.recording import RecordingBackend
from asyncjobs.testing.rounds import BurstWorker, Plan, Rounds
from asyncjobs.testing.wall_clock import WallClock
from asyncjobs.worker.settings import checked_count

__all__ = ["StageWorker"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

MOST_JOBS: Final = 1_000
"""The most attempts of one `drain`. A test that needs more says so."""
MOST_LIVED: Final = 100_000
"""The most attempts of one `clock.advance`: a week of a schedule that fires twice a minute."""
TIMEOUT_S: Final = 60.0
CONCURRENCY: Final = 100
"""Of the worker in the background."""


class StageWorker:
    """The worker of a test. It runs jobs only while it is asked to, unless it is entered:
    `async with worker:` runs them in the background, as in production."""

    def __init__(
        self,
        app: AsyncJobs,
        backend: RecordingBackend,
        clock: WallClock,
        recorder: Recorder,
        own_loop: OwnLoop,
    ) -> None:
        self._app = app
        self._clock = clock
        self._recorder = recorder
        self._own_loop = own_loop
        self._rounds = Rounds(app, backend, clock)
        self._background: BurstWorker | None = None

    # ── one call ─────────────────────────────────────────────────────────────────────

    @overload
    async def perform(self, call: JobCall[R], /, *, attempt: int = 1) -> Performed[R]: ...
    @overload
    async def perform(
        self, function: JobFunction[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Performed[R]: ...
    async def perform(self, function: Any, /, *args: Any, **kwargs: Any) -> Performed[Any]:
        """Run one attempt of this call here and now, as a worker runs it: its arguments are
        stored and read again, middleware surrounds it, and the policies judge how it ends.

        No job is enqueued, and no unique key is asked for. `f.options(...)` may be given, too, and
        `perform(f.bind(...), attempt=3)` runs the third attempt.

        Raises ArgumentsError and EncodeError, as an enqueue does. What the job function raises is
        in the outcome.
        """
        call, attempt = function, 1
        if isinstance(function, JobCall):
            attempt = checked_count(kwargs.pop("attempt", 1), "attempt")
        elif isinstance(function, JobFunction):
            call = function.bind(*args, **kwargs)
        else:
            raise UsageError(
                f"perform() takes a job function and its arguments, not {shown(function)}"
            )
        return await perform_once(self._app, self._recorder, self._clock, call, attempt)

    @overload
    def perform_sync(self, call: JobCall[R], /, *, attempt: int = 1) -> Performed[R]: ...
    @overload
    def perform_sync(
        self, function: JobFunction[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Performed[R]: ...
    def perform_sync(self, function: Any, /, *args: Any, **kwargs: Any) -> Performed[Any]:
        """`perform` for tests that are not async."""
        performing = self.perform(function, *args, **kwargs)
        return self.run_sync(performing, "worker.perform_sync()", "await worker.perform(...)")

    # ── all of them ──────────────────────────────────────────────────────────────────

    async def drain(
        self,
        *,
        scheduled: bool = False,
        raise_dead: bool = True,
        limit: int | None = None,
        concurrency: int = 1,
        timeout: Seconds = TIMEOUT_S,
    ) -> Drained:
        """Run all jobs that are ready, and those that they enqueue, until nothing is left.
        Returns how many attempts have ended how.

        scheduled: also run what is due later, such as retries. The clock moves to each due time.
        raise_dead: raise JobsDied, at the end, if a job has died meanwhile.
        limit: run at most so many attempts; by default 1,000.
        concurrency: how many run at a time. With the 1 of the default they run in their order. A
        job that waits for the result of another one needs 2.
        timeout: the most real time that it may take (seconds or timedelta).

        Raises JobsLeft when `limit` or `timeout` is reached: jobs enqueue each other for ever, or
        one does not end.
        """
        self._check_idle("drain")
        plan = self._rounds.until_empty
        if scheduled:
            plan = self._rounds.until_nothing_is_due
        return await self._run(plan, raise_dead, limit or MOST_JOBS, concurrency, timeout)

    def drain_sync(
        self,
        *,
        scheduled: bool = False,
        raise_dead: bool = True,
        limit: int | None = None,
        concurrency: int = 1,
        timeout: Seconds = TIMEOUT_S,
    ) -> Drained:
        """`drain` for tests that are not async."""
        draining = self.drain(
            scheduled=scheduled,
            raise_dead=raise_dead,
            limit=limit,
            concurrency=concurrency,
            timeout=timeout,
        )
        return self.run_sync(draining, "worker.drain_sync()", "await worker.drain()")

    async def live(self, ms: int, *, raise_dead: bool = True, limit: int | None = None) -> Drained:
        """Work for so much time of the test's clock. See `clock.advance`."""
        self._check_idle("clock.advance")
        until_ms = self._clock.now_ms() + ms
        plan = self._rounds.until(until_ms)
        done = await self._run(plan, raise_dead, limit or MOST_LIVED, 1, None)
        # Also when there was nothing to do.
        self._clock.put_forward(max(until_ms - self._clock.now_ms(), 0))
        return done

    def leap(self, ms: int) -> None:
        """Let so much time pass without a worker. See `clock.leap`."""
        self._check_idle("clock.leap")
        # As if a worker had run until now: a schedule that nobody has stored yet could not miss a
        # tick.
        self._rounds.declare_at_once()
        self._clock.put_forward(ms)

    async def _run(
        self,
        plan: Plan,
        raise_on_dead: bool,
        limit: int,
        concurrency: int,
        timeout: Seconds | None,
    ) -> Drained:
        heard: list[Event] = []
        timeout_s = None
        if timeout is not None:
            timeout_s = seconds(timeout, field="timeout")
        remove = self._app.events.on(Event, heard.append)
        end = asyncio.timeout(timeout_s)
        try:
            async with end:
                is_done = await self._rounds.run(plan, limit, concurrency)
        except TimeoutError:
            if not end.expired():
                raise
            raise JobsLeft(_too_long(heard, timeout_s)) from None
        finally:
            remove()
        if not is_done:
            raise JobsLeft(_too_many(heard, limit))
        if raise_on_dead:
            raise_dead(heard)
        return drained_of(heard)

    def run_sync(self, work: Coroutine[Any, Any, T], name: str, instead: str) -> T:
        """Run this to its end, for a test that is not async. Raises UsageError on a running
        loop."""
        if running_loop() is not None:
            work.close()
            raise UsageError(
                f"{name} would block the event loop that runs here; write {instead} in an async "
                "test"
            )
        return self._own_loop.run(work)

    # ── in the background ────────────────────────────────────────────────────────────

    async def __aenter__(self) -> Self:
        """Run jobs in the background from now on, as a worker of production does, while the test
        waits for `handle.result()` for example."""
        self._check_idle("async with worker")
        background = BurstWorker(self._app, await self._rounds.queues(), concurrency=CONCURRENCY)
        await background.__aenter__()
        self._background = background
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        background = self._background
        self._background = None
        if background is not None:
            await background.__aexit__(kind, error, trace)

    def _check_idle(self, what: str) -> None:
        # Two workers would take each other's jobs, and none of them could say when all is done.
        if self._background is not None:
            raise UsageError(
                f"{what}: the worker runs in the background already; leave `async with worker:` "
                "first, or wait there for handle.result()"
            )


def _too_many(heard: Sequence[Event], limit: int) -> str:
    return (
        f"{limit:,} attempts have run, and there are more to run ({_started(heard)}): does a job "
        "enqueue itself for ever? If not, give a higher limit="
    )


def _too_long(heard: Sequence[Event], timeout_s: float | None) -> str:
    # The time-out itself has stopped those that it has found running, and given them back.
    ends = [each for each in heard if isinstance(each, AttemptEnded)]
    ended = {each.info for each in ends if not isinstance(each, JobReleased)}
    started = [event for event in heard if isinstance(event, JobStarted)]
    running = [f"{event.name} ({event.ref})" for event in started if event.info not in ended]
    return (
        f"the jobs have not come to their end within {timeout_s:g} s; running: "
        f"{', '.join(running[:5]) or 'none'}. A job that waits for the result of another one "
        "needs concurrency=2; if they only take long, give a longer timeout="
    )


def _started(heard: Sequence[Event]) -> str:
    names = Counter(event.name for event in heard if isinstance(event, JobStarted))
    return ", ".join(f"{name} {number:,} times" for name, number in names.most_common(3))
