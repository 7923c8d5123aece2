"""Replaces running processes by new ones, for example to load new code."""

from __future__ import annotations

import asyncio
import signal
from typing import Final, Protocol

from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.host.supervisor.child import Child
from asyncjobs.host.supervisor.fleet import Fleet
from asyncjobs.host.supervisor.replacements import Replacements

__all__ = ["STUCK_S", "Renewal", "Starter"]

logger = GuardedLog("asyncjobs.worker")

STUCK_S: Final = 15.0
"""How long a process may take to stop beyond its grace. After that it is killed."""


class Starter(Protocol):
    """What a renewal needs from the supervisor, which decides about starts and ends."""

    @property
    def is_stopping(self) -> bool: ...

    def numbers(self) -> range:
        """The numbers of the processes that were started."""
        ...

    def start_beside(self, number: int) -> Child:
        """Start a process beside the current one of this number. Raises OSError."""
        ...

    def cannot_start(self, number: int, error: OSError) -> None:
        """This number has no process, and none could be started."""
        ...

    def replace(self, child: Child) -> None:
        """The process has ended, and its number has no other one."""
        ...

    def end_if_all_have(self) -> None: ...


class Renewal:
    """Renews the processes one after the other. An old one ends when the new one is ready.

    `number`: the process that is being renewed. Nobody else starts one for this number.
    """

    def __init__(
        self, starter: Starter, fleet: Fleet, replacements: Replacements, grace_s: float
    ) -> None:
        self._starter = starter
        self._fleet = fleet
        self._replacements = replacements
        self._grace_s = grace_s
        self.number: int | None = None
        self._is_asked = False
        self._is_running = False

    def ask(self) -> None:
        """Renew all processes. A request during a renewal renews all once more."""
        self._is_asked = True
        if not self._is_running:
            self._is_running = True
            self._fleet.look_after(self._renew_all())

    async def _renew_all(self) -> None:
        try:
            while self._is_asked and not self._starter.is_stopping:
                self._is_asked = False
                if await self._renew_each():
                    logger.info("restart: all processes are new")
        finally:
            self._is_running = False

    async def _renew_each(self) -> bool:
        for number in self._starter.numbers():
            if not await self._renew(number):
                return False
        return True

    async def _renew(self, number: int) -> bool:
        """Renew one process. Returns whether the next one may follow."""
        old = self._fleet.current(number)
        # A planned start of this number would come on top of the new process.
        self._replacements.forget(number)
        self.number = number
        try:
            new = self._starter.start_beside(number)
            is_ready = await new.ready is not None
            if is_ready:
                self._fleet.choose(new)
            else:
                # It has ended, or is about to. What follows asks for its exit code.
                await new.ended
        except OSError as error:
            logger.error("restart: process %d cannot be started: %s", number, error)
            if old is None or not old.is_alive:
                self._starter.cannot_start(number, error)
            return False
        finally:
            self.number = None
        if self._starter.is_stopping:
            self._starter.end_if_all_have()
            return False
        if not is_ready:
            self._keep_old(old, new)
            return False
        # The new process works, so failures of the old one do not count any more.
        self._replacements.is_well(number)
        if old is not None:
            await self._retire(old)
        return not self._starter.is_stopping

    def _keep_old(self, old: Child | None, new: Child) -> None:
        if old is None or not old.is_alive:
            self._starter.replace(new)
            return
        logger.error(
            "restart: process %d: the new one (pid %d) %s before it was ready; the old ones "
            "work on",
            new.number,
            new.pid,
            new.epitaph(),
        )

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
