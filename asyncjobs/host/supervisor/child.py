"""One worker process, as its parent sees it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from typing import Any

import orjson

from asyncjobs.host.exits import ExitCode
from asyncjobs.host.supervisor.link import VARIABLE, link_text

__all__ = ["Child"]


class Child:
    """Owns one process from its start to its end. Made on the event loop.

    `ready` becomes what the process says when it takes jobs, or None when it ended before.
    `ended` becomes its exit code, or minus the number of the signal that killed it.
    """

    def __init__(
        self, command: Sequence[str], number: int, life: int, *, reports: bool = False
    ) -> None:
        """Start it: a new program, never a fork. `life` is its end of the parent's pipe,
        `reports` asks it to tell of its health."""
        self.number = number
        self._loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[dict[str, Any] | None] = self._loop.create_future()
        self.ended: asyncio.Future[int] = self._loop.create_future()
        self._signals = 0
        self._ready_at_s: float | None = None
        self._said = b""
        self.report: tuple[dict[str, Any], float] = {}, 0.0
        """The last one, and when it came, in monotonic seconds; set on the loop."""
        self._pipe, other_end = os.pipe()
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                env=os.environ | {VARIABLE: link_text(number, other_end, life, reports=reports)},
                pass_fds=(other_end, life),
                # A terminal sends Ctrl-C to a whole group: passed on by the parent besides,
                # it would count as the second signal.
                process_group=0,
            )
        except BaseException:
            os.close(self._pipe)
            raise
        finally:
            os.close(other_end)
        os.set_blocking(self._pipe, False)
        self._loop.add_reader(self._pipe, self._read)
        # A thread each, and no SIGCHLD: that works whatever the loop and the platform.
        threading.Thread(target=self._wait, name=f"asyncjobs-wait-{number}", daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return not self.ended.done()

    @property
    def was_ready(self) -> bool:
        return self._ready_at_s is not None

    @property
    def was_told_to_stop(self) -> bool:
        return self._signals > 0

    def ready_s(self) -> float:
        """For how long it has been taking jobs, in seconds."""
        if self._ready_at_s is None:
            return 0.0
        return time.monotonic() - self._ready_at_s

    def stop(self, number: int, times: int = 1) -> None:
        """Send the signal, unless it has had so many of this kind already."""
        if self.is_alive and self._signals < times:
            self._signals += 1
            # One that is not ready may not have its handlers yet. An interrupt would then
            # end it with a traceback.
            if not self.was_ready:
                number = signal.SIGTERM
            self._process.send_signal(number)

    def kill(self) -> None:
        if self.is_alive:
            self._process.kill()

    def verdict(self) -> ExitCode:
        """What its end means for the whole; only when it has ended."""
        code = self.ended.result()
        if not self.was_ready and self.was_told_to_stop:
            return ExitCode.CLEAN
        if self.was_ready and code in (ExitCode.CLEAN, ExitCode.RELEASED, ExitCode.MEMORY):
            return ExitCode(code)
        return ExitCode.FAILED

    def epitaph(self) -> str:
        """How it ended, for people: `was killed by SIGKILL`."""
        code = self.ended.result()
        if code == ExitCode.BLOCKED:
            return f"ended with exit code {code}: a job blocked it for longer than --hard-limit"
        if code == ExitCode.MEMORY:
            return f"ended with exit code {code}: it held more than --max-memory"
        if code == ExitCode.LOOP:
            return f"ended with exit code {code}: a job broke its event loop"
        if code >= 0:
            return f"ended with exit code {code}"
        with contextlib.suppress(ValueError):
            return f"was killed by {signal.Signals(-code).name}"
        return f"was killed by signal {-code}"

    def _read(self) -> None:
        try:
            piece = os.read(self._pipe, 65536)
        except BlockingIOError:
            return
        self._said += piece
        if not piece:
            self._loop.remove_reader(self._pipe)
        if b"\n" not in piece:
            # Not split again and again while a long line comes in pieces.
            return
        *lines, self._said = self._said.split(b"\n")
        for line in lines:
            self._hear(orjson.loads(line))

    def _hear(self, message: dict[str, Any]) -> None:
        now_s = time.monotonic()
        if self._ready_at_s is None:
            self._ready_at_s = now_s
            # Until the first report comes, that it is ready is one.
            self.report = {}, now_s
            self.ready.set_result(message)
        else:
            self.report = message, now_s

    def _wait(self) -> None:
        code = self._process.wait()
        if code < 0:
            # Killed, it could not end what its jobs have started. It led a group of its own.
            with contextlib.suppress(OSError):
                os.killpg(self.pid, signal.SIGKILL)
        # The loop may be closed: then nobody asks any more.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._bury, code)

    def _bury(self, code: int) -> None:
        # It may have been ready and gone before the loop came to read of it.
        self._read()
        self._loop.remove_reader(self._pipe)
        os.close(self._pipe)
        if not self.ready.done():
            self.ready.set_result(None)
        self.ended.set_result(code)
