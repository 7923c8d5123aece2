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
from typing import Any, Final

import orjson

from asyncjobs.host.exits import ExitCode
from asyncjobs.host.supervisor.link import VARIABLE, link_text

__all__ = ["Child"]

_OTHER: Final[dict[int, int]] = {
    signal.SIGTERM: signal.SIGINT,
    signal.SIGINT: signal.SIGTERM,
}
"""What the second signal is. The system keeps one pending signal of each number: if the same came
again before the process has seen the first, the process would see one, and go on for its grace."""


class Child:
    """Owns one process from its start to its end. Made on the event loop.

    `ready`: its result is the message of the process when it takes jobs; None if it has ended
    before.
    `ended`: its result is the exit code, or minus the number of the signal that has killed it.
    """

    def __init__(
        self, command: Sequence[str], number: int, life: int, *, reports: bool = False
    ) -> None:
        """Start it: a new program, never a fork.

        life: the end of the parent's pipe that the process reads.
        reports: whether it has to report its health.
        """
        self.number = number
        self._loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[dict[str, Any] | None] = self._loop.create_future()
        self.ended: asyncio.Future[int] = self._loop.create_future()
        self._sent: list[int] = []
        self._ready_at_s: float | None = None
        self._said = b""
        self.lease: dict[str, Any] | None = None
        """What it said of its lease when it was ready; see `Recovery`."""
        self.report: tuple[dict[str, Any], float] = ({}, 0.0)
        """The last report of its health, and when it came, in monotonic seconds. Set on the
        loop."""
        self._pipe, other_end = os.pipe()
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                env=os.environ | {VARIABLE: link_text(number, other_end, life, reports=reports)},
                pass_fds=(other_end, life),
                # A terminal sends Ctrl-C to a whole group. In the parent's group the process would
                # get it twice, since the parent passes it on, and would release its jobs at once.
                process_group=0,
            )
        except BaseException:
            os.close(self._pipe)
            raise
        finally:
            os.close(other_end)
        os.set_blocking(self._pipe, False)
        self._loop.add_reader(self._pipe, self._read)
        # A thread for each process, and no SIGCHLD: that works with any loop and platform.
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
        return bool(self._sent)

    def ready_s(self) -> float:
        """How long it has been taking jobs, in seconds."""
        if self._ready_at_s is None:
            return 0.0
        return time.monotonic() - self._ready_at_s

    def stop(self, number: int, times: int = 1) -> None:
        """Send the signal, unless the process has got this many already."""
        if self.is_alive and len(self._sent) < times:
            # A process that is not ready may not have its handlers yet. SIGINT would end it with a
            # traceback.
            if not self.was_ready:
                number = signal.SIGTERM
            elif len(self._sent) == 1:
                # Another one than it got first, whatever the parent itself has got.
                number = _OTHER.get(self._sent[0], number)
            self._sent.append(number)
            self._process.send_signal(number)

    def kill(self) -> None:
        if self.is_alive:
            self._process.kill()

    def verdict(self) -> ExitCode:
        """What its end means for the whole. Call it after the end only."""
        code = self.ended.result()
        if not self.was_ready and self.was_told_to_stop:
            return ExitCode.CLEAN
        if self.was_ready and code in (ExitCode.CLEAN, ExitCode.RELEASED, ExitCode.MEMORY):
            return ExitCode(code)
        return ExitCode.FAILED

    def epitaph(self) -> str:
        """How it has ended, for people: `was killed by SIGKILL`."""
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
            # A long line comes in pieces. It is not split before it is complete.
            return
        *lines, self._said = self._said.split(b"\n")
        for line in lines:
            self._hear(orjson.loads(line))

    def _hear(self, message: dict[str, Any]) -> None:
        now_s = time.monotonic()
        if self._ready_at_s is None:
            self._ready_at_s = now_s
            # The message counts as a report until the first one comes.
            self.report = ({}, now_s)
            self.lease = message.get("lease")
            self.ready.set_result(message)
        else:
            self.report = (message, now_s)

    def _wait(self) -> None:
        code = self._process.wait()
        if code < 0:
            # It was killed, so it could not end the processes that its jobs have started. They are
            # in its group.
            with contextlib.suppress(OSError):
                os.killpg(self.pid, signal.SIGKILL)
        # A RuntimeError: the loop is closed, so nobody asks any more.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._bury, code)

    def _bury(self, code: int) -> None:
        # It may have become ready and ended before the loop has read its message.
        self._read()
        self._loop.remove_reader(self._pipe)
        os.close(self._pipe)
        if not self.ready.done():
            self.ready.set_result(None)
        self.ended.set_result(code)
