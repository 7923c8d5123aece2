"""The worker's end of one child."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from typing import Final, NamedTuple

from asyncjobs.errors import ProcessDied
from asyncjobs.worker.engine.processes.frames import HEAD, Frame, Kind, read_head

__all__ = ["Child", "Ended", "died"]

HELD_OPEN_S: Final = 0.5
"""After a child's end: how long its line may stay open, by a process that it has forked."""


class Ended(NamedTuple):
    """How a child has ended. `status`: as `wait` tells it; None if nobody knows. `peak`: the most
    memory that it ever held, in bytes."""

    status: int | None
    peak: int = 0


class Child:
    """The worker's end of one child. Used by one attempt."""

    def __init__(self, number: int, line: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        self.number = number
        self.pid = 0
        self.ended: asyncio.Future[Ended] = loop.create_future()
        self._line = line
        self._loop = loop
        self._head: tuple[Kind, int] | None = None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def send(self, kind: Kind, body: bytes) -> None:
        """Raises OSError when the child is gone."""
        if self._writer is None:
            streams = await asyncio.open_unix_connection(sock=self._line)
            self._reader, self._writer = streams
        self._writer.writelines((HEAD.pack(kind, len(body)), body))
        await self._writer.drain()

    async def read(self) -> Frame | None:
        """The next frame; None at the end. To be called again after a cancel. Raises BadRecord."""
        if self._reader is None:
            return None
        try:
            # Kept between two calls: a cancel that comes between head and body loses nothing.
            if self._head is None:
                self._head = read_head(await self._reader.readexactly(HEAD.size))
            kind, length = self._head
            body = await self._reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        self._head = None
        return Frame(kind, body)

    def order(self, *kinds: Kind) -> None:
        """Tell it something without a body."""
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(b"".join(HEAD.pack(kind, 0) for kind in kinds))

    def end(self, ended: Ended) -> None:
        """The child is gone."""
        if not self.ended.done():
            self.ended.set_result(ended)
        # Most often its line has ended, too. What it has sent before is still read.
        self._loop.call_later(HELD_OPEN_S, self._cut)

    def _cut(self) -> None:
        with contextlib.suppress(OSError):
            self._line.shutdown(socket.SHUT_RD)

    def close(self) -> None:
        """Let go of the line. An idle child then ends by itself."""
        if self._writer is not None:
            self._writer.close()
        else:
            self._line.close()


def died(ended: Ended) -> ProcessDied:
    """The error of an attempt whose process has ended before it."""
    if ended.status is None:
        return ProcessDied("its process has ended together with the one that had started it")
    code = os.waitstatus_to_exitcode(ended.status)
    held = f"it held up to {ended.peak / (1 << 20):,.0f} MiB of memory"
    if code >= 0:
        return ProcessDied(f"its process has ended with exit code {code}; {held}")
    name = _signal_name(-code)
    hint = ""
    if name == "SIGKILL":
        hint = "; a system without memory ends processes like that"
    return ProcessDied(f"its process was ended by {name}; {held}{hint}")


def _signal_name(number: int) -> str:
    """`SIGSEGV`, or the number of a signal without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
