"""A small HTTP server in a thread, for a few short answers to GET and HEAD.

Every answer closes its connection and no request has a body, so there is nothing to keep
apart from request to request. What a stranger can cost is bounded: the size of a request,
its time, the number of connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from asyncjobs.errors import AsyncJobsError, ConfigError

__all__ = ["Answer", "ProbeServer", "bind"]

logger = logging.getLogger("asyncjobs.worker")

MOST_BYTES: Final = 4096
MOST_CONNECTIONS: Final = 32
REQUEST_S: Final = 5.0
"""How long a request and its answer may take together."""
LINGER_BYTES: Final = 65536
"""What is read of a request that is too long: closing on unread bytes would reset the
connection, and the answer with it."""
END_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back."""

    status: HTTPStatus
    body: bytes
    content_type: str = "text/plain; charset=utf-8"

    def encode(self, *, with_body: bool) -> bytes:
        allow = "Allow: GET, HEAD\r\n" if self.status == HTTPStatus.METHOD_NOT_ALLOWED else ""
        head = (
            f"HTTP/1.1 {self.status.value} {self.status.phrase}\r\n"
            f"Content-Type: {self.content_type}\r\n"
            f"Content-Length: {len(self.body)}\r\n"
            "Cache-Control: no-store\r\n"
            f"{allow}Connection: close\r\n\r\n"
        )
        return head.encode() + (self.body if with_body else b"")


Routes = Mapping[str, Callable[[], Answer]]


def bind(host: str, port: int, *, flag: str) -> socket.socket:
    """A listening socket. Raises AsyncJobsError when the port is taken, which passes, and
    ConfigError for what does not."""
    is_v6 = ":" in host
    try:
        return socket.create_server(
            (host, port),
            family=socket.AF_INET6 if is_v6 else socket.AF_INET,
            dualstack_ipv6=host == "::" and socket.has_dualstack_ipv6(),
            backlog=MOST_CONNECTIONS,
        )
    except OSError as error:
        where = f"{flag} {port} on {host}"
        if error.errno == errno.EADDRINUSE:
            raise AsyncJobsError(
                f"{where}: the port is in use; stop what listens there, or choose another one"
            ) from None
        raise ConfigError(
            f"{where}: cannot listen there: {error.strerror or error}; choose a port that this "
            "user may open and an address of this machine"
        ) from None


class ProbeServer:
    """Owns a listening socket and the thread that answers on it.

    routes: path -> what answers; called on the thread's loop, so it must not block.
    """

    def __init__(self, listener: socket.socket, routes: Routes) -> None:
        self._listener = listener
        self._routes = routes
        self._connections: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_over = False
        self._thread = threading.Thread(target=self._run, name="asyncjobs-probes", daemon=True)

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns when nothing answers any more. Blocks that long, two seconds at the most."""
        self._is_over = True
        if (loop := self._loop) is not None:
            # The loop is closed: it has ended by itself.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._end.set)
        self._thread.join(END_S)
        self._listener.close()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception:
            logger.exception("the health server failed; probes get no answer any more")

    async def _serve(self) -> None:
        self._end = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        if self._is_over:
            return
        server = await asyncio.start_server(
            self._on_connection, sock=self._listener, limit=MOST_BYTES
        )
        try:
            await self._end.wait()
        finally:
            server.close()

    def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= MOST_CONNECTIONS:
            writer.transport.abort()
            return
        task = asyncio.create_task(self._attend(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _attend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(REQUEST_S):
                    await self._exchange(reader, writer)
        finally:
            # Not `close`: it would wait for a reader that takes nothing.
            writer.transport.abort()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with_body = True
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            answer = _refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        except asyncio.IncompleteReadError:
            # Gone before the request was whole: a probe of the port, or a client that gave up.
            return
        else:
            answer, with_body = self._answer(head)
        writer.write(answer.encode(with_body=with_body))
        await writer.drain()
        writer.write_eof()
        left = LINGER_BYTES
        while left > 0 and (piece := await reader.read(MOST_BYTES)):
            left -= len(piece)

    def _answer(self, head: bytes) -> tuple[Answer, bool]:
        """The answer, and whether its body is wanted."""
        line = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        if len(line) != 3 or not line[1].startswith("/") or not line[2].startswith("HTTP/1."):
            return _refuse(HTTPStatus.BAD_REQUEST), True
        method, target, _ = line
        if method not in ("GET", "HEAD"):
            return _refuse(HTTPStatus.METHOD_NOT_ALLOWED), True
        route = self._routes.get(target.partition("?")[0])
        if route is None:
            text = f"nothing here; there is {', '.join(self._routes)}\n"
            return Answer(HTTPStatus.NOT_FOUND, text.encode()), method == "GET"
        try:
            return route(), method == "GET"
        except Exception:
            logger.exception("no answer for %s", target[:80])
            return _refuse(HTTPStatus.INTERNAL_SERVER_ERROR), method == "GET"


def _refuse(status: HTTPStatus) -> Answer:
    return Answer(status, f"{status.phrase}\n".encode())
