"""The parent of several worker processes: one banner, and the signals for all."""

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
"""What the processes may take to exit by themselves after a third signal."""


@dataclass(frozen=True, slots=True)
class SuperviseOptions:
    """The flags of `asyncjobs worker` that its parent process needs."""

    processes: int
    reload: bool
    burst: bool
    grace_s: float
    name: str
    json: bool
    health: HealthOptions


def supervise(options: SuperviseOptions) -> int:
    """Run worker processes with the command line of this one; returns the exit code."""
    try:
        return asyncio.run(_Parent(options).run())
    except AsyncJobsError as error:
        # Critical, so that no --log-level hides why the process is gone.
        logger.critical("%s", error)
        return ExitCode.USAGE if isinstance(error, ConfigError) else ExitCode.FAILED


def _command() -> list[str]:
    """This very command again. The flags of Python are in it, the app is not imported."""
    return [sys.executable, *sys.orig_argv[1:]]


class _Parent:
    """Owns the signals of this process. Made and run once."""

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
            reports=health.is_told,
        )

    async def run(self) -> int:
        """Raises AsyncJobsError when the health cannot be told; then nothing has begun."""
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
        # Before the app is imported: no change shall fall in between.
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
        # They exit by themselves, unless one is busy with what no handler can interrupt.
        await self._supervisor.kill(THIRD_S)
        say_at_once(last_words(json=self._options.json))
        os._exit(128 + number)

    def _on_hangup(self) -> None:
        if self._has_terminal and not _has_terminal():
            # Nobody asked for a restart: the window was closed. The shell may say so twice.
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
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
        return True
    return False
