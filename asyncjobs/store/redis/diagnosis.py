"""The settings of a server that decide whether jobs are lost, and what to change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from asyncjobs.errors import StoreError
from asyncjobs.model.clock import now_ms
from asyncjobs.store.inspect import Finding, Verdict
from asyncjobs.store.redis.link import Link
from asyncjobs.store.redis.server import OLDEST, fields_of, is_cluster, releases

__all__ = ["diagnose", "findings"]

OK: Final = Verdict.OK
NOTE: Final = Verdict.NOTE
WARNING: Final = Verdict.WARNING
PROBLEM: Final = Verdict.PROBLEM

SKEW_MS = 1000
"""Clocks that differ by more are reported."""
FULL = 0.8
"""The part of maxmemory in use from which it is reported."""
_KEEP = "CONFIG REWRITE"
"""Without it the setting is gone after a restart."""
_START = "and the same among the options with which the server is started"
_READ = (
    b"appendfsync",
    b"save",
    b"timeout",
    b"min-replicas-to-write",
    b"maxmemory-policy",
    b"lazyfree-lazy-expire",
)


async def diagnose(link: Link) -> list[Finding]:
    """Raises StoreError when the server does not answer at all."""
    info = fields_of(await link.call(b"INFO"))
    before_ms = now_ms()
    seconds, microseconds = await link.call(b"TIME")
    # The answer was made somewhere in between: take the middle of the round trip.
    here_ms = (before_ms + now_ms()) // 2
    store_ms = int(seconds) * 1000 + int(microseconds) // 1000
    config: dict[str, str] = {}
    for name in _READ:
        try:
            reply = await link.call(b"CONFIG", b"GET", name)
        except StoreError:
            # Managed servers and small ACLs deny it. Then INFO has to do.
            break
        config |= {
            key.decode(): value.decode() for key, value in zip(reply[::2], reply[1::2], strict=True)
        }
    return findings(info, config, store_ms - here_ms)


def findings(info: Mapping[str, str], config: Mapping[str, str], skew_ms: int) -> list[Finding]:
    """What the answers of INFO and CONFIG GET mean. `skew_ms` is by how much the server's clock
    is ahead of ours."""
    found = [
        _version(info),
        _eviction(info, config),
        *_persistence(info, config),
        _memory(info),
        *_replication(info, config),
        _idle(config),
        _expiry(config),
        _clock(skew_ms),
    ]
    if info.get("config_file", "unknown"):
        return found
    # A server that was started by options alone has no file that it could rewrite.
    return [_for_options(finding) for finding in found]


def _for_options(finding: Finding) -> Finding:
    """The finding with another way to keep its change over a restart."""
    change = list(finding.change)
    if _KEEP in change:
        change[change.index(_KEEP)] = _START
    return finding._replace(change=tuple(change))


def _version(info: Mapping[str, str]) -> Finding:
    name, release, speaks = releases(info)
    if speaks < OLDEST:
        change = "install Redis 7.0 or Valkey 8, or a newer one"
        return Finding("version", PROBLEM, f"{name} {release} is too old", (change,))
    return Finding("version", OK, f"{name} {release}")


def _eviction(info: Mapping[str, str], config: Mapping[str, str]) -> Finding:
    policy = config.get("maxmemory-policy") or info.get("maxmemory_policy", "unknown")
    change = ("CONFIG SET maxmemory-policy noeviction", _KEEP)
    if policy == "noeviction":
        return Finding("maxmemory-policy", OK, policy)
    if policy.startswith("allkeys"):
        found = f"{policy}: queued jobs are thrown away when memory runs out"
        return Finding("maxmemory-policy", PROBLEM, found, change)
    if policy.startswith("volatile"):
        found = f"{policy}: results and remembered ids may go early when memory runs out"
        return Finding("maxmemory-policy", WARNING, found, change)
    return Finding("maxmemory-policy", NOTE, f"{policy}; it must be noeviction")


def _persistence(info: Mapping[str, str], config: Mapping[str, str]) -> Iterator[Finding]:
    if info.get("aof_enabled", "0") == "1":
        yield Finding("appendonly", OK, "yes")
        yield _fsync(config.get("appendfsync"))
        if info.get("aof_last_write_status", "ok") != "ok":
            found = "the last write to the append-only file failed"
            yield Finding("disk", PROBLEM, found, ("make room on the server's disk",))
        return
    change = ("CONFIG SET appendonly yes", _KEEP)
    save = config.get("save")
    if save:
        found = f"no, only snapshots (save {save}): a crash loses all jobs since the last one"
    elif save is None:
        found = "no: a crash or a restart loses jobs"
    else:
        found = "no, and no snapshots either: a crash or a restart loses all jobs"
    yield Finding("appendonly", PROBLEM, found, change)
    if save and info.get("rdb_last_bgsave_status", "ok") != "ok":
        found = "the last snapshot could not be written"
        yield Finding("disk", PROBLEM, found, ("make room on the server's disk",))


def _fsync(policy: str | None) -> Finding:
    if policy is None:
        return Finding("appendfsync", NOTE, "could not be read; it should be everysec or always")
    if policy == "always":
        return Finding("appendfsync", OK, policy)
    if policy == "everysec":
        found = "everysec: when the machine crashes, the last second may be lost; always is slower"
        return Finding("appendfsync", OK, found)
    found = f"{policy}: when the machine crashes, half a minute may be lost"
    return Finding("appendfsync", PROBLEM, found, ("CONFIG SET appendfsync everysec", _KEEP))


def _memory(info: Mapping[str, str]) -> Finding:
    used = _number(info, "used_memory")
    most = _number(info, "maxmemory")
    if not most:
        found = f"no limit, {_size(used)} in use: the system may kill the server when it has none"
        change = "with three quarters of its memory in bytes: CONFIG SET maxmemory BYTES"
        return Finding("maxmemory", NOTE, found, (change, _KEEP))
    found = f"{_size(used)} of {_size(most)} in use"
    if used < FULL * most:
        return Finding("maxmemory", OK, found)
    advice = f"drain the queues, or CONFIG SET maxmemory {2 * most}"
    return Finding("maxmemory", WARNING, f"{found}: new jobs will be refused", (advice, _KEEP))


def _replication(info: Mapping[str, str], config: Mapping[str, str]) -> Iterator[Finding]:
    if is_cluster(info):
        found = "this is a node of a cluster, and asyncjobs needs one server for all queues"
        yield Finding("cluster", PROBLEM, found, ("use a server with cluster-enabled no",))
    if info.get("role", "master") != "master":
        primary = f"{info.get('master_host', '?')}:{info.get('master_port', '?')}"
        advice = f"use the primary in the store URL: {primary}"
        yield Finding("replication", PROBLEM, "this is a replica: it refuses jobs", (advice,))
        return
    replicas = _number(info, "connected_slaves")
    if not replicas:
        yield Finding("replication", OK, "no replica: the jobs are on this server only")
        return
    needed = config.get("min-replicas-to-write")
    told = f"{replicas} connected"
    if needed in (None, "0"):
        found = (
            f"{told}, none has to be there: a failover loses what was not copied yet, unless "
            "the app waits for copies (wait_replicas)"
        )
        change = ("CONFIG SET min-replicas-to-write 1", _KEEP)
        yield Finding("replication", WARNING, found, change)
        return
    found = f"{told}, {needed} must be: a failover loses at most what was on its way"
    yield Finding("replication", OK, found)


def _idle(config: Mapping[str, str]) -> Finding:
    limit = config.get("timeout")
    if limit is None:
        return Finding("timeout", NOTE, "could not be read; it should be 0")
    if limit == "0":
        return Finding("timeout", OK, "0: idle connections stay open")
    found = f"{limit}: connections idle for {limit} s are closed, and made again for the next job"
    return Finding("timeout", WARNING, found, ("CONFIG SET timeout 0", _KEEP))


def _expiry(config: Mapping[str, str]) -> Finding:
    setting = "lazyfree-lazy-expire"
    value = config.get(setting)
    if value is None:
        return Finding(setting, NOTE, "could not be read; it should be yes")
    if value == "yes":
        return Finding(setting, OK, "yes: what expires is freed in the background")
    found = (
        f"{value}: where no worker prunes a queue, the ids of a million jobs that have ended "
        "expire in one go, and the server stands still for up to a second"
    )
    return Finding(setting, WARNING, found, (f"CONFIG SET {setting} yes", _KEEP))


def _clock(skew_ms: int) -> Finding:
    if abs(skew_ms) <= SKEW_MS:
        return Finding("clock", OK, f"as here, to within {SKEW_MS // 1000} s")
    where = "before" if skew_ms > 0 else "behind"
    found = (
        f"{abs(skew_ms) / 1000:.1f} s {where} this machine's: "
        "jobs with --at or at= come early or late by that"
    )
    return Finding("clock", WARNING, found, ("set both clocks by NTP",))


def _number(info: Mapping[str, str], name: str) -> int:
    text = info.get(name, "0")
    if not text.isdecimal():
        return 0
    return int(text)


def _size(number: int) -> str:
    if number >= 1 << 20:
        return f"{number / (1 << 20):,.0f} MiB"
    return f"{number / 1024:,.0f} KiB"
