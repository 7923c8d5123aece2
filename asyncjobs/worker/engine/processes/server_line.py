"""The worker's end of the fork server: starts it, and sends and receives lines of JSON."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

from asyncjobs.errors import ConfigError
from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.guard.own import hide, in_own_thread
from asyncjobs.worker.engine.processes import here
from asyncjobs.worker.engine.processes.origin import Origin

__all__ = ["ServerLine"]

logger = GuardedLog("asyncjobs.worker")

START_S: Final = 60.0
"""How long the import of the user's modules may take."""
END_S: Final = 5.0
"""How long the fork server may take to end its children and itself."""
BOOT: Final = """\
import json, sys
sys.path[:] = json.loads(sys.argv[2])
from asyncjobs.worker.engine.processes.forkserver import main
main(int(sys.argv[1]))
"""


class ServerLine:
    """Owns the process of the fork server. One start at a time; it may be started again.

    on_line: called with each line that it sends.
    on_lost: called when it is gone by itself.
    """

    def __init__(
        self,
        origin: Origin,
        on_line: Callable[[dict[str, Any]], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._origin = origin
        self._on_line = on_line
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._process: subprocess.Popen[bytes] | None = None
        self._line: socket.socket | None = None
        self._unsent: deque[tuple[bytes, int]] = deque()
        self._read = b""

    @property
    def is_open(self) -> bool:
        """Whether the fork server runs and has imported what it needs."""
        return self._line is not None

    async def start(self) -> None:
        """Start it. Raises ConfigError if it cannot import the app."""
        if here.is_for_attempts:
            raise ConfigError(
                "a worker is started while its module is imported by a process for attempts; put "
                'what starts it under if __name__ == "__main__":'
            )
        await self._reap()  # one that has died before
        ours, its = socket.socketpair()
        ours.setblocking(False)
        try:
            with its:
                await self._open(its)
            first = {
                "argv": sys.argv,
                "functions": self._origin.functions,
                "app": self._origin.app,
            }
            await self._loop.sock_sendall(ours, json.dumps(first).encode() + b"\n")
            async with asyncio.timeout(START_S):
                answer = await self._first_line(ours)
            _check_start(answer)
        except BaseException as error:
            ours.close()
            await self._reap()
            if isinstance(error, TimeoutError):
                raise ConfigError(
                    f"the process for attempts has not imported the app within {START_S:g} s"
                ) from None
            raise
        self._line = ours
        self._loop.add_reader(ours, self._on_readable)

    async def _open(self, its: socket.socket) -> None:
        # Not on the loop: it waits until the system has loaded the interpreter.
        starting = hide(self._loop.create_task(in_own_thread(_popen, its)))
        try:
            self._process = await asyncio.shield(starting)
        except asyncio.CancelledError:
            self._process = await starting
            raise

    async def _first_line(self, line: socket.socket) -> dict[str, Any]:
        read = b""
        while b"\n" not in read:
            piece = await self._loop.sock_recv(line, 1 << 16)
            if not piece:
                raise ConfigError(
                    "the process for attempts has ended while it imported the app; its stderr "
                    "says why"
                )
            read += piece
        first, self._read = read.split(b"\n", 1)
        answer: dict[str, Any] = json.loads(first)
        return answer

    def say(self, fields: dict[str, Any], passed: int = -1) -> None:
        """Send a line, and a file descriptor with it, which is closed here then."""
        self._unsent.append((json.dumps(fields).encode() + b"\n", passed))
        if len(self._unsent) == 1:
            self._flush()

    def _flush(self) -> None:
        line = self._line
        while self._unsent and line is not None:
            data, passed = self._unsent[0]
            try:
                if passed >= 0:
                    sent = socket.send_fds(line, [data], [passed])
                else:
                    sent = line.send(data)
            except BlockingIOError:
                self._loop.add_writer(line, self._flush)
                return
            except OSError:
                self._lose()
                return
            if passed >= 0:
                os.close(passed)
            # A descriptor goes with the first byte, whatever part of the line was taken.
            self._unsent[0] = (data[sent:], -1)
            if sent == len(data):
                self._unsent.popleft()
        if line is not None:
            self._loop.remove_writer(line)

    def _on_readable(self) -> None:
        line = self._line
        if line is None:
            return
        try:
            data = line.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lose()
            return
        *whole, self._read = (self._read + data).split(b"\n")
        for each in whole:
            self._on_line(json.loads(each))

    def _lose(self) -> None:
        logger.error("the process that starts processes for attempts is gone; it is started again")
        self.cut()
        self._on_lost()

    def cut(self) -> None:
        """Close the line. The fork server then ends, with all its children."""
        if self._line is not None:
            self._loop.remove_reader(self._line)
            self._loop.remove_writer(self._line)
            self._line.close()
            self._line = None
        for _, passed in self._unsent:
            if passed >= 0:
                os.close(passed)
        self._unsent.clear()

    async def close(self) -> None:
        """End the fork server, and wait for that."""
        self.cut()
        await self._reap()

    async def _reap(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        try:
            await in_own_thread(process.wait, END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            await in_own_thread(process.wait)


def _popen(line: socket.socket) -> subprocess.Popen[bytes]:
    # The flags of this interpreter, such as -X and -W, as multiprocessing does it.
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    path = json.dumps([os.getcwd() if each == "" else each for each in sys.path])
    command = [sys.executable, *flags, "-c", BOOT, str(line.fileno()), path]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=(line.fileno(),))


def _check_start(answer: Mapping[str, Any]) -> None:
    """Raises ConfigError if the fork server has not found what it needs."""
    if "failed" in answer:
        raise ConfigError(
            "the app cannot be imported by a process for attempts: "
            f"{answer['failed']}\n{answer['trace']}"
        )
    if missing := answer["ready"]:
        lines = [f"{name}: {why}" for name, why in missing.items()]
        raise ConfigError(
            "isolation='process' needs functions that another process can import:\n"
            + "\n".join(lines)
        )
    if threads := answer["threads"]:
        logger.warning(
            "importing the app starts threads (%s), which processes for attempts do not have; "
            "start them in the code that needs them",
            ", ".join(threads),
        )
