"""One connection to the server, used by one caller at a time, without any retry.

The driver's pool retries a command whose reply was lost. A command that takes jobs would then
take twice as many, and nobody would run the first ones. Here a failure closes the connection
and is raised, and the next call connects again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextvars import Context
from typing import Any, Final, TypeAlias

import hiredis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from asyncjobs.errors import StoreUnavailable
from asyncjobs.guard.own import hide
from asyncjobs.store.redis.address import Address
from asyncjobs.store.redis.faults import Demoted, NoScript, translate
from asyncjobs.store.redis.sentinel import connect_master
from asyncjobs.store.redis.wire import AnyConnection, Wire

__all__ = ["Command", "Link"]

Command: TypeAlias = Sequence[bytes | str | int]

MOST_LOADS: Final = 5
"""How often a script is loaded for one call. Others may make the server forget it in between."""


class Link:
    """Owns one connection. Opens it when first needed, in the process that needs it."""

    def __init__(
        self, address: Address, *, label: str, connect_timeout_s: float, timeout_s: float
    ) -> None:
        self._address = address
        self._label = label
        self._connect_timeout_s = connect_timeout_s
        self.timeout_s = timeout_s
        self._wire: Wire | None = None
        # Replies come in the order of the commands, so callers have to take turns.
        self._lock = asyncio.Lock()

    async def connect(self) -> None:
        """Open the connection now. Raises StoreUnavailable with the address, within the connect
        timeout."""
        await self._connected()

    async def _connected(self) -> Wire:
        if self._wire is None:
            try:
                async with asyncio.timeout(self._connect_timeout_s):
                    self._wire = Wire(await self._open_apart())
            except (RedisError, OSError, TimeoutError) as error:
                raise translate(error, self._address.text) from error
        return self._wire

    async def _open_apart(self) -> AnyConnection:
        """Open it in a context of its own. It lives longer than the call that needs it first, and
        would keep the context of that call."""
        # Not as an argument: a task factory of the user's own may take no context.
        opening = hide(Context().run(asyncio.create_task, self._open()))
        try:
            return await opening
        except BaseException:
            # It may have opened in the very turn of the loop in which its caller was cancelled.
            if opening.done() and not opening.cancelled() and opening.exception() is None:
                await self._discard(opening.result())
            raise

    async def _open(self) -> AnyConnection:
        options: dict[str, Any] = {
            "client_name": f"asyncjobs:{self._label}",
            # Calls have a limit of their own, on the wire.
            "socket_timeout": None,
            "socket_connect_timeout": self._connect_timeout_s,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
            # The driver would read its version from disk at each connection.
            "driver_info": None,
        }
        address = self._address
        if address.sentinels is not None:
            return await connect_master(
                address, address.sentinels, options, self._connect_timeout_s
            )
        connection = address.kind(**address.arguments, **options)
        try:
            # The driver ships types, but left this method without.
            await connection.connect()  # type: ignore[no-untyped-call]
        except BaseException:
            await self._discard(connection)
            raise
        return connection

    async def call(self, *command: bytes | str | int) -> Any:
        """Send one command and return its reply. Raises the server's error, translated."""
        (reply,) = await self.calls((command,))
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def calls(
        self,
        commands: Sequence[Command],
        timeout_s: float | None = None,
        *,
        keeps_cancelled: bool = False,
    ) -> list[Any]:
        """Send commands in one go; the replies in order, with translated errors among them.

        `keeps_cancelled` keeps the connection when the caller is cancelled. It is for commands
        that are answered at once, and whose effect nobody has to know.
        """
        async with self._lock:
            return await self._send(commands, timeout_s or self.timeout_s, keeps_cancelled)

    async def script_calls(
        self,
        text: bytes,
        commands: Sequence[Command],
        last: Sequence[Command] = (),
        *,
        keeps_cancelled: bool = False,
    ) -> list[Any]:
        """Like `calls`, for calls of one script. It is loaded when the server has forgotten it.

        A call that found no script was not executed. So exactly these calls are sent again, with
        the script in front of them and `last` behind them each time. Nobody else uses the
        connection until then, so the next caller finds the script loaded.
        """
        async with self._lock:
            sent = (*commands, *last) if last else commands
            replies = await self._send(sent, self.timeout_s, keeps_cancelled)
            loads = 0
            # rule:10 a forgotten script is loaded again
            while NoScript in map(type, replies):
                # rule:10 a script that is forgotten again is loaded again, in the same call
                if loads == MOST_LOADS:
                    raise self._forgetful()
                loads += 1
                forgotten = [place for place, r in enumerate(replies) if type(r) is NoScript]
                load = (b"SCRIPT", b"LOAD", text)
                again = (load, *(commands[place] for place in forgotten), *last)
                loaded, *answers = await self._send(again, self.timeout_s, keeps_cancelled)
                if isinstance(loaded, Exception):
                    raise loaded
                # `last` was sent again, so its replies are new as well.
                places = (*forgotten, *range(len(commands), len(replies)))
                for place, answer in zip(places, answers, strict=True):
                    replies[place] = answer
            return replies

    def _forgetful(self) -> StoreUnavailable:
        return StoreUnavailable(
            f"the store at {self._address.text} has forgotten a script {MOST_LOADS} times right "
            "after it was loaded; look for what calls SCRIPT FLUSH, or restarts it"
        )

    async def _send(
        self, commands: Sequence[Command], timeout_s: float, keeps_cancelled: bool
    ) -> list[Any]:
        wire = self._wire
        # Servers and firewalls close idle connections. That is no outage: connect again. It is
        # safe only here, before anything is sent, so that nothing can be executed twice.
        if wire is not None and not wire.is_ready() and not await wire.is_usable():
            self._drop()
        if (wire := self._wire) is None:
            wire = await self._connected()
        packed = b"".join([_pack(command) for command in commands])
        try:
            replies = await wire.request(packed, len(commands), timeout_s)
        # rule:4 a connection repeats nothing by itself
        except (RedisError, OSError, TimeoutError) as error:
            self._drop()
            raise translate(error, self._address.text) from error
        except BaseException:
            # Cancelled: replies may still be on their way, and must not reach the next caller.
            if keeps_cancelled:
                wire.forget()
            else:
                self._drop()
            raise
        for place, reply in enumerate(replies):
            if isinstance(reply, RedisError):
                replies[place] = refusal = translate(reply, self._address.text)
                if isinstance(refusal, Demoted) or not isinstance(reply, ResponseError):
                    # This one leads to a replica, or to a server that takes no commands now.
                    # A new connection may lead to the new master.
                    self._drop()
        return replies

    async def push(self, command: Command) -> None:
        """Send a command whose replies arrive through `next_message`."""
        wire = await self._connected()
        try:
            wire.push(_pack(command))
        except (RedisError, OSError) as error:
            self._drop()
            raise translate(error, self._address.text) from error

    def silent(self) -> StoreUnavailable:
        """The error for a server that has not answered in time."""
        return StoreUnavailable(
            f"the store at {self._address.text} has not answered in {self.timeout_s:g} s; "
            "check the network in between"
        )

    async def next_message(self) -> Any:
        """The next thing the server sends, however long that takes."""
        wire = self._wire
        if wire is None:
            raise StoreUnavailable(f"not connected to {self._address.text}")
        try:
            message = await wire.next_message()
        except (RedisError, OSError) as error:
            self._drop()
            raise translate(error, self._address.text) from error
        if isinstance(message, RedisError):
            self._drop()
            raise translate(message, self._address.text) from message
        return message

    async def close(self) -> None:
        """Close at once; safe to call twice."""
        self._drop()

    def _drop(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.close()

    async def _discard(self, connection: AnyConnection) -> None:
        # Without waiting: closing must neither hang nor hide the first error.
        try:
            await connection.disconnect(nowait=True)
        except (RedisError, OSError, TimeoutError):
            return


def _pack(command: Command) -> bytes:
    # The driver packs in Python. For the hundreds of arguments of an exchange that costs more
    # than all else here. The stub of pack_command describes a tuple of one.
    if type(command) is not tuple:
        command = tuple(command)
    packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]
    return packed
