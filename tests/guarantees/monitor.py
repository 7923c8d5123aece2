"""Every command that a server gets, as MONITOR tells it."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from asyncjobs.testing.servers import Server


class Monitor:
    """Listens while it is open. Owns one connection."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._text = ""

    def lines(self) -> list[str]:
        """The commands that have come so far, those of scripts too."""
        return self._text.splitlines()

    def count(self, what: str) -> int:
        """How many commands with this text have come so far."""
        return self._text.count(what)

    async def __aenter__(self) -> Self:
        reader, self._writer = await asyncio.open_connection("127.0.0.1", self._server.port)
        self._writer.write(b"MONITOR\r\n")
        assert await reader.readline() == b"+OK\r\n"
        self._task = asyncio.create_task(self._read(reader))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._writer.close()
        await self._task

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while piece := await reader.read(1 << 16):
            self._text += piece.decode(errors="replace")
