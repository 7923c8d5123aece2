"""The parent of several worker processes: shows one banner and passes on the signals."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from asyncjobs.cli.worker.banner import Banner
from asyncjobs.cli.worker.health import ParentHealth
from asyncjobs.cli.worker.reload import watch
from asyncjobs.cli.worker.serve import last_words
from asyncjobs.errors import AsyncJobsError, ConfigError
from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.host.exits import ExitCode, say_at_once
from asyncjobs.host.health.health import HealthOptions
from asyncjobs.host.supervisor.supervisor import Supervisor
from asyncjobs.store.seam import StoreInfo

__all__ = ["SuperviseOptions", "supervise"]

logger = GuardedLog("asyncjobs.cli")

THIRD_S: Final = 1.0
"""After a third signal, the processes may take this long to exit by themselves."""


@dataclass(frozen=True, slots=True)
class SuperviseOptions:
    """The flags of `asyncjobs worker` that the parent process needs."""

    processes: int
    reload: bool
    burst: bool
    grace_s: float
    name: str
    json: bool
    health: HealthOptions


def supervise(options: SuperviseOptions) -> int:
    """Run worker processes with the command line of this one, and return the exit code."""
    try:
        return asyncio.run(_Parent(options).run())
    except AsyncJobsError as error:
        # Critical, so that no --log-level hides why the process has ended.
        logger.critical("%s", error)
        if isinstance(error, ConfigError):
            return ExitCode.USAGE
        return ExitCode.FAILED


def _command() -> list[str]:
    """The command line of this process, with the flags of Python itself.

    The parent never imports the app, so the children are the only ones that run its code.
    """
    return [sys.executable, *sys.orig_argv[1:]]


class _Parent:
    """Owns the signal handlers of the parent process. Made and run once."""

    def __init__(self, options: SuperviseOptions) -> None:
        self._options = options
        self._signals = 0
        self._has_terminal = _has_terminal()
        self._dying: asyncio.Task[None] | None = None
        health = self._health = ParentHealth(options.health, options.name)
        self._supervisor = health.supervisor = Supervisor(
            _command(),
            options.processes,
            grace_s=options.grace_s,
            burst=options.burst,
            waits_for_change=options.reload,
            on_begun=self._greet,
            reports=health.is_wanted,
        )

    async def run(self) -> int:
        """Raises AsyncJobsError if the health cannot be served; then no process was started."""
        async with self._health:
            return await self._run()

    async def _run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_stop, number)
        loop.add_signal_handler(signal.SIGHUP, self._on_hangup)
        if not self._options.reload:
            return await self._supervisor.run()
        watching = asyncio.create_task(watch(Path.cwd(), self._supervisor.renew))
        watching.add_done_callback(self._on_watch_end)
        # Let the watch begin before a child imports the app. Otherwise a change in between would be
        # missed.
        await asyncio.sleep(0)
        try:
            return await self._supervisor.run()
        finally:
            watching.cancel()
            await asyncio.wait({watching})

    def _greet(self, message: dict[str, Any]) -> None:
        fields = dict(message["banner"])
        name, version, address, warnings = fields.pop("store")
        fields["store"] = StoreInfo(name, version, address, tuple(warnings))
        fields["worker"] = self._options.name
        fields["processes"] = self._options.processes
        Banner(**fields).show(json=self._options.json)
        for hint in message["hints"]:
            logger.warning("%s", hint)

    def _on_stop(self, number: signal.Signals) -> None:
        self._signals += 1
        if self._signals == 1:
            logger.info("%s: stopping all processes; again to release their jobs", number.name)
        elif self._signals == 2:
            logger.info("%s: releasing all jobs now; again to exit at once", number.name)
        self._supervisor.stop(number)
        self._health.wake()
        if self._signals == 3:
            self._dying = asyncio.create_task(self._die(number))

    async def _die(self, number: signal.Signals) -> None:
        # The processes had the signals, too. One may be stuck where no handler can run.
        await self._supervisor.kill(THIRD_S)
        say_at_once(last_words(json=self._options.json))
        # As a shell would report it if the signal itself had ended the process.
        os._exit(128 + number)

    def _on_hangup(self) -> None:
        if self._has_terminal and not _has_terminal():
            # This SIGHUP means that the terminal was closed, not that a restart is wanted. A shell
            # may send it twice.
            if not self._signals:
                self._on_stop(signal.SIGTERM)
            return
        if not self._signals:
            logger.info("SIGHUP: restarting the processes one by one")
        self._supervisor.renew()

    def _on_watch_end(self, watching: asyncio.Task[None]) -> None:
        if not watching.cancelled() and (error := watching.exception()):
            logger.error("changes are no longer watched: %s", error)


def _has_terminal() -> bool:
    with contextlib.suppress(OSError):
        # This open fails in a process without a terminal. O_NOCTTY: it must not get one by the
        # open.
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
        return True
    return False
