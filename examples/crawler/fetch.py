"""A small HTTP client with limits, on asyncio's streams alone.

Enough for a site that answers with `Connection: close`. For the open internet take a
client that knows TLS, redirects and compression, and give it the same limits.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

_LONGEST_HEAD: Final = 16_384


class FetchFailed(Exception):
    """No usable answer; another attempt may get one."""


class NotThere(Exception):
    """The server says that there is no such page (4xx): asking again is of no use."""


@dataclass(frozen=True, slots=True)
class Fetcher:
    """Fetches pages: at most `connections` at a time, each in `timeout_s` and `max_bytes`.

    Holds no connection between fetches.
    """

    connections: asyncio.Semaphore
    timeout_s: float
    max_bytes: int

    async def get(self, url: str) -> str:
        """The page at an http:// URL, as text. Raises FetchFailed and NotThere.

        The time-out holds from the moment in which a connection is free.
        """
        async with self.connections:
            try:
                async with asyncio.timeout(self.timeout_s):
                    return await self._fetch(url)
            except TimeoutError as error:
                raise FetchFailed(f"{url}: no answer within {self.timeout_s:g} s") from error
            except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
                raise FetchFailed(f"{url}: {type(error).__name__}: {error}") from error

    async def _fetch(self, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise NotThere(f"{url}: only http:// URLs can be fetched here")
        reader, writer = await asyncio.open_connection(
            parts.hostname, parts.port or 80, limit=_LONGEST_HEAD
        )
        try:
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            writer.write(
                f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
                "User-Agent: asyncjobs-example\r\nConnection: close\r\n\r\n".encode()
            )
            _check_status(url, await reader.readuntil(b"\r\n\r\n"))
            return (await self._body(url, reader)).decode(errors="replace")
        finally:
            writer.close()

    async def _body(self, url: str, reader: asyncio.StreamReader) -> bytes:
        """All up to the end; what is longer than allowed is not read on."""
        pieces: list[bytes] = []
        size = 0
        while piece := await reader.read(65_536):
            pieces.append(piece)
            size += len(piece)
            if size > self.max_bytes:
                raise NotThere(f"{url}: longer than {self.max_bytes:,} bytes")
        return b"".join(pieces)


def _check_status(url: str, head: bytes) -> None:
    line = head.split(b"\r\n", 1)[0].decode("latin-1")
    status = line.split(" ")[1] if line.startswith("HTTP/1.") and " " in line else ""
    if status.startswith("4") and status != "429":
        raise NotThere(f"{url}: {line}")
    if status != "200":
        raise FetchFailed(f"{url}: {line!r}")
