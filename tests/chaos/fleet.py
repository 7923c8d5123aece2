"""The worker processes of a run: started, killed, stopped, asked to leave, started again."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from pathlib import Path

from tests.chaos.jobs import QUEUES
from tests.chaos.proxy import Proxy

__all__ = ["LEASE_S", "Slot"]

ROOT = Path(__file__).resolve().parents[2]
LEASE_S = 2.0
GRACE_S = 1.0
START_LIMIT_S = 30.0
UNREACHABLE, RELEASED = 3, 4


class Slot:
    """One place in the fleet: a proxy of its own, and one worker process after another.

    Owns the process: signals go only to one that has not been reaped.
    """

    def __init__(self, number: int, proxy: Proxy, folder: Path, chance: random.Random) -> None:
        self.number = number
        self.proxy = proxy
        self.busy = asyncio.Lock()
        """Held by whoever does something to the process."""
        self.violations: list[str] = []
        self._folder = folder
        self._chance = chance
        self._process: asyncio.subprocess.Process | None = None
        self._started = asyncio.Event()
        self._expected: set[int] = set()
        self._closing = False

    @property
    def pid(self) -> int | None:
        process = self._process
        return None if process is None or process.returncode is not None else process.pid

    @property
    def is_up(self) -> bool:
        return self._started.is_set() and self.pid is not None and not self.busy.locked()

    async def run(self) -> None:
        """Keep a worker running until `close`."""
        try:
            while not self._closing:
                await self._one()
                self._started.clear()
                await asyncio.sleep(self._chance.uniform(0, 0.3))
        finally:
            if self.pid is not None and self._process is not None:
                self._process.kill()
                await self._process.wait()

    async def _one(self) -> None:
        log = (self._folder / f"worker-{self.number}.log").open("ab")
        with log:
            position = log.tell()
            process = self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "asyncjobs",
                "worker",
                "tests.chaos.jobs:app",
                "--lease",
                f"{LEASE_S}s",
                "--grace",
                f"{GRACE_S}s",
                "--concurrency",
                "50",
                "--queues",
                ",".join(QUEUES),
                "--log-format",
                "json",
                "--name",
                f"worker-{self.number}",
                env={**os.environ, "ASYNCJOBS_URL": self.proxy.url},
                cwd=ROOT,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C is for the driver: it ends the run in good order.
                start_new_session=True,
            )
        path, had_started = Path(log.name), False
        leaving = asyncio.create_task(process.wait())
        while not leaving.done():
            await asyncio.wait({leaving}, timeout=0.05 if not had_started else None)
            if not had_started and b"worker started" in path.read_bytes()[position:]:
                had_started = True
                self._started.set()
        code = leaving.result()
        if process.pid not in self._expected and (had_started or code != UNREACHABLE):
            self.violations.append(
                f"worker {self.number} (pid {process.pid}) ended by itself with {code}; its last "
                f"lines:\n" + "\n".join(path.read_text().splitlines()[-5:])
            )

    async def started(self) -> None:
        async with asyncio.timeout(START_LIMIT_S):
            await self._started.wait()

    def signal(self, number: signal.Signals, *, ends: bool = False) -> int:
        """Send a signal; the pid it went to, 0 when there is no process."""
        pid = self.pid
        if pid is None or self._process is None:
            return 0
        if ends:
            self._expected.add(pid)
            self._started.clear()
        self._process.send_signal(number)
        return pid

    async def ended(self) -> int:
        """The exit code of the process that was asked to leave."""
        assert self._process is not None
        code = await self._process.wait()
        if code not in (0, RELEASED, -signal.SIGKILL):
            self.violations.append(f"worker {self.number} left with {code} after SIGTERM")
        return code

    async def close(self) -> None:
        """Ask the last process to leave, and start none any more."""
        self._closing = True
        if self.signal(signal.SIGTERM, ends=True):
            await self.ended()
