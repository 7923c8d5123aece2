"""Host names are looked up in threads of our own.

The event loop looks names up in its default executor, and uvloop in a pool of four threads.
Jobs use both, and while jobs fill them a worker could not reconnect. So the driver is given an
IP address and looks nothing up.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any, TypeAlias

from redis.asyncio import Connection, SSLConnection

__all__ = ["NamedConnection", "NamedSSLConnection", "addresses_of"]

Place: TypeAlias = tuple[str, int]


async def addresses_of(host: str, port: int) -> list[str]:
    """The IP addresses of a host, each once, the best first. Raises OSError."""
    if _is_address(host):
        return [host]
    return await asyncio.wrap_future(_lookups.ask((host, port)))


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class _Lookups:
    """Owns the lookups that are under way: one for each name, shared by all who wait for it.

    Otherwise a resolver that does not answer would cost one thread for each attempt to
    reconnect.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: dict[Place, Future[list[str]]] = {}

    def ask(self, place: Place) -> Future[list[str]]:
        """Look up a place. Raises OSError when no thread can be started."""
        with self._lock:
            found = self._under_way.get(place)
            if found is not None:
                return found
            answer: Future[list[str]] = Future()
            # From here on no waiter can cancel it, for others may wait for it, too.
            answer.set_running_or_notify_cancel()
            thread = threading.Thread(
                target=self._resolve, args=(place, answer), name="asyncjobs-resolve", daemon=True
            )
            try:
                thread.start()
            except RuntimeError as error:
                # Out of threads. That passes, and the next attempt to connect tries again.
                raise OSError(f"cannot look up {place[0]}: {error}") from error
            self._under_way[place] = answer
            return answer

    def _resolve(self, place: Place, answer: Future[list[str]]) -> None:
        addresses: list[str] = []
        failure: OSError | None = None
        try:
            found = socket.getaddrinfo(*place, type=socket.SOCK_STREAM)
            addresses = list(dict.fromkeys(str(info[4][0]) for info in found))
        except OSError as error:
            failure = error
        except UnicodeError as error:
            # A part of the name is empty, or longer than 63 characters.
            failure = OSError(f"{place[0]!r} is no host name: {error}")
        with self._lock:
            self._under_way.pop(place, None)
        if failure is None:
            answer.set_result(addresses)
        else:
            answer.set_exception(failure)


_lookups = _Lookups()


def _start_anew() -> None:
    """In a forked child there are no threads, and their lock may stay held for ever."""
    global _lookups
    _lookups = _Lookups()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)


class NamedConnection(Connection):
    """A connection of the driver to an address that we have looked up. It keeps the host's name
    for people and for TLS."""

    _address: str | None = None

    async def _connect(self) -> None:
        failure: OSError | None = None
        for address in await addresses_of(self.host, self.port):
            self._address = address
            try:
                # The driver ships types, but left this method without.
                await super()._connect()  # type: ignore[no-untyped-call]
            except OSError as error:
                failure = error
            else:
                return
        raise failure or OSError(f"{self.host} has no address")

    def _connection_arguments(self) -> Mapping[str, Any]:
        return {**super()._connection_arguments(), "host": self._address or self.host}


class NamedSSLConnection(NamedConnection, SSLConnection):
    """The same over TLS: the certificate is checked against the name, not the address."""

    def _connection_arguments(self) -> Mapping[str, Any]:
        return {**super()._connection_arguments(), "server_hostname": self.host}
