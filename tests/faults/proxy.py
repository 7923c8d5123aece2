"""A TCP proxy between asyncjobs and a server, which loses what a test tells it to lose."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

_NAME = re.compile(rb"asyncjobs:(\w+)")


class Wire:
    """One connection through the proxy, and what went over it. `label` is the name that
    asyncjobs gives to its connection: client, exchange, wait, results."""

    def __init__(self) -> None:
        self.label = ""
        self.asked = 0
        """Pieces of requests that were seen since the connection was named."""
        self.closing: Callable[[], None] = lambda: None


Decide = Callable[[Wire, bytes], bytes | None]
"""What passes of a piece of a reply: bytes, or None to cut the connection."""

Hear = Callable[[Wire, bytes], bool]
"""Whether a piece of a request passes; False cuts the connection in its place."""


class Proxy:
    """Passes bytes both ways. Owns its connections; `lose` decides about replies.

    While `frozen` holds a label, wires with it are half-open: nothing passes either way
    and nobody is told.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self.port = 0
        self.wires: set[Wire] = set()
        self.lose: Decide | None = None
        self.hear: Hear | None = None
        self.frozen: set[str] = set()
        self.losses = 0
        self._thaw = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def freeze(self, *labels: str) -> None:
        """Make these connections half-open, also ones that are opened later."""
        self._thaw.clear()
        self.frozen.update(labels)

    def thaw(self) -> None:
        """Let everything pass again, also what has been held."""
        self.frozen.clear()
        self._thaw.set()

    def cut(self, *labels: str) -> None:
        """Close the connections with these names."""
        for wire in tuple(self.wires):
            if wire.label in labels:
                wire.closing()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        wire = Wire()
        self.wires.add(wire)
        server_writer: asyncio.StreamWriter | None = None
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._to)
            ways = [
                asyncio.create_task(self._requests(wire, reader, server_writer)),
                asyncio.create_task(self._replies(wire, server_reader, writer)),
            ]
            wire.closing = ways[0].cancel
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
        except OSError:
            return  # the server is away: the client sees its connection closed
        except asyncio.CancelledError:
            return
        finally:
            self._tasks.discard(task)
            self.wires.discard(wire)
            writer.transport.abort()
            if server_writer is not None:
                server_writer.transport.abort()

    async def _requests(
        self, wire: Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while data := await reader.read(1 << 16):
            if not wire.label and (found := _NAME.search(data)):
                wire.label = found[1].decode()
            wire.asked += 1
            if self.hear is not None and not self.hear(wire, data):
                return
            await self._hold(wire)
            writer.write(data)
            await writer.drain()

    async def _replies(
        self, wire: Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while data := await reader.read(1 << 16):
            await self._hold(wire)
            if self.lose is not None:
                passed = self.lose(wire, data)
                if passed is None:
                    self.losses += 1
                    return
                data = passed
            writer.write(data)
            await writer.drain()

    async def _hold(self, wire: Wire) -> None:
        while wire.label in self.frozen:
            await self._thaw.wait()


@asynccontextmanager
async def proxy_to(port: int) -> AsyncIterator[Proxy]:
    """A proxy to a server on this machine, on a free port."""
    proxy = Proxy(port)
    server = await asyncio.start_server(proxy._serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        for task in tuple(proxy._tasks):
            task.cancel()
        await asyncio.gather(*proxy._tasks, return_exceptions=True)
