"""A TCP proxy between asyncjobs and a server, which loses, delays and cuts what it is told.

    async with proxy_to(server.port) as proxy:
        app = AsyncJobs(proxy.url)
        proxy.latency_s = 0.1                        # each way
        proxy.freeze("exchange")                     # half-open: nobody is told
        proxy.thaw()
        proxy.strand("lease")                        # the same, but new ones work
        proxy.cut("wait", "client")                  # close these now
        proxy.cut_after("exchange", "replies", 17)   # close one at its next 18th byte
        proxy.refuse = True                          # as if nobody listened

Connections are called by their label, the name that asyncjobs gives to each: client, lease,
exchange, wait, results; "" is one that has sent nothing yet.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal, TypeAlias

_NAME = re.compile(rb"asyncjobs:(\w+)")

Way: TypeAlias = Literal["requests", "replies"]


class Wire:
    """One connection through the proxy, and what went over it."""

    def __init__(self) -> None:
        self.label = ""
        self.asked = 0
        """Pieces of requests that were seen since the connection was named."""
        self.stranded = False
        """Half-open for good."""
        self.closing: Callable[[], object] = lambda: None


Decide: TypeAlias = Callable[[Wire, bytes], bytes | None]
"""What passes of a piece of a reply: bytes, or None to cut the connection."""

Hear: TypeAlias = Callable[[Wire, bytes], bool]
"""Whether a piece of a request passes; False cuts the connection in its place."""


@dataclass
class _Cut:
    label: str
    way: Way
    left: int
    reset: bool


class _CutNow(Exception):
    pass


class Proxy:
    """Passes bytes both ways. Owns its connections; made by `proxy_to`."""

    def __init__(self, port: int) -> None:
        self._to = port
        self.port = 0
        self.wires: set[Wire] = set()
        self.lose: Decide | None = None
        """Decides about each piece of a reply, before anything else does."""
        self.hear: Hear | None = None
        """Decides about each piece of a request."""
        self.latency_s = 0.0
        """How long each piece is on its way, in either direction."""
        self.refuse = False
        """Close new connections at once."""
        self.losses = 0
        """Connections that `lose` and `cut_after` have cut."""
        self.passed: Counter[tuple[str, Way]] = Counter()
        """Bytes that have gone each way, by label."""
        self._frozen: dict[str, frozenset[Way]] = {}
        self._cuts: deque[_Cut] = deque()
        self._thaw = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def freeze(self, *labels: str, ways: tuple[Way, ...] = ("requests", "replies")) -> None:
        """Make these connections half-open, also ones that are opened later."""
        self._thaw.clear()
        self._frozen.update(dict.fromkeys(labels, frozenset(ways)))

    def thaw(self) -> None:
        """Let everything pass again, also what has been held."""
        self._frozen.clear()
        self._thaw.set()

    def strand(self, *labels: str) -> int:
        """Make the present connections with these names half-open for good, as when a
        firewall forgets them: new ones work. Returns how many."""
        found = [wire for wire in self.wires if wire.label in labels]
        for wire in found:
            wire.stranded = True
        return len(found)

    def cut(self, *labels: str) -> None:
        """Close the connections with these names; all when none is given."""
        for wire in tuple(self.wires):
            if not labels or wire.label in labels:
                wire.closing()

    def cut_after(self, label: str, way: Way, passed: int, *, reset: bool = False) -> None:
        """Cut one connection when `passed` more bytes have gone this way over connections
        with this label; 0 cuts in place of the next byte. `reset`: by RST, not by FIN.

        Several of them happen one after the other: each begins to count when the one
        before has happened.
        """
        self._cuts.append(_Cut(label, way, passed, reset))

    @property
    def pending_cuts(self) -> int:
        """How many of `cut_after` have not happened yet."""
        return len(self._cuts)

    def forget_cuts(self) -> None:
        """Take back those that have not happened."""
        self._cuts.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refuse:
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        wire = Wire()
        self.wires.add(wire)
        server_writer: asyncio.StreamWriter | None = None
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._to)
            ways = [
                asyncio.create_task(self._pass(wire, "requests", reader, server_writer)),
                asyncio.create_task(self._pass(wire, "replies", server_reader, writer)),
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

    async def _pass(
        self, wire: Wire, way: Way, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """One direction, until its end or until a cut. What is under way when the sender
        closes still arrives, as it would on a real line."""
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        async def read() -> None:
            while data := await reader.read(1 << 16):
                if way == "requests":
                    if not wire.label and (found := _NAME.search(data)):
                        wire.label = found[1].decode()
                    wire.asked += 1
                pieces.put_nowait((loop.time() + self.latency_s, data))
            pieces.put_nowait((loop.time() + self.latency_s, b""))

        reading = asyncio.create_task(read())
        try:
            while True:
                due_s, data = await pieces.get()
                if (left_s := due_s - loop.time()) > 0:
                    await asyncio.sleep(left_s)
                while way in self._frozen.get(wire.label, ()):
                    await self._thaw.wait()
                if wire.stranded:
                    continue
                if not data:
                    return
                writer.write(self._cut_off(wire, way, self._lost(wire, way, data), writer))
                await writer.drain()
        except (_CutNow, OSError):
            return
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    def _lost(self, wire: Wire, way: Way, data: bytes) -> bytes:
        if way == "requests":
            if self.hear is not None and not self.hear(wire, data):
                raise _CutNow
            return data
        if self.lose is None:
            return data
        passed = self.lose(wire, data)
        if passed is None:
            self.losses += 1
            raise _CutNow
        return passed

    def _cut_off(self, wire: Wire, way: Way, data: bytes, writer: asyncio.StreamWriter) -> bytes:
        """What of it still passes; raises when the cut is here."""
        self.passed[wire.label, way] += len(data)
        if not self._cuts:
            return data
        cut = self._cuts[0]
        if cut.label != wire.label or cut.way != way:
            return data
        if len(data) < cut.left:
            cut.left -= len(data)
            return data
        self._cuts.popleft()
        self.losses += 1
        if cut.left:
            writer.write(data[: cut.left])
        if cut.reset:
            linger = struct.pack("ii", 1, 0)
            line = writer.get_extra_info("socket")
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        raise _CutNow


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
