"""A slow website on loopback: every page takes its time, as pages do that wait themselves."""

from __future__ import annotations

import asyncio
import contextlib
import time
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

DEAD: Final = "/gone"
"""The one link that leads nowhere."""
_LONGEST_REQUEST: Final = 8192
_STEP: Final = 7
"""Pages link this far ahead, to a page that the index has named already."""


class Site:
    """An index and `pages` links below it; each request waits `wait_s` seconds.

    One of the links is dead; each page links to the index and to another page.
    Owns its listening socket and the connections of requests under way. Counts what a
    crawler cannot know: how many requests waited at the same time.
    """

    def __init__(self, pages: int, wait_s: float) -> None:
        self.pages = pages
        self.wait_s = wait_s
        self.waiting = 0
        self.most_waiting = 0
        self.requests = 0
        self.first_s: float | None = None
        """When the first request came, by the monotonic clock."""
        self._server: asyncio.Server | None = None
        self._handlers: set[asyncio.Task[None]] = set()

    @property
    def index(self) -> str:
        """The URL to start from."""
        assert self._server is not None, "the site runs inside of `async with`"
        host, port = self._server.sockets[0].getsockname()
        return f"http://{host}:{port}/"

    async def __aenter__(self) -> Self:
        # All of a crawler's connections may come in one moment.
        self._server = await asyncio.start_server(
            self._accept, "127.0.0.1", 0, backlog=max(self.pages, 128), limit=_LONGEST_REQUEST
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._server is not None:
            self._server.close()
        handlers = tuple(self._handlers)
        for task in handlers:
            task.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._handlers.add(task)
        task.add_done_callback(self._handlers.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request, if there is one."""
        try:
            # What is no request, and clients that have left, get no answer.
            with contextlib.suppress(
                OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError
            ):
                head = await reader.readuntil(b"\r\n\r\n")
                _, target, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
                writer.write(await self._answer(urlsplit(target).path))
                await writer.drain()
        finally:
            writer.close()

    async def _answer(self, path: str) -> bytes:
        if self.first_s is None:
            self.first_s = time.monotonic()
        self.requests += 1
        self.waiting += 1
        self.most_waiting = max(self.most_waiting, self.waiting)
        try:
            await self.pause(path)
        finally:
            self.waiting -= 1
        body = self._page(path)
        status = "200 OK" if body else "404 Not Found"
        head = (
            f"HTTP/1.1 {status}\r\nContent-Type: text/html\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        return head.encode() + body

    async def pause(self, path: str) -> None:
        """What makes the page slow."""
        await asyncio.sleep(self.wait_s)

    def _page(self, path: str) -> bytes:
        """The page as HTML; empty when there is none."""
        alive = self.pages - 1
        if path == "/":
            return _html("Index", [DEAD, *(f"/page/{number}" for number in range(alive))])
        number = path.removeprefix("/page/")
        if number.isdecimal() and int(number) < alive:
            onward = (int(number) + _STEP) % alive
            return _html(f"Page {number}", ["/", f"/page/{onward}"])
        return b""


def _html(title: str, links: list[str]) -> bytes:
    rows = "\n".join(f'<a href="{link}">{link}</a>' for link in links)
    return f"<!doctype html>\n<title>{title}</title>\n{rows}\n".encode()
