"""From a store URL to the arguments of a connection. Only these hold secrets afterwards."""

from __future__ import annotations

import os
import re
import ssl
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from redis.asyncio import Connection, UnixDomainSocketConnection

from asyncjobs.errors import ConfigError
from asyncjobs.store.redis.resolving import NamedConnection, NamedSSLConnection

__all__ = ["Address", "Sentinels", "place_text"]

_TLS = {
    "ssl_ca_certs": "ssl_ca_certs",
    "ssl_certfile": "ssl_certfile",
    "ssl_keyfile": "ssl_keyfile",
    "ssl_keyfile_password": "ssl_password",
}
_TLS_FIELDS = (*_TLS, "ssl_check_hostname", "ssl_cert_reqs")
_SENTINEL_FIELDS = ("sentinel_username", "sentinel_password")
_FIELDS = {
    "redis": ("db",),
    "unix": ("db",),
    "rediss": (*_TLS_FIELDS, "db"),
    "redis+sentinel": (*_SENTINEL_FIELDS, "db"),
    "rediss+sentinel": (*_SENTINEL_FIELDS, *_TLS_FIELDS, "db"),
}
_SAME = {
    "valkey": "redis",
    "valkeys": "rediss",
    "valkey+sentinel": "redis+sentinel",
    "valkeys+sentinel": "rediss+sentinel",
}
"""Other names of schemes: both servers speak the same protocol."""
_SERVICE = re.compile(r"[A-Za-z0-9._-]+")

_FIELD = re.compile(r"[a-z][a-z_]{1,39}")
_ESCAPE = "in a password write %2F for /, %3F for ?, %23 for #, %40 for @"


@dataclass(frozen=True, slots=True)
class Sentinels:
    """The sentinels that know where the master of `service` is, and how to connect to them."""

    service: str
    places: tuple[tuple[str, int], ...]
    arguments: dict[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Address:
    """Where the store is, and how to connect to it.

    redis://[user:password@]host[:port][/db], rediss:// the same with TLS and the query
    fields ssl_ca_certs, ssl_certfile, ssl_keyfile, ssl_keyfile_password, ssl_check_hostname
    and ssl_cert_reqs; unix://[user:password@]/path/to.sock[?db=0];
    redis+sentinel://[user:password@]host[:port][,host[:port]...]/service[/db] with the
    query fields sentinel_username and sentinel_password; rediss+sentinel:// the same with
    TLS to the sentinels and to the store. User and password are the store's. `valkey` may
    stand for `redis` in each of these, and `valkeys` for `rediss`.
    """

    text: str
    """For people: never holds credentials."""
    kind: type[Connection | UnixDomainSocketConnection]
    arguments: dict[str, Any] = field(repr=False)
    sentinels: Sentinels | None = None
    """With them `arguments` have no host and port: the sentinels name these."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is unsafe about this connection."""
        if self.arguments.get("ssl_cert_reqs") != "none":
            return ()
        return (
            f"ssl_cert_reqs=none: nobody checks that {self.text} is the store, and whoever "
            "stands in between reads jobs and password; give ssl_ca_certs instead",
        )

    @classmethod
    def parse(cls, url: str) -> Address:
        """Raises ConfigError. The error names the part that is wrong, and never a password."""
        parts = _split(url)
        # A plus stands for itself, as it does in front of the question mark.
        fields = parse_qs(parts.query.replace("+", "%2B"), keep_blank_values=True)
        query = {key: values[-1] for key, values in fields.items()}
        arguments: dict[str, Any] = {}
        if parts.username:
            arguments["username"] = unquote(parts.username)
        if parts.password:
            arguments["password"] = unquote(parts.password)
        if parts.scheme == "unix":
            return cls._socket(parts, query, arguments)
        scheme = _SAME.get(parts.scheme, parts.scheme)
        tls: dict[str, Any] = {}
        kind: type[Connection] = NamedConnection
        if scheme.startswith("rediss"):
            tls = _tls(query)
            kind = NamedSSLConnection
        if scheme.endswith("+sentinel"):
            return cls._service(parts, query, kind, arguments | tls, tls)
        arguments["host"] = parts.hostname or "localhost"
        arguments["port"] = parts.port or 6379
        arguments["db"] = _db(parts.path.strip("/") or query.pop("db", "0"))
        _refuse_rest(query, parts.scheme)
        named = place_text(arguments["host"], arguments["port"])
        text = f"{parts.scheme}://{named}/{arguments['db']}"
        return cls(text, kind, arguments | tls)

    @classmethod
    def _socket(
        cls, parts: SplitResult, query: dict[str, str], arguments: dict[str, Any]
    ) -> Address:
        path = unquote(parts.path)
        host = parts.netloc.rpartition("@")[2]
        if host or not path.startswith("/") or "\0" in path:
            # This may be a piece of the password, so the error does not repeat it.
            raise ConfigError(
                "a unix:// store URL needs a path and names no host, as in "
                f"unix:///run/valkey.sock or unix://user:password@/run/valkey.sock; {_ESCAPE}"
            )
        if "@" in parts.path:
            raise ConfigError(
                "the path of the unix:// store URL has an '@'; write unix://user:password@ and "
                "then the path, and %40 for an @ of the path"
            )
        arguments["path"] = path
        arguments["db"] = _db(query.pop("db", "0"))
        _refuse_rest(query, "unix")
        return cls(f"unix://{path}?db={arguments['db']}", UnixDomainSocketConnection, arguments)

    @classmethod
    def _service(
        cls,
        parts: SplitResult,
        query: dict[str, str],
        kind: type[Connection],
        arguments: dict[str, Any],
        tls: dict[str, Any],
    ) -> Address:
        service, _, db = parts.path.strip("/").partition("/")
        if _SERVICE.fullmatch(service) is None:
            # This may be a piece of the password, so the error does not repeat it.
            raise ConfigError(
                f"a {parts.scheme}:// store URL names the service behind the sentinels, in "
                f"letters, digits, '.', '-' and '_': {parts.scheme}://host1:26379,host2:26379/"
                f"service; {_ESCAPE}"
            )
        arguments["db"] = _db(db or query.pop("db", "0"))
        access = {
            name.removeprefix("sentinel_"): query.pop(name)
            for name in _SENTINEL_FIELDS
            if name in query
        }
        _refuse_rest(query, parts.scheme)
        # One at a time, so that a bracketed address keeps its colons.
        hosts = parts.netloc.rpartition("@")[2].split(",")
        places = tuple(_place(host) for host in hosts if host)
        sentinels = Sentinels(service, places or (("localhost", 26379),), access | tls)
        named = ",".join(place_text(host, port) for host, port in sentinels.places)
        text = f"{parts.scheme}://{named}/{sentinels.service}/{arguments['db']}"
        return cls(text, kind, arguments, sentinels)


def place_text(host: str, port: int) -> str:
    """Host and port as in a URL: without brackets the port would read as part of an IPv6
    address."""
    if ":" in host:
        return f"[{host}]:{port}"
    return f"{host}:{port}"


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        if not parts.scheme.endswith("+sentinel"):
            # Read now, for a wrong port is noticed only when it is asked for.
            _ = parts.port
    except ValueError:
        raise _unreadable() from None
    if parts.fragment or "#" in url:
        # Most likely it is part of a password. Its first part would then be taken for the host.
        raise ConfigError(f"the store URL has a '#'; {_ESCAPE}")
    return parts


def _place(text: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")
        if not parts.hostname or parts.path:
            raise _unreadable()
        return parts.hostname, parts.port or 26379
    except ValueError:
        raise _unreadable() from None


def _unreadable() -> ConfigError:
    # What could not be read may be a piece of the password, so the error does not repeat it.
    return ConfigError(f"the store URL cannot be read: look at host and port; {_ESCAPE}")


def _db(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise ConfigError(f"the store URL's database, behind the last '/', is no number; {_ESCAPE}")
    return int(text)


def _tls(query: dict[str, str]) -> dict[str, Any]:
    # A '@' behind the question mark means that a password has the question mark, and that what
    # looks like fields is the rest of it.
    is_sure = not any("@" in text for field in query.items() for text in field)
    arguments: dict[str, Any] = {
        "ssl_cert_reqs": _cert_reqs(query.pop("ssl_cert_reqs", "required")),
        "ssl_check_hostname": query.pop("ssl_check_hostname", "true").lower() != "false",
        "ssl_min_version": ssl.TLSVersion.TLSv1_2,
    }
    if arguments["ssl_cert_reqs"] == "none":
        # The name in a certificate that nobody checks proves nothing.
        arguments["ssl_check_hostname"] = False
    for name, argument in _TLS.items():
        if name in query:
            arguments[argument] = query.pop(name)
            if name != "ssl_keyfile_password" and not _can_read(arguments[argument]):
                path = ""
                if is_sure:
                    path = f"={arguments[argument]:.200}"
                raise ConfigError(
                    f"the store URL's {name}{path} cannot be read; check the path and its rights"
                )
    return arguments


def _can_read(path: str) -> bool:
    return "\0" not in path and os.access(path, os.R_OK)


def _cert_reqs(value: str) -> str:
    """The value for the driver. `CERT_NONE`, as Celery and kombu write it, is known, too."""
    wanted = value.lower().removeprefix("cert_")
    if wanted not in ("required", "optional", "none"):
        raise ConfigError(
            "the store URL's ssl_cert_reqs must be required, or none for a server whose "
            "certificate nobody checks"
        )
    # A server always shows its certificate, so "optional" would check it all the same.
    if wanted == "optional":
        return "required"
    return wanted


def _refuse_rest(query: dict[str, str], scheme: str) -> None:
    if not query:
        return
    known = _FIELDS[_SAME.get(scheme, scheme)]
    wrong = [name for name in query if _FIELD.fullmatch(name)]
    if len(wrong) < len(query) or any("@" in value for value in query.values()):
        # It may be a piece of the password, which ends at an '@': do not repeat it.
        said = "an unknown field"
        advice = f"; {_ESCAPE}"
    else:
        near = get_close_matches(wrong[0], known, n=1)
        said = f"the unknown field {wrong[0]!r}"
        advice = ""
        if near:
            advice = f"; did you mean {near[0]}?"
    raise ConfigError(
        f"the store URL has {said} behind '?'; {scheme}:// knows {', '.join(known)}{advice}"
    )
