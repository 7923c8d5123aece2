"""From a taken job to the settlement of its attempt. What counts here are microseconds: no lock,
no scope, no log line and no event object unless somebody uses it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from functools import partial

from asyncjobs.clock import now_ms as wall_ms
from asyncjobs.context import _current
from asyncjobs.events import Events
from asyncjobs.job import Settlement, TakenJob
from asyncjobs.worker.run import Attempt, start_task
from asyncjobs.worker.running import Running
from asyncjobs.worker.settling import Settler
from asyncjobs.worker.telling import tell_started
from asyncjobs.worker.threads import Threads

__all__ = ["Runner"]


class Runner:
    """Starts attempts and passes on how they end. Asks no store.

    `decode` makes a taken job an attempt, or the settlement of a job that cannot run, by the
    store's time. `settle` is called when an attempt has given up its slot, with None when its
    end is not this worker's to record.
    """

    def __init__(
        self,
        decode: Callable[[TakenJob, int], Attempt | Settlement],
        hub: Events,
        worker: str,
        *,
        running: Running,
        threads: Threads,
        settler: Settler,
        settle: Callable[[Settlement | None], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._decode = decode
        self._events = hub
        self._worker = worker
        self._running = running
        self._threads = threads
        self._settler = settler
        self._settle = settle
        self.clock_ahead_ms = 0
        """How far the store's clock is ahead of this machine's."""

    def start(self, jobs: Collection[TakenJob]) -> None:
        """Start an attempt for each; a job that cannot run is settled at once."""
        now_ms = wall_ms() + self.clock_ahead_ms
        now_s = self._loop.time()
        started = [each for job in jobs if (each := self._start(job, now_ms, now_s)) is not None]
        # After the first step of each: a job that is done by then needs no timer.
        self._loop.call_soon(self._arm_all, started)

    def _start(self, job: TakenJob, now_ms: int, now_s: float) -> Attempt | None:
        attempt = self._decode(job, now_ms)
        if not isinstance(attempt, Attempt):
            self._settle(attempt)
            return None
        attempt.started_s = now_s
        self._running.add(attempt)
        body = self._attempt(attempt)
        if self._events.active:
            body = tell_started(self._events, attempt, self._worker, now_ms, body)
        task = start_task(self._loop, body, attempt.function.name)
        is_over = attempt.entered and task.done()
        attempt.task = None if is_over else task
        return attempt

    def _arm_all(self, started: list[Attempt]) -> None:
        for attempt in started:
            if attempt in self._running:
                if not attempt.entered:
                    # rule:4 a task that was cancelled before its first step is settled all the same
                    attempt.when_cut_off(self._end_unentered)
                if attempt.function.is_async:
                    attempt.arm(self._loop)

    async def _attempt(self, attempt: Attempt) -> None:
        """One attempt, from the call of the job function to the settlement.

        Runs as a task of its own, so a context variable set in one job never shows in
        the next. Catches everything: even SystemExit ends the attempt, not the worker.
        """
        attempt.entered = True
        try:
            if attempt.reason is not None:
                raise asyncio.CancelledError
            _current.set(attempt)
            envelope, function = attempt.envelope, attempt.function
            kwargs = envelope.kwargs
            if function.injected is not None:
                kwargs[function.injected] = attempt.context
            if function.is_async:
                value = await function.function(*envelope.args, **kwargs)
            else:
                call = partial(function.function, *envelope.args, **kwargs)
                value = await self._threads.call(attempt, call, partial(self._begin, attempt))
        except BaseException as error:
            settlement = None if attempt.is_abandoned else self._settler.error(attempt, error)
        else:
            settlement = None if attempt.is_abandoned else self._settler.value(attempt, value)
        attempt.finish()
        if self._running.remove(attempt):  # else abandoned: its job has been settled already
            self._settle(settlement)

    def _begin(self, attempt: Attempt) -> None:
        attempt.begin(wall_ms() + self.clock_ahead_ms, self._loop)

    def _end_unentered(self, attempt: Attempt, error: BaseException) -> None:
        settlement = self._settler.error(attempt, error)
        attempt.finish()
        if self._running.remove(attempt):
            self._settle(settlement)
