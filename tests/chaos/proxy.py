"""A TCP proxy between one program and the store, which breaks what it is told to break."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

__all__ = ["Proxy", "proxy_to"]


class Way:
    """One direction, requests or replies, of all connections.

    `delay_s` holds each piece back for so long. `bytes_left` are what may still pass,
    then the connection that needs more is cut in the middle of a piece; None: no limit.
    """

    def __init__(self) -> None:
        self.delay_s = 0.0
        self.bytes_left: int | None = None
        self._flows = asyncio.Event()
        self._flows.set()

    def hold(self) -> None:
        """Half-open: nothing passes, nobody is told; new connections are accepted."""
        self._flows.clear()

    def release(self) -> None:
        """Let everything pass again, also what has been held."""
        self._flows.set()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until one side has gone. Raises EOFError then, and to cut the connection."""
        while piece := await reader.read(65536):
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            await self._flows.wait()
            passing = piece if self.bytes_left is None else piece[: self.bytes_left]
            writer.write(passing)
            await writer.drain()
            if self.bytes_left is not None:
                self.bytes_left -= len(passing)
                if len(passing) < len(piece):
                    self.bytes_left = None
                    break
        raise EOFError


class Proxy:
    """Passes bytes both ways. Owns its connections."""

    def __init__(self, port: int) -> None:
        self._to = port
        self.port = 0
        self.requests, self.replies = Way(), Way()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Close all connections."""
        for task in tuple(self._tasks):
            task.cancel()

    def heal(self) -> None:
        """Break nothing any more."""
        for way in (self.requests, self.replies):
            way.delay_s, way.bytes_left = 0.0, None
            way.release()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        writers = [writer]
        try:
            inner, outer = await asyncio.open_connection("127.0.0.1", self._to)
            writers.append(outer)
            async with asyncio.TaskGroup() as ways:
                ways.create_task(self.requests.carry(reader, outer))
                ways.create_task(self.replies.carry(inner, writer))
        except* (OSError, EOFError):
            pass  # either side has gone, or the store is away: so is the connection
        finally:
            self._tasks.discard(task)
            for each in writers:
                # Abort, not close: what is buffered must not reach the other side.
                each.transport.abort()


@asynccontextmanager
async def proxy_to(port: int) -> AsyncIterator[Proxy]:
    """A proxy to a server on this machine, on a free port."""
    proxy = Proxy(port)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await proxy.serve(reader, writer)  # cancelled when cut

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.cut()
        await asyncio.gather(*proxy._tasks, return_exceptions=True)
