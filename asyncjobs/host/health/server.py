"""A small HTTP server in a thread, for a few short answers to GET and HEAD: probes, metrics.

Each answer closes its connection and no request has a body, so one request never affects another.
A stranger can cost little: the size of a request, its time and the number of connections have
limits.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from asyncjobs.errors import AsyncJobsError, ConfigError
from asyncjobs.guard.guarded import GuardedLog

__all__ = ["Answer", "ProbeServer", "Request", "bind", "listen"]

logger = GuardedLog("asyncjobs.worker")

MOST_BYTES: Final = 4096
MOST_CONNECTIONS: Final = 32
REQUEST_S: Final = 5.0
"""How long a request may take to arrive and to get a quick answer."""
ANSWER_S: Final = 15.0
"""How long a slow answer may take, including the wait for others before it."""
LINGER_BYTES: Final = 65536
"""How many more bytes are read of a request that is too long. To close a connection with unread
bytes would reset it, and the answer would be lost."""
END_S: Final = 2.0
"""How long `stop` waits for the thread."""
ACCEPT_AGAIN_S: Final = 0.1
"""The pause after a connection could not be accepted."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back."""

    status: HTTPStatus
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()
    """Headers beside those that each answer has."""

    def encode(self, *, with_body: bool) -> bytes:
        more = "".join(f"{name}: {value}\r\n" for name, value in self.headers)
        if self.status == HTTPStatus.METHOD_NOT_ALLOWED:
            more += "Allow: GET, HEAD\r\n"
        head = (
            f"HTTP/1.1 {self.status.value} {self.status.phrase}\r\n"
            f"Content-Type: {self.content_type}\r\n"
            f"Content-Length: {len(self.body)}\r\n"
            "Cache-Control: no-store\r\n"
            f"{more}Connection: close\r\n\r\n"
        )
        if not with_body:
            return head.encode()
        return head.encode() + self.body


@dataclass(frozen=True, slots=True)
class Request:
    """The part of a request that a slow route may read. Names of headers are in lower case."""

    query: str
    headers: Mapping[str, str]


Routes = Mapping[str, Callable[[], Answer]]
SlowRoutes = Mapping[str, Callable[[Request], Answer]]


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises OSError."""
    family = socket.AF_INET
    if ":" in host:
        family = socket.AF_INET6
    return socket.create_server(
        (host, port),
        family=family,
        dualstack_ipv6=host == "::" and socket.has_dualstack_ipv6(),
        backlog=MOST_CONNECTIONS,
    )


def bind(host: str, port: int, *, flag: str) -> socket.socket:
    """A listening socket. Raises AsyncJobsError when the port is in use, because that may pass, and
    ConfigError for what will not pass."""
    try:
        return listen(host, port)
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

    routes: a function for each path. It is called on the thread's loop, so it must not block.
    slow: the same for functions that may block. One at a time runs, in a thread of its own.
    name: the name of the thread.
    """

    def __init__(
        self,
        listener: socket.socket,
        routes: Routes,
        *,
        slow: SlowRoutes | None = None,
        name: str = "asyncjobs-probes",
    ) -> None:
        self._listener = listener
        self._routes = routes
        self._slow = slow or {}
        self._turn = asyncio.Lock()
        """Held while a slow route runs."""
        self._connections: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_over = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Blocks until nothing answers any more, or for `END_S`."""
        self._is_over = True
        if (loop := self._loop) is not None:
            # A RuntimeError: the loop is closed, since the thread has ended by itself.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._end.set)
        self._thread.join(END_S)
        self._listener.close()

    def _run(self) -> None:
        try:
            # Not the default loop of the platform: on Windows that one has no `add_reader`.
            with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
                runner.run(self._serve())
        except Exception:
            logger.exception("%s: the server failed, nobody gets an answer", self._thread.name)

    async def _serve(self) -> None:
        self._end = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        if self._is_over:
            return
        self._listener.setblocking(False)
        self._listen()
        await self._end.wait()
        self._loop.remove_reader(self._listener)
        for task in self._connections:
            task.cancel()
        if self._connections:
            await asyncio.wait(self._connections)

    def _listen(self) -> None:
        if self._loop is not None and not self._is_over:
            self._loop.add_reader(self._listener, self._accept, self._loop)

    def _accept(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take one connection. Not by `asyncio.start_server` or `sock_accept`: both forget a
        connection that comes in at the very end, and the first one has no limit."""
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionError):
            # The connection is gone already.
            return
        except OSError as error:
            logger.debug("a probe could not be accepted: %s", error)
            # Most likely no more files can be opened. That lasts, and the listener stays ready, so
            # with its reader the loop would spin.
            loop.remove_reader(self._listener)
            loop.call_later(ACCEPT_AGAIN_S, self._listen)
            return
        if len(self._connections) >= MOST_CONNECTIONS:
            # Closed at once, not left to wait: whoever holds connections open would otherwise take
            # the files that the worker needs to reach its store.
            connection.close()
            return
        connection.setblocking(False)
        task = loop.create_task(self._attend(connection))
        self._connections.add(task)

        def end(task: asyncio.Task[None]) -> None:
            # Not in the task itself: one that is cancelled before its first step closes nothing.
            self._connections.discard(task)
            connection.close()

        task.add_done_callback(end)

    async def _attend(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(REQUEST_S) as limit:
                await self._exchange(connection, limit)

    async def _exchange(self, connection: socket.socket, limit: asyncio.Timeout) -> None:
        loop = asyncio.get_running_loop()
        head = b""
        while b"\r\n\r\n" not in head and len(head) <= MOST_BYTES:
            piece = await loop.sock_recv(connection, MOST_BYTES)
            if not piece:
                # Closed before the request was complete: a check of the port, or a client that has
                # given up.
                return
            head += piece
        if len(head) > MOST_BYTES:
            answer = _refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            with_body = True
        else:
            answer, with_body = await self._answer(head, limit)
        # One answer a connection. Probes come every few seconds and gain nothing by keeping it.
        await loop.sock_sendall(connection, answer.encode(with_body=with_body))
        connection.shutdown(socket.SHUT_WR)
        left = LINGER_BYTES
        while left > 0 and (piece := await loop.sock_recv(connection, MOST_BYTES)):
            left -= len(piece)

    async def _answer(self, head: bytes, limit: asyncio.Timeout) -> tuple[Answer, bool]:
        """The answer, and whether its body is wanted."""
        line = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        if len(line) != 3 or not line[1].startswith("/") or not line[2].startswith("HTTP/1."):
            return _refuse(HTTPStatus.BAD_REQUEST), True
        method, target, _ = line
        if method not in ("GET", "HEAD"):
            return _refuse(HTTPStatus.METHOD_NOT_ALLOWED), True
        path, _, query = target.partition("?")
        try:
            if (route := self._routes.get(path)) is not None:
                return route(), method == "GET"
            if (slow := self._slow.get(path)) is not None:
                # Metrics of many queues take their time, and another reader may be served before.
                limit.reschedule(asyncio.get_running_loop().time() + ANSWER_S)
                request = Request(query, _headers(head))
                return await self._in_thread(slow, request), method == "GET"
            text = f"nothing here; there is {', '.join([*self._routes, *self._slow])}\n"
            return Answer(HTTPStatus.NOT_FOUND, text.encode()), method == "GET"
        except Exception:
            # Who asks gets no traceback: a probe may be readable for more people than the log.
            logger.exception("no answer for %s", target[:80])
            return _refuse(HTTPStatus.INTERNAL_SERVER_ERROR), method == "GET"

    async def _in_thread(self, route: Callable[[Request], Answer], request: Request) -> Answer:
        """Call a slow route in a thread of its own. Not in an executor: Python waits for its
        threads at the end of the process, and a route may hang. The turn lasts as long as the
        thread, so there is one thread at most."""
        await self._turn.acquire()
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[Answer] = loop.create_future()

        def end(answer: Answer | None, error: Exception | None) -> None:
            self._turn.release()
            if answered.done():
                return
            if answer is not None:
                answered.set_result(answer)
            elif error is not None:
                answered.set_exception(error)

        def ask() -> None:
            answer = None
            fault = None
            try:
                answer = route(request)
            except Exception as error:
                fault = error
            # A RuntimeError: the loop is closed, so nobody waits any more.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(end, answer, fault)

        try:
            threading.Thread(target=ask, name=f"{self._thread.name}-slow", daemon=True).start()
        except BaseException:
            self._turn.release()
            raise
        return await answered


def _headers(head: bytes) -> dict[str, str]:
    lines = head.decode("latin-1").split("\r\n")[1:]
    pairs = (line.partition(":") for line in lines if line)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _refuse(status: HTTPStatus) -> Answer:
    return Answer(status, f"{status.phrase}\n".encode())
