"""From a store URL to the arguments of a connection. Knows no secret afterwards but those."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from redis.asyncio import Connection, SSLConnection, UnixDomainSocketConnection

from asyncjobs.errors import ConfigError

__all__ = ["Address"]

_TLS = {
    "ssl_ca_certs": "ssl_ca_certs",
    "ssl_certfile": "ssl_certfile",
    "ssl_keyfile": "ssl_keyfile",
    "ssl_keyfile_password": "ssl_password",
}

_ESCAPE = "in a password write %2F for /, %3F for ?, %23 for #, %40 for @"


@dataclass(frozen=True, slots=True)
class Address:
    """Where the store is and how to get in.

    redis://[user:password@]host[:port][/db], rediss:// the same with TLS and the query
    fields ssl_ca_certs, ssl_certfile, ssl_keyfile, ssl_keyfile_password and
    ssl_check_hostname; unix://[user:password@]/path/to.sock[?db=0].
    """

    text: str
    """For people: never holds credentials."""
    kind: type[Connection | UnixDomainSocketConnection]
    arguments: dict[str, Any] = field(repr=False)

    @classmethod
    def parse(cls, url: str) -> Address:
        """Raises ConfigError naming the part that is wrong, never a password."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            # What could not be read may be a piece of the password: it is not repeated.
            raise ConfigError(
                f"the store URL cannot be read: look at host and port; {_ESCAPE}"
            ) from None
        query = {
            key: values[-1] for key, values in parse_qs(parts.query, keep_blank_values=True).items()
        }
        if parts.fragment or "#" in url:
            # Most likely of a password, whose first part would then stand for host and port.
            raise ConfigError(f"the store URL has a '#'; {_ESCAPE}")
        arguments: dict[str, Any] = {}
        if parts.username:
            arguments["username"] = unquote(parts.username)
        if parts.password:
            arguments["password"] = unquote(parts.password)
        if parts.scheme == "unix":
            return cls._socket(parts, query, arguments)
        arguments["host"] = parts.hostname or "localhost"
        arguments["port"] = port or 6379
        arguments["db"] = _db(parts.path.strip("/") or query.pop("db", "0"))
        kind: type[Connection] = Connection
        if parts.scheme == "rediss":
            kind = SSLConnection
            arguments |= _tls(query)
        _refuse_rest(query, parts.scheme)
        text = f"{parts.scheme}://{arguments['host']}:{arguments['port']}/{arguments['db']}"
        return cls(text, kind, arguments)

    @classmethod
    def _socket(
        cls, parts: SplitResult, query: dict[str, str], arguments: dict[str, Any]
    ) -> Address:
        path = unquote(parts.path)
        if not path:
            raise ConfigError("a unix:// store URL needs a path, as in unix:///run/valkey.sock")
        arguments["path"] = path
        arguments["db"] = _db(query.pop("db", "0"))
        _refuse_rest(query, "unix")
        return cls(f"unix://{path}?db={arguments['db']}", UnixDomainSocketConnection, arguments)


def _db(text: str) -> int:
    if not text.isdecimal():
        raise ConfigError(f"the store URL's database, behind the last '/', is no number; {_ESCAPE}")
    return int(text)


def _tls(query: dict[str, str]) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "ssl_cert_reqs": "required",
        "ssl_check_hostname": query.pop("ssl_check_hostname", "true").lower() != "false",
        "ssl_min_version": ssl.TLSVersion.TLSv1_2,
    }
    for name, argument in _TLS.items():
        if name in query:
            arguments[argument] = query.pop(name)
            if name != "ssl_keyfile_password" and not os.access(arguments[argument], os.R_OK):
                raise ConfigError(
                    f"the store URL's {name}={arguments[argument]} cannot be read; "
                    "check the path and its rights"
                )
    return arguments


def _refuse_rest(query: dict[str, str], scheme: str) -> None:
    if query:
        known = "db" if scheme != "rediss" else ", ".join((*_TLS, "ssl_check_hostname", "db"))
        raise ConfigError(
            f"the store URL has an unknown field behind '?'; {scheme}:// knows {known}; {_ESCAPE}"
        )
