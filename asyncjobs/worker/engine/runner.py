"""From a taken job to the settlement of its attempt. Microseconds count here: no lock, no scope,
no log line and no event object unless somebody needs it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Sequence
from functools import partial
from types import CodeType, FrameType
from typing import Any, Final

from asyncjobs.errors import UnfitArguments, UsageError
from asyncjobs.guard.guarded import call as call_guarded
from asyncjobs.jobs.batches import take_item
from asyncjobs.jobs.calling import CallPlan
from asyncjobs.jobs.context import _current
from asyncjobs.jobs.function import JobFunction
from asyncjobs.jobs.hooks import Passage
from asyncjobs.jobs.isolation import Isolation
from asyncjobs.jobs.middleware import CallNext, Middleware, Middlewares, enter
from asyncjobs.model.clock import now_ms as wall_ms
from asyncjobs.model.events import Events, JobStarted
from asyncjobs.model.job import TakenJob
from asyncjobs.model.settlement import Settlement
from asyncjobs.options.carried import CarriedVariable, restore
from asyncjobs.worker.engine.all_executors import AllExecutors
from asyncjobs.worker.engine.attempt import BEGUN, NEW, WAITING, Attempt, Body, start_task
from asyncjobs.worker.engine.bounds import Bounds
from asyncjobs.worker.engine.error_text import describe
from asyncjobs.worker.engine.executors import Executor
from asyncjobs.worker.engine.failures import FailureLog
from asyncjobs.worker.engine.resolving import Dependent, Dependents
from asyncjobs.worker.engine.resuming import put_work_away
from asyncjobs.worker.engine.running import Running
from asyncjobs.worker.engine.settling import Settler
from asyncjobs.worker.engine.unfit import unfit_plain

__all__ = ["ATTEMPT_CODE", "Runner", "attempt_in"]

MakeBody = Callable[[Attempt], Body]
ArePlain = Callable[[tuple[type[Any], ...]], bool]
Call = Callable[[Attempt], Coroutine[Any, Any, Any]]

LATE: Final = "logging an error of a middleware"


class Runner:
    """Starts attempts and reports how they end. Never talks to the store.

    `decode`: makes a taken job an attempt, or a settlement if it cannot run. Its second argument
    is the store's time.
    `settle`: called with each settlement: of an attempt that has freed its slot, or of a job that
    cannot run. None means that the end of an attempt is not this worker's to record.

    `_make` builds what is around an attempt, once for each job function. Most functions need
    nothing but `_attempt`: they are async and have no middleware.
    """

    def __init__(
        self,
        decode: Callable[[TakenJob, int], Attempt | Dependent | Settlement],
        hub: Events,
        middlewares: Middlewares,
        executors: AllExecutors,
        running: Running,
        settler: Settler,
        settle: Callable[[Settlement | None], None],
        bounds: Bounds,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._decode = decode
        self._events = hub
        self._middlewares = middlewares
        self._executors = executors
        self._bounds = bounds
        self._running = running
        self.dependents = Dependents(self, running, settle)
        self._settler = settler
        self._settle = settle
        self._failures = FailureLog()
        """Of middleware, after the end of an attempt."""
        self._bodies: dict[JobFunction[..., Any], MakeBody] = {}
        self._forget_bodies = middlewares.on_change(self._bodies.clear)
        self.clock_ahead_ms = 0
        """How far the store's clock is ahead of this machine's."""

    def start(self, jobs: Collection[TakenJob]) -> None:
        """Start an attempt for each; a job that cannot run is settled at once."""
        now_ms = wall_ms() + self.clock_ahead_ms
        now_s = self._loop.time()
        started = [each for job in jobs if (each := self._start(job, now_ms, now_s)) is not None]
        # Timers are set after the first step of each job: many are done by then and need none.
        self._loop.call_soon(self._arm_all, started)

    def _start(self, job: TakenJob, now_ms: int, now_s: float) -> Attempt | None:
        attempt = self._decode(job, now_ms)
        if not isinstance(attempt, Attempt):
            self.dependents.start(attempt, now_s)
            return None
        attempt.started_s = now_s
        self._running.add(attempt)
        function = attempt.function
        body = self._bodies.get(function) or self._make(function)
        task = start_task(self._loop, body(attempt), function.name)
        # An eager attempt may be over. Kept, its task would hold it in a circle; see `finish`. The
        # task itself may go on for longer than the attempt, in a middleware around it.
        if attempt.phase == NEW or (not task.done() and attempt in self._running):
            attempt.task = task
        return attempt

    def _arm_all(self, started: list[Attempt]) -> None:
        for attempt in started:
            if attempt in self._running:
                if attempt.phase == NEW:
                    # rule:4 a task that was cancelled before its first step is settled all the same
                    attempt.when_cut_off(self.end)
                if attempt.function.starts_at_once:
                    attempt.arm(self._loop)

    async def close(self) -> None:
        """Start no more attempts."""
        self._forget_bodies()
        await self.dependents.close()

    def body_of(self, function: JobFunction[..., Any]) -> MakeBody:
        """What is around each attempt of this job function."""
        return self._bodies.get(function) or self._make(function)

    # -- what an attempt passes ---------------------------------------------------------------

    def _make(self, function: JobFunction[..., Any]) -> MakeBody:
        """From the inside out: the call, the attempt, its middleware, the wait for a place."""
        around = self._middlewares.around
        within = self._middlewares.within
        passage = function.hooks.passage()
        isolation = function.isolation
        # The child of an attempt in a process passes the steps itself.
        plan = CallPlan() if isolation is Isolation.PROCESS else function.plan
        executor = self._executors.each[isolation]
        called = function.function
        if function.batch is not None:
            executor = collector = self._executors.batches.around(
                function, function.batch, executor
            )
            self._bounds.count(function, collector)
            plan, called = collector.item_plan, take_item
        elif function.max_running is not None:
            executor = self._bounds.around(function, function.max_running, executor)
        body: MakeBody = self._attempt
        carried = function.carried
        is_bare = isolation is Isolation.LOOP and function.batch is None
        if plan or within or passage or carried or not is_bare:
            call: Call = partial(self._call, executor, within, passage, plan, called)
            if carried:
                call = partial(_with_variables, carried, call)
            body = partial(self._attempt, call=call)
        if function.binding.is_typed and not function.binding.converts:
            body = partial(_fitting, function.binding.are_plain, body, self._attempt)
        if around:
            body = partial(self._around, around, body)
        if not function.starts_at_once:
            body = partial(self._attempt_in_turn, executor, body)
        self._bodies[function] = body
        return body

    async def _attempt(self, attempt: Attempt, call: Call | None = None) -> Settlement | None:
        """One attempt, from the call of the job function to the settlement.

        Runs as a task of its own, so a context variable that one job sets never shows in the
        next. Catches everything: even SystemExit ends only the attempt, not the worker.

        `call`: what to call instead of the function itself.
        """
        attempt.phase = BEGUN
        try:
            if self._events.active:
                _tell_started(self._events, attempt)
            if attempt.stopping is not None:
                raise asyncio.CancelledError
            _current.set(attempt)
            envelope = attempt.envelope
            function = attempt.function
            kwargs = envelope.kwargs
            if function.injected is not None:
                kwargs[function.injected] = attempt.context
            if call is None:
                value = await function.function(*envelope.args, **kwargs)
            else:
                value = await call(attempt)
        except BaseException as error:
            if attempt.has_context:
                await put_work_away(attempt)
            settlement = None if attempt.is_let_go else self._settler.error(attempt, error)
        else:
            stop = attempt.stopping
            is_let_go = stop is not None and stop.is_let_go
            settlement = None if is_let_go else self._settler.value(attempt, value)
        attempt.finish()
        if self._running.remove(attempt):  # else it was let go: its job has been settled already
            self._settle(settlement)
        return settlement

    def _call(
        self,
        executor: Executor,
        within: tuple[Middleware, ...],
        passage: Passage | None,
        plan: CallPlan,
        function: Callable[..., Any],
        attempt: Attempt,
    ) -> Coroutine[Any, Any, Any]:
        envelope = attempt.envelope
        call: CallNext
        if plan:
            execute = partial(executor.call, attempt)
            call = partial(plan.call, function, envelope.args, envelope.kwargs, execute)
        else:
            call = partial(
                executor.call, attempt, partial(function, *envelope.args, **envelope.kwargs)
            )
        # rule:16 only what was put around a job function is called for its attempts
        if passage is not None:
            call = partial(passage.run, attempt.seen(), call)
        if not within:
            return call()
        return enter(within, attempt.info, call)

    async def _attempt_in_turn(self, executor: Executor, body: MakeBody, attempt: Attempt) -> None:
        """An attempt that has to wait for a place at its executor."""
        attempt.phase = WAITING
        has_place = False
        try:
            if attempt.stopping is not None:
                raise asyncio.CancelledError
            # Its time-out begins after this wait. Otherwise jobs would die before they start.
            await executor.acquire(attempt)
            has_place = True
            attempt.begin(wall_ms() + self.clock_ahead_ms, self._loop)
            await body(attempt)
        except BaseException as error:
            # Neither `_attempt` nor `_around` raises, so it has not come to them.
            self.end(attempt, error)
        finally:
            if has_place:
                executor.release(attempt)

    async def _around(
        self, around: tuple[Middleware, ...], body: MakeBody, attempt: Attempt
    ) -> None:
        """An attempt with middleware around it. Raises nothing: whatever a middleware does, the
        attempt comes to its end and frees its slot."""
        # Begun before the middleware, so that a cancel or a time-out reaches one that waits, and
        # before its info is made, which tells how long the job was queued.
        # rule:16 an attempt has begun before the first middleware around it
        attempt.phase = BEGUN
        try:
            if attempt.stopping is not None:
                raise asyncio.CancelledError
            await enter(around, attempt.info, partial(body, attempt))
        # rule:16 a middleware around an attempt may raise what is no Exception
        except BaseException as error:
            if self._is_open(attempt):
                self.end(attempt, error)
            else:
                call_guarded(LATE, self._log_late, attempt, error)
        else:
            # rule:16 a middleware around an attempt that leaves it out ends it all the same
            if self._is_open(attempt):
                self.end(attempt, _left_out(attempt))

    def _is_open(self, attempt: Attempt) -> bool:
        """Whether nothing has ended this attempt yet. One that was let go has no end here."""
        return attempt in self._running or attempt.is_let_go

    def _log_late(self, attempt: Attempt, error: BaseException) -> None:
        if issubclass(type(error), (asyncio.CancelledError, GeneratorExit)):
            return  # the loop ends, or somebody cancels all tasks
        told = describe(error, attempt.mask)
        text = "%s: a middleware around it failed after its end, which stays: %s: %s"
        self._failures.write(attempt, error, told, text, attempt.job.ref, told.kind, told.message)

    def end(self, attempt: Attempt, error: BaseException) -> None:
        """End an attempt that has not come to its function."""
        settlement = None
        if not attempt.is_let_go:
            settlement = self._settler.error(attempt, error)
        attempt.finish()
        if self._running.remove(attempt):
            self._settle(settlement)


def _tell_started(hub: Events, attempt: Attempt) -> None:
    # Told in the attempt's own task, inside the middleware: context variables that listeners set
    # stay in this attempt, and what they log or measure belongs to its trace.
    if hub.wants(JobStarted):
        info = attempt.info
        hub.emit(
            JobStarted(
                info.ref, info.name, info.number, info.queue_time_ms, attempt.shown_call, info=info
            )
        )


def _with_variables(
    carried: Sequence[CarriedVariable], call: Call, attempt: Attempt
) -> Coroutine[Any, Any, Any]:
    """Call with the context variables that the job carries. In the attempt's own task, so no other
    job sees them."""
    # rule:33 each attempt has the context variables of its enqueue
    restore(carried, attempt.envelope.headers.labels.variables)
    return call(attempt)


def _fitting(
    are_plain: ArePlain, body: MakeBody, refused: Callable[..., Body], attempt: Attempt
) -> Body:
    """An attempt whose arguments are plain, and need nothing but a look at their types."""
    envelope = attempt.envelope
    is_plain = not envelope.kwargs and are_plain(tuple(map(type, envelope.args)))
    if not is_plain and (unfit := unfit_plain(attempt)):
        return refused(attempt, call=partial(_refuse, unfit))
    return body(attempt)


async def _refuse(unfit: UnfitArguments, attempt: Attempt) -> Any:
    raise unfit


def _left_out(attempt: Attempt) -> BaseException:
    """The error of an attempt that a middleware around it has not called."""
    if attempt.stopping is not None:
        # It has swallowed its cancellation. The reason for the stop counts.
        return asyncio.CancelledError()
    return UsageError(
        "a middleware around the attempt has returned without call_next(), so the job function "
        "was not called; a middleware that may leave it out is added by add_within()"
    )


ATTEMPT_CODE: Final[CodeType] = Runner._attempt.__code__
"""The code of each attempt's frame. The frames that it has called are the job's own."""


def attempt_in(frame: FrameType) -> Attempt | None:
    """The attempt that runs in this frame; None for other frames."""
    if frame.f_code is not ATTEMPT_CODE:
        return None
    return next((value for value in frame.f_locals.values() if type(value) is Attempt), None)
