"""Keeps worker processes alive: starts, replaces, renews and stops them."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Sequence
from typing import Any, Final

from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.host.exits import ExitCode
from asyncjobs.host.supervisor.child import Child
from asyncjobs.host.supervisor.conclusion import Conclusion
from asyncjobs.host.supervisor.fleet import Fleet
from asyncjobs.host.supervisor.patience import Patience
from asyncjobs.host.supervisor.recovery import Recovery
from asyncjobs.host.supervisor.renewal import STUCK_S, Renewal
from asyncjobs.host.supervisor.replacements import Replacements

__all__ = ["Supervisor"]

logger = GuardedLog("asyncjobs.worker")

PATIENCE: Final = Patience()
_DONE: Final = (ExitCode.CLEAN, ExitCode.RELEASED)
"""How a process of a burst ends when it has found nothing left to do."""


class Supervisor:
    """Decides what follows when one of `processes` worker processes ends. One `run`.

    The first process starts alone, so that a fault of the app or the store is reported once.
    A process that ends is replaced under its number, after a pause if it has failed. While the
    store cannot be reached, processes are started again and again.

    command: starts one process. The process finds its ParentLink in the environment.
    grace_s: how long a process may take to stop when it is renewed.
    burst: a process that ends well has done its work, and is not replaced.
    waits_for_change: a process that cannot start waits for `renew` instead of ending the whole.
    on_begun: called with the message of the first process when it is ready.
    reports: whether the processes report their health, for `children` to show.
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
        self._processes = processes
        self._grace_s = grace_s
        self._burst = burst
        self._waits_for_change = waits_for_change
        self._on_begun = on_begun
        self._conclusion = Conclusion()
        self._fleet = Fleet(command, reports=reports, on_fault=self._conclusion.fail)
        self._replacements = Replacements(patience or PATIENCE, self._start_planned)
        self._recovery = Recovery()
        self._renewal = Renewal(self, self._fleet, self._replacements, grace_s)
        self._begun = False
        self._stops = 0

    async def run(self) -> int:
        """Run until all have ended. Returns the exit code for the whole.

        That is the code of the first process if it could not start: 2, or 3 in a burst. Otherwise
        the worst of 0, 4 (jobs were released) and 1 (a process failed at the end or too often).
        """
        self._fleet.open()
        try:
            self._start(1)
            return await self._conclusion.wait()
        finally:
            self._replacements.forget_all()
            self._fleet.close()

    @property
    def size(self) -> int:
        """How many processes there are to be."""
        return self._processes

    @property
    def is_stopping(self) -> bool:
        return self._stops > 0

    def children(self) -> dict[int, Child]:
        """The current process of each number that was started. From any thread."""
        return self._fleet.children()

    def stop(self, number: int) -> None:
        """Pass the signal on to all. Nothing is started any more."""
        self._stops += 1
        self._replacements.forget_all()
        self._fleet.stop(number, self._stops)
        limit_s = STUCK_S
        if self._stops == 1:
            limit_s += self._grace_s
        asyncio.get_running_loop().call_later(limit_s, self._fleet.kill_stubborn)
        self.end_if_all_have()

    async def kill(self, after_s: float) -> None:
        """Wait until all have ended. After `after_s`, kill those that are left."""
        await self._fleet.kill(after_s)

    def renew(self) -> None:
        """Replace one process after the other. An old one ends when the new one is ready.

        A request during a renewal renews all once more.
        """
        if self._stops:
            return
        if not (self._begun or self._waits_for_change):
            logger.warning("no restart now: the first process is still starting")
            return
        self._renewal.ask()

    # -- starting ------------------------------------------------------------------------

    def numbers(self) -> range:
        """The numbers of the processes that were started."""
        if not self._begun:
            # The others start when the first one is ready.
            return range(1, 2)
        return range(1, self._processes + 1)

    def start_beside(self, number: int) -> Child:
        """Start a process beside the current one of this number. Raises OSError."""
        child = self._fleet.start(number)
        self._fleet.look_after(self._greet(child))
        self._fleet.look_after(self._attend(child))
        return child

    def _start(self, number: int) -> None:
        child = self.start_beside(number)
        self._fleet.choose(child)

    async def _greet(self, child: Child) -> None:
        message = await child.ready
        if message is None:
            return
        self._replacements.found_store(child.number)
        if not self._begun:
            self._begun = True
            self._on_begun(message)
            if not self._stops:
                for number in range(2, self._processes + 1):
                    self._start_or_plan(number)
        logger.info("process %d is ready: pid %d", child.number, child.pid)
        await self._recovery.prepare(child)

    # -- ends ----------------------------------------------------------------------------

    async def _attend(self, child: Child) -> None:
        await child.ended
        self._fleet.bury(child)
        with self._recovery.under_way():
            self._follow(child)
            # Behind the decision: a store that is slow must not hold up the next process.
            await self._recovery.recover(child)
        self.end_if_all_have()

    def _follow(self, child: Child) -> None:
        """Decide what comes after a process that has ended."""
        if self._stops:
            self._conclusion.note(child)
        elif child.was_told_to_stop:
            logger.info("process %d: the old one (pid %d) has ended", child.number, child.pid)
        elif self._is_renewed(child):
            return
        elif self._burst and child.was_ready and child.verdict() in _DONE:
            self._conclusion.note(child)
        elif self._waits_for_store(child):
            self._plan_for_store(child)
        elif not (self._begun or self._waits_for_change):
            self._conclude_start(child)
        else:
            self.replace(child)

    def _is_renewed(self, child: Child) -> bool:
        """Whether the renewal looks after this number."""
        number = child.number
        return number == self._renewal.number or self._fleet.current(number) is not child

    def _waits_for_store(self, child: Child) -> bool:
        """Whether it could not reach its store and has to try again.

        A burst ends instead: its exit code says why it could not begin.
        """
        is_away = not child.was_ready and child.ended.result() == ExitCode.UNREACHABLE
        # rule:10 processes that start without their store try again
        return is_away and (self._begun or not self._burst)

    def _plan_for_store(self, child: Child) -> None:
        delay_s = self._replacements.start_after_outage(child.number)
        logger.warning(
            "process %d (pid %d) could not reach its store; tried again in %.1f s",
            child.number,
            child.pid,
            delay_s,
        )

    def _conclude_start(self, child: Child) -> None:
        """End the whole after the first process: a second one would fail in the same way."""
        code = child.ended.result()
        if code in (ExitCode.USAGE, ExitCode.UNREACHABLE):
            # The process has logged the reason itself.
            self._conclusion.tell(code)
            return
        logger.critical("the first process %s before it was ready", child.epitaph())
        self._conclusion.tell(ExitCode.FAILED)

    def replace(self, child: Child) -> None:
        """The process has ended, and its number has no other one."""
        number = child.number
        name = f"process {number} (pid {child.pid})"
        if child.verdict() is not ExitCode.FAILED:
            self._replacements.is_well(number)
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
            self.cannot_start(number, error)

    def cannot_start(self, number: int, error: OSError) -> None:
        """This number has no process, and none could be started."""
        # No more processes, memory or files: that may pass, and counts like any failure.
        self._plan(number, f"process {number} cannot be started ({error})", 0.0)

    def _plan(self, number: int, failed: str, ready_s: float) -> None:
        """Start it again after a pause. Too many failures in a row end the whole."""
        too_many = self._replacements.failed(number, ready_s)
        if too_many is not None:
            logger.critical(
                "%s, failure %d in a row: giving up; see its log lines for the reason",
                failed,
                too_many,
            )
            self._conclusion.blame(ExitCode.FAILED)
            self.stop(signal.SIGTERM)
            return
        delay_s = self._replacements.start_after_failure(number)
        logger.warning("%s; a new one starts in %.1f s", failed, delay_s)

    def _start_planned(self, number: int) -> None:
        self._start_or_plan(number)
        self.end_if_all_have()

    def end_if_all_have(self) -> None:
        if self._fleet or self._replacements or self._renewal.number:
            return
        # rule:2 a parent stays until the jobs of dead processes are back
        if self._recovery:
            return
        if not self._waits_for_change or self._stops:
            self._conclusion.tell()
