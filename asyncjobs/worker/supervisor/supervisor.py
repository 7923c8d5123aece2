"""Keeps worker processes alive: starts, replaces, renews and stops them."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Callable, Sequence
from typing import Any, Final

from asyncjobs.guarded import GuardedLog
from asyncjobs.worker.exits import ExitCode
from asyncjobs.worker.supervisor.child import Child
from asyncjobs.worker.supervisor.patience import Patience

__all__ = ["Supervisor"]

logger = GuardedLog("asyncjobs.worker")

PATIENCE: Final = Patience()
STUCK_S: Final = 15.0
"""What a process that is to stop may take beyond its grace; then it is killed."""
_BADNESS: Final = (ExitCode.CLEAN, ExitCode.RELEASED, ExitCode.FAILED)
_DONE: Final = (ExitCode.CLEAN, ExitCode.RELEASED)
"""How a process of a burst ends when it has found nothing left to do."""


class Supervisor:
    """Owns `processes` worker processes, numbered from 1. Runs no jobs. One `run`.

    The first one starts alone: what is wrong with the app or the store is told once.
    Processes that end are replaced, each under its number, with a backoff when they fail.
    While the store cannot be reached they are started again and again: that passes.

    command: starts one process; it finds its ParentLink in the environment.
    grace_s: what one may take to stop when it is renewed.
    burst: a process that ends well has done its work, and is not replaced.
    waits_for_change: one that cannot start waits for `renew` instead of ending the whole.
    on_begun: called with what the first process says when it is ready.
    reports: the processes tell of their health, for `children` to show.
    """

    def __init__(
        self,
        command: Sequence[str],
        processes: int,
        *,
        grace_s: float,
        burst: bool = False,
        waits_for_change: bool = False,
        patience: Patience | None = None,
        on_begun: Callable[[dict[str, Any]], None],
        reports: bool = False,
    ) -> None:
        self._command = command
        self._processes = processes
        self._grace_s = grace_s
        self._burst = burst
        self._waits_for_change = waits_for_change
        self._patience = patience or PATIENCE
        self._on_begun = on_begun
        self._reports = reports
        self._life: tuple[int, int] = (-1, -1)
        self._alive: set[Child] = set()
        self._current: dict[int, Child] = {}
        self._failures: dict[int, int] = {}
        self._store_tries: dict[int, int] = {}
        """Starts in a row that have not found the store; they never end the whole."""
        self._starting: dict[int, asyncio.TimerHandle] = {}
        """Replacements that wait for their time."""
        self._renewing: int | None = None
        """The number that a renewal is at; nobody else starts a process for it."""
        self._renewal_asked = False
        self._renewal: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._begun = False
        self._stops = 0
        self._worst = ExitCode.CLEAN
        self._over: asyncio.Future[int] | None = None

    async def run(self) -> int:
        """Until all have ended; returns the exit code for the whole.

        2 as the first process when it could not start (3 in a burst), else the worst of 0,
        4 (jobs were released) and 1 (a process failed at the end, or one again and again).
        """
        self._over = asyncio.get_running_loop().create_future()
        # The end for reading goes to the children. The other is held here alone: when this
        # process is gone, however it died, they read that it is.
        self._life = os.pipe()
        try:
            self._start(1)
            return await self._over
        finally:
            self._forget_plans()
            for task in self._tasks:
                task.cancel()
            for end in self._life:
                os.close(end)

    @property
    def size(self) -> int:
        """How many processes there shall be."""
        return self._processes

    @property
    def is_stopping(self) -> bool:
        return self._stops > 0

    def children(self) -> dict[int, Child]:
        """The newest process of each number that was started. From any thread."""
        return self._current.copy()

    def stop(self, number: int) -> None:
        """Pass the signal on to all; nothing is started any more."""
        self._stops += 1
        self._forget_plans()
        for child in self._alive:
            child.stop(number, self._stops)
        limit_s = STUCK_S if self._stops > 1 else self._grace_s + STUCK_S
        asyncio.get_running_loop().call_later(limit_s, self._kill_stubborn)
        self._end_if_all_have()

    def _kill_stubborn(self) -> None:
        """They end by themselves, unless what they are busy with lets no thread run."""
        for child in self._alive:
            logger.error("process %d (pid %d) does not end; it is killed", child.number, child.pid)
            child.kill()

    async def kill(self, after_s: float) -> None:
        """Returns when all are gone; kills what is still there after that time."""
        if self._alive:
            await asyncio.wait([child.ended for child in self._alive], timeout=after_s)
        for child in self._alive:
            child.kill()

    def renew(self) -> None:
        """Replace one process after the other: the old one ends when the new one is ready.

        Asked again meanwhile, all are renewed once more.
        """
        if self._stops:
            return
        if not (self._begun or self._waits_for_change):
            logger.warning("no restart now: the first process is still starting")
            return
        self._renewal_asked = True
        if self._renewal is None or self._renewal.done():
            self._renewal = asyncio.create_task(self._renew_all())
            self._keep(self._renewal)

    # -- starting ------------------------------------------------------------------------

    def _start(self, number: int) -> Child:
        child = Child(self._command, number, self._life[0], reports=self._reports)
        self._alive.add(child)
        self._keep(asyncio.create_task(self._greet(child)))
        self._keep(asyncio.create_task(self._attend(child)))
        if self._renewing != number:
            self._current[number] = child
        return child

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and self._over is not None and not self._over.done():
            # Nobody awaits the task; without this the parent would go on half blind.
            self._over.set_exception(error)

    async def _greet(self, child: Child) -> None:
        message = await child.ready
        if message is None:
            return
        self._store_tries.pop(child.number, None)
        if not self._begun:
            self._begun = True
            self._on_begun(message)
            if not self._stops:
                for number in range(2, self._processes + 1):
                    self._start_or_plan(number)
        logger.info("process %d is ready: pid %d", child.number, child.pid)

    # -- ends ----------------------------------------------------------------------------

    async def _attend(self, child: Child) -> None:
        await child.ended
        self._alive.discard(child)
        if self._stops:
            self._note(child)
        elif child.was_told_to_stop:
            logger.info("process %d: the old one (pid %d) has ended", child.number, child.pid)
        elif child.number == self._renewing or self._current.get(child.number) is not child:
            # The renewal looks after this number.
            return
        elif self._burst and child.was_ready and child.verdict() in _DONE:
            self._note(child)
        elif self._waits_for_store(child):
            self._plan_for_store(child)
        elif not (self._begun or self._waits_for_change):
            self._cannot_start(child)
        else:
            self._replace(child)
        self._end_if_all_have()

    def _note(self, child: Child) -> None:
        verdict = child.verdict()
        if verdict is ExitCode.FAILED:
            logger.error("process %d (pid %d) %s", child.number, child.pid, child.epitaph())
        # One that was about to be replaced has done nothing wrong.
        self._blame(ExitCode.CLEAN if verdict is ExitCode.MEMORY else verdict)

    def _blame(self, verdict: ExitCode) -> None:
        self._worst = max(self._worst, verdict, key=_BADNESS.index)

    def _waits_for_store(self, child: Child) -> bool:
        """Whether it has ended because it could not reach its store, and shall try again.

        A burst shall end: whoever has started it sees by the code why it could not begin.
        """
        is_away = not child.was_ready and child.ended.result() == ExitCode.UNREACHABLE
        # rule:10 processes that start without their store try again
        return is_away and (self._begun or not self._burst)

    def _plan_for_store(self, child: Child) -> None:
        """Start it again after a pause that grows, however often: it is not its own fault."""
        number = child.number
        tries = self._store_tries[number] = self._store_tries.get(number, 0) + 1
        delay_s = self._patience.delay_s(tries, random.uniform)
        logger.warning(
            "process %d (pid %d) could not reach its store; tried again in %.1f s",
            number,
            child.pid,
            delay_s,
        )
        self._start_later(number, delay_s)

    def _cannot_start(self, child: Child) -> None:
        """The one that starts alone: a second one would fail in the same way."""
        code = child.ended.result()
        if code in (ExitCode.USAGE, ExitCode.UNREACHABLE):
            # The process itself has told the reason.
            self._conclude(code)
            return
        logger.critical("the first process %s before it was ready", child.epitaph())
        self._conclude(ExitCode.FAILED)

    def _replace(self, child: Child) -> None:
        number, name = child.number, f"process {child.number} (pid {child.pid})"
        if child.verdict() is not ExitCode.FAILED:
            self._failures[number] = 0
            logger.info("%s %s; a new one starts", name, child.epitaph())
            self._start_or_plan(number)
            return
        if self._waits_for_change and not child.was_ready:
            logger.error("%s %s before it was ready; waiting for a change", name, child.epitaph())
            return
        self._plan(number, f"{name} {child.epitaph()}", child.ready_s())

    def _start_or_plan(self, number: int) -> None:
        try:
            self._start(number)
        except OSError as error:
            # Out of processes, memory or files: that passes, and counts like any failure.
            self._plan(number, f"process {number} cannot be started ({error})", 0.0)

    def _plan(self, number: int, failed: str, ready_s: float) -> None:
        """Start it again after a while; too many failures in a row end the whole."""
        failures = self._patience.failures(self._failures.get(number, 0), ready_s)
        self._failures[number] = failures
        if failures >= self._patience.limit:
            logger.critical(
                "%s, failure %d in a row: giving up; see its log lines for the reason",
                failed,
                failures,
            )
            self._blame(ExitCode.FAILED)
            self.stop(signal.SIGTERM)
            return
        delay_s = self._patience.delay_s(failures, random.uniform)
        logger.warning("%s; a new one starts in %.1f s", failed, delay_s)
        self._start_later(number, delay_s)

    def _start_later(self, number: int, delay_s: float) -> None:
        loop = asyncio.get_running_loop()
        self._starting[number] = loop.call_later(delay_s, self._start_planned, number)

    def _start_planned(self, number: int) -> None:
        del self._starting[number]
        self._start_or_plan(number)
        self._end_if_all_have()

    def _forget_plans(self) -> None:
        for handle in self._starting.values():
            handle.cancel()
        self._starting.clear()

    def _end_if_all_have(self) -> None:
        waiting = self._waits_for_change and not self._stops
        if not (self._alive or self._starting or self._renewing or waiting):
            self._conclude(self._worst)

    def _conclude(self, code: int) -> None:
        if self._over is not None and not self._over.done():
            self._over.set_result(code)

    # -- renewal -------------------------------------------------------------------------

    async def _renew_all(self) -> None:
        while self._renewal_asked and not self._stops:
            self._renewal_asked = False
            # Before the first one is ready the others have not been started.
            for number in range(1, self._processes + 1 if self._begun else 2):
                if not await self._renew(number):
                    break
            else:
                logger.info("restart: all processes are new")

    async def _renew(self, number: int) -> bool:
        old = self._current.get(number)
        if planned := self._starting.pop(number, None):
            planned.cancel()
        self._renewing = number
        try:
            new = self._start(number)
            ready = await new.ready is not None
            if ready:
                self._current[number] = new
            else:
                await new.ended
        except OSError as error:
            logger.error("restart: process %d cannot be started: %s", number, error)
            if old is None or not old.is_alive:
                self._plan(number, f"process {number} cannot be started ({error})", 0.0)
            return False
        finally:
            self._renewing = None
        if self._stops:
            self._end_if_all_have()
            return False
        if not ready:
            self._keep_old(old, new)
            return False
        self._failures[number] = 0
        if old is not None:
            await self._retire(old)
        return not self._stops

    def _keep_old(self, old: Child | None, new: Child) -> None:
        if old is not None and old.is_alive:
            logger.error(
                "restart: process %d: the new one (pid %d) %s before it was ready; the old ones "
                "work on",
                new.number,
                new.pid,
                new.epitaph(),
            )
        else:
            self._replace(new)

    async def _retire(self, old: Child) -> None:
        old.stop(signal.SIGTERM)
        await asyncio.wait({old.ended}, timeout=self._grace_s + STUCK_S)
        if old.is_alive:
            logger.warning(
                "restart: process %d (pid %d) does not end; it is killed, and its jobs run again "
                "when the lease ends",
                old.number,
                old.pid,
            )
            old.kill()
            await asyncio.wait({old.ended})
