"""The bytes of one open connection: commands out, parsed replies in.

The driver opens connections well (TLS, sockets, credentials). But it reads each reply through
a stream and three coroutines, which costs more than all else that a call does in Python. Here
replies are parsed where the bytes arrive.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextvars import Context
from typing import Any, Final, cast

import hiredis
from redis.asyncio import Connection, UnixDomainSocketConnection
from redis.exceptions import ConnectionError as DriverConnectionError
from redis.exceptions import InvalidResponse

__all__ = ["AnyConnection", "Wire"]

AnyConnection = Connection | UnixDomainSocketConnection

QUIET_S: Final = 1.0
"""After so long without a call, check whether the other side has closed before the next one."""
MOST_MESSAGES: Final = 1_000
"""How many messages are kept for a slow reader. Beyond that nothing more is read."""

_NOTHING: Final = object()
_CONTEXT: Final = Context()


class Wire(asyncio.Protocol):
    """Owns the transport of one connection, and what has arrived on it and was not read yet.

    One caller at a time uses it: `request` for commands with replies, or `push` and
    `next_message` for a connection on which messages arrive.
    """

    def __init__(self, connection: AnyConnection) -> None:
        """Take over an open connection whose replies were all read."""
        self._loop = asyncio.get_running_loop()
        reader, writer = connection._reader, connection._writer
        if reader is None or writer is None:
            raise DriverConnectionError("the connection is not open")
        # From now on the driver must neither close the transport nor warn about it. The writer is
        # kept here, for it closes the transport when it is collected.
        connection._reader = connection._writer = None
        self._writer = writer
        # It belongs to a socket, so it can be read as well as written.
        self._transport = cast(asyncio.Transport, writer.transport)
        self._parser = hiredis.Reader(
            protocolError=InvalidResponse,
            replyError=connection._parser.parse_error,
            notEnoughData=_NOTHING,
        )
        self._replies: deque[Any] = deque()
        self._wanted = self._unwanted = 0
        self._waiter: asyncio.Future[None] | None = None
        self._lost: Exception | None = None
        self._is_paused = False
        self._deadline_s = self._used_s = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._transport.set_protocol(self)
        if reader.at_eof():
            self.connection_lost(None)

    # ── what the transport says ──────────────────────────────────────────────────────

    def data_received(self, data: bytes) -> None:
        replies, parser = self._replies, self._parser
        parser.feed(data)
        try:
            while (reply := parser.gets()) is not _NOTHING:
                if self._unwanted:
                    self._unwanted -= 1
                else:
                    replies.append(reply)
        except InvalidResponse as error:
            self.connection_lost(error)
            self._transport.abort()
            return
        waiter = self._waiter
        if waiter is None:
            if len(replies) > MOST_MESSAGES and not self._is_paused:
                self._is_paused = True
                self._transport.pause_reading()
        elif len(replies) >= self._wanted and not waiter.done():
            waiter.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._lost is None:
            self._lost = exc or DriverConnectionError("Connection closed by server.")
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_exception(self._lost)

    # ── what the caller asks for ─────────────────────────────────────────────────────

    def is_ready(self) -> bool:
        """Whether a call may be sent at once: it was used lately and is sound."""
        return self._loop.time() - self._used_s <= QUIET_S and self._is_sound()

    async def is_usable(self) -> bool:
        """False when the other side has closed, or has sent what nobody asked for."""
        # The loop may not have looked at the socket yet. It does so in the first turn, and in the
        # second one what it has found there arrives here.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return self._is_sound()

    def _is_sound(self) -> bool:
        return self._lost is None and not self._replies and not self._transport.is_closing()

    async def request(self, commands: bytes, count: int, timeout_s: float) -> list[Any]:
        """Send packed commands and return their `count` replies, with errors among them.

        Raises what ended the connection, or TimeoutError. After any exception replies may still
        be on their way: without `forget` the wire must not be used again.
        """
        loop = self._loop
        self._wanted = count
        self._used_s = now_s = loop.time()
        self._deadline_s = now_s + timeout_s
        # One timer serves many calls: it is set again when it goes off, not for each call.
        if self._timer is None or self._timer.when() > self._deadline_s:
            self._arm()
        self._write(commands)
        if len(self._replies) < count:
            await self._arrival()
        replies = self._replies
        self._replies = deque()
        return list(replies)

    def forget(self) -> None:
        """The caller of `request` was cancelled: drop its replies when they arrive."""
        self._unwanted += self._wanted - len(self._replies)
        self._replies.clear()

    def push(self, command: bytes) -> None:
        """Send a packed command whose replies arrive as messages."""
        self._write(command)

    async def next_message(self) -> Any:
        """The next thing that arrives, however long that takes."""
        if not self._replies:
            if self._lost is not None:
                raise self._lost
            self._wanted, self._deadline_s = 1, float("inf")
            await self._arrival()
        message = self._replies.popleft()
        if self._is_paused and not self._replies:
            self._is_paused = False
            self._transport.resume_reading()
        return message

    def close(self) -> None:
        """Close at once. What was not sent yet is lost. Safe to call twice."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        is_tls = self._transport.get_extra_info("ssl_object") is not None
        if is_tls or self._transport.get_write_buffer_size():
            # A TLS shutdown takes round trips, and the loop may end before it is done.
            self._transport.abort()
        else:
            self._transport.close()

    # ── within ───────────────────────────────────────────────────────────────────────

    def _write(self, data: bytes) -> None:
        if self._lost is not None:
            raise self._lost
        self._transport.write(data)

    async def _arrival(self) -> None:
        waiter = self._waiter = self._loop.create_future()
        try:
            await waiter
        finally:
            self._waiter = None
            # From here on nobody waits for the timer.
            self._deadline_s = float("inf")

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        # The timer outlives the call that sets it, and must not keep the context of that call.
        self._timer = self._loop.call_at(self._deadline_s, self._expire, context=_CONTEXT)

    def _expire(self) -> None:
        self._timer = None
        waiter = self._waiter
        if waiter is None or waiter.done() or self._deadline_s == float("inf"):
            return
        # A timer may fire early by the clock's resolution.
        if self._deadline_s <= self._loop.time() + 0.001:
            waiter.set_exception(TimeoutError())
        else:
            self._arm()
