"""What is checked of a server before it is trusted with jobs."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

from asyncjobs.errors import ConfigError, StoreError, UnsupportedLayout
from asyncjobs.store.redis.faults import AccessDenied, ClusterNode, cluster_error
from asyncjobs.store.redis.keys import StoreKeys
from asyncjobs.store.redis.layout import LAYOUT, READABLE
from asyncjobs.store.redis.link import Link
from asyncjobs.store.seam import StoreInfo

__all__ = ["OLDEST", "check_server", "fields_of", "is_cluster", "releases"]

OLDEST = (7, 0)

try:
    RELEASE = version("asyncjobs-framework")
except PackageNotFoundError:
    RELEASE = "unknown"


async def check_server(link: Link, keys: StoreKeys, address: str) -> StoreInfo:
    """Name and version of the server.

    Raises ConfigError for a server that would lose jobs or is not supported, and
    UnsupportedLayout for data that this release cannot read.
    """
    try:
        info = fields_of(await link.call(b"INFO", b"server"))
    except AccessDenied as error:
        raise ConfigError(str(error)) from error
    name, release, speaks = releases(info)
    if speaks < OLDEST:
        raise ConfigError(
            f"the store at {address} is {name} {release}; asyncjobs needs Redis 7.0 or "
            "Valkey 7.2 and newer"
        )
    if is_cluster(info):
        # A single node has all slots and would answer, until somebody adds a second one.
        raise ConfigError(str(cluster_error(address, "INFO says so")))
    warnings = await _check_eviction(link, address)
    try:
        await _check_layout(link, keys, address)
    except ClusterNode as error:
        raise ConfigError(str(error)) from error
    return StoreInfo(name, release, address, warnings)


def is_cluster(info: Mapping[str, str]) -> bool:
    """Whether the server is a node of a cluster, by its INFO. Valkey has another name for the
    field than Redis."""
    return "cluster" in (info.get("redis_mode"), info.get("server_mode"))


def releases(info: Mapping[str, str]) -> tuple[str, str, tuple[int, ...]]:
    """The name and release of the server, and the release of Redis whose commands it has."""
    name = info.get("server_name", "redis")
    release = info.get(f"{name}_version") or info.get("redis_version", "0")
    speaks = tuple(int(part) for part in info.get("redis_version", "0.0").split(".")[:2])
    return name, release, speaks


def fields_of(reply: bytes) -> dict[str, str]:
    """The fields of an INFO reply."""
    pairs = (line.partition(":") for line in reply.decode("utf-8", "replace").splitlines())
    return {key: value.strip() for key, _, value in pairs}


async def _check_eviction(link: Link, address: str) -> tuple[str, ...]:
    try:
        reply = await link.call(b"CONFIG", b"GET", b"maxmemory-policy")
    except StoreError:
        # Managed servers and small ACLs deny CONFIG. Jobs work there all the same.
        return (f"the eviction policy of {address} could not be read; it must be noeviction",)
    if len(reply) != 2:
        # The server does not know this setting.
        return ()
    policy = reply[1].decode()
    # rule:6 an evicting policy is refused at open
    if policy.startswith("allkeys"):
        raise ConfigError(
            f"the store at {address} has maxmemory-policy {policy}, which throws away queued "
            "jobs when memory runs out; set it to noeviction"
        )
    # rule:6 a policy that may drop results is warned of
    if policy.startswith("volatile"):
        return (
            f"the store at {address} has maxmemory-policy {policy}: results and remembered "
            "ids may go early; noeviction is better",
        )
    return ()


async def _check_layout(link: Link, keys: StoreKeys, address: str) -> None:
    # Read first: at maxmemory a SET would be refused, and a worker must start even then.
    stored = await link.call(b"GET", keys.layout)
    if stored is None:
        await link.call(b"SET", keys.layout, f"{LAYOUT} {RELEASE}", b"NX")
        stored = await link.call(b"GET", keys.layout) or b""
    stored = stored.decode("utf-8", "replace")
    layout, _, writer = stored.partition(" ")
    # The first writer has set the layout, and it stays: an older release may still use the store.
    if layout not in READABLE:
        raise UnsupportedLayout(
            f"the store at {address} holds key layout {layout!r}, written by "
            f"asyncjobs-framework {writer or 'unknown'}; this is {RELEASE} with layout "
            f"{LAYOUT}: install release {writer or 'of the writer'} here, or use another prefix"
        )
