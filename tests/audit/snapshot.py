"""One queue as it is stored, read in one transaction so that nothing moves in between."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

import redis

from asyncjobs.store.flows import FlowState
from asyncjobs.store.redis.keys import QueueKeys, StoreKeys

__all__ = [
    "GROUP",
    "Entry",
    "QueueSnapshot",
    "Reachable",
    "Stream",
    "ask",
    "connected",
    "is_reserved",
    "prefixes",
    "read",
    "set_aside_of",
]

GROUP: Final = "workers"
RETURNED: Final = re.compile(r"returned(:[1-9]|:1[0-6])?")
ASIDE: Final = "returned/"
RULE: Final = b"cron:of:"
_KEY: Final = re.compile(
    r"\{([\w.-]+):(.+?)\}:(.+)|([\w.-]+):(?:layout|queues|survey|schedules)", re.DOTALL
)
_MOST: Final = 1_000_000

Client: TypeAlias = redis.Redis
Entry: TypeAlias = tuple[int, int]
"""A stream entry's id, as numbers that compare like it."""


def set_aside_of(consumer: str) -> str | None:
    """The paused job function whose jobs stand aside under this consumer."""
    return consumer.removeprefix(ASIDE) if consumer.startswith(ASIDE) else None


def is_reserved(consumer: str) -> bool:
    """Whether its entries wait for whoever takes them: they were given back."""
    return RETURNED.fullmatch(consumer) is not None


@dataclass(frozen=True)
class Stream:
    """The ready jobs of one priority, or jobs with a gate that run: id and job by entry, and who
    holds which."""

    jobs: dict[Entry, str]
    groups: dict[str, Entry]
    """Name to the entry that was delivered last."""
    consumers: frozenset[str]
    pending: dict[Entry, str]


@dataclass(frozen=True)
class QueueSnapshot:
    """One queue at one moment. `ttl_ms` holds every key of it, -1 without an expiry."""

    name: str
    ttl_ms: dict[str, int]
    streams: tuple[Stream, ...]
    hashes: dict[str, dict[str, str]]
    zsets: dict[str, dict[str, float]]
    sets: dict[str, frozenset[str]]
    wakes: int
    fallen: list[str]
    """Barriers that have fallen, and whose jobs are let go."""
    rules: dict[str, dict[str, str]]
    """Its schedules by id, with their fields."""
    dead_bytes: tuple[int, int]
    """Of dead letters: as they are counted, and as they are."""
    refused: list[str]
    """Keys that do not hold the type that they should."""


class Reachable(Protocol):
    """A server on this machine."""

    @property
    def socket_url(self) -> str: ...


@contextmanager
def connected(server: Reachable) -> Iterator[Client]:
    """A connection that gives replies as the server sends them."""
    client: Client = redis.Redis.from_url(
        server.socket_url,
        protocol=2,
        socket_timeout=30,
        # The driver would look up its own version, which some tests have planted.
        driver_info=None,
    )
    client.response_callbacks.clear()
    try:
        yield client
    finally:
        client.close()


def ask(client: Client, *command: str | bytes | int) -> Any:
    # The driver ships types, but left this method without.
    return client.execute_command(*command)  # type: ignore[no-untyped-call]


def text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")


def _scan(client: Client, pattern: str = "*") -> Iterator[bytes]:
    cursor = b"0"
    while True:
        cursor, keys = ask(client, "SCAN", cursor, "MATCH", pattern, "COUNT", 10_000)
        yield from keys
        if cursor == b"0":
            return


def prefixes(client: Client) -> tuple[set[str], list[str]]:
    """The key prefixes in use on the server, and the keys that no store would write."""
    found, foreign = set(), []
    for raw in set(_scan(client)):
        match = _KEY.fullmatch(text(raw))
        if match is None:
            foreign.append(text(raw))
        else:
            found.add(match[1] or match[4])
    return found, foreign


def read(client: Client, prefix: str) -> tuple[list[QueueSnapshot], set[str], list[str]]:
    """The queues of a prefix, the names in its list of queues, and its keys beside queues."""
    by_queue: dict[str, list[bytes]] = {}
    beside = []
    for pattern in (f"{{{prefix}:*", f"{prefix}:*"):
        for raw in set(_scan(client, pattern)):
            match = _KEY.fullmatch(text(raw))
            if match is None or match[2] is None:
                beside.append(text(raw).removeprefix(f"{prefix}:"))
            else:
                by_queue.setdefault(match[2], []).append(raw)
    listed = {text(raw) for raw in ask(client, "SMEMBERS", StoreKeys(prefix).queues)}
    queues = [_read_queue(client, prefix, name, keys) for name, keys in sorted(by_queue.items())]
    return queues, listed, beside


HASHES: Final = (
    "index",
    "scheduled:data",
    "workers:info",
    "sequence",
    "cancel",
    "crashes",
    "dead:data",
    "progress",
    "upkeep",
    "known:0",
    "known:1",
    "known:2",
    "stats",
    "dead:noted",
    "paused",
    "unique",
    "unique:of",
    "unique:next",
    "unique:held",
    "standing",
    "closed",
    "limits",
    "gated:of",
    "gated:own",
    "gated:data",
    "holders:of",
    "barriers",
    "barriers:ends",
    "barriers:of",
    "barriers:data",
    "flows:names",
)
ZSETS: Final = (
    "scheduled",
    "workers",
    "dead",
    "cancel:held",
    "unique:windows",
    "unique:since",
    "cron",
    "cron:next",
    "waits",
    "events:of",
    "lanes",
    "turns",
    "barred",
    "later",
    "lanes:of",
    "gated:since",
    "permits",
    "rates",
    "holders",
    "barriers:since",
    "flows:over",
    *(f"flows:{state}" for state in FlowState),
)
STREAMS: Final = ("ready:0", "ready:1", "ready:2", "ready:3", "gated")
"""In the order of the places that the index names."""
SETS: Final = ("leaving", "returned", "noted")


def _read_queue(client: Client, prefix: str, name: str, keys: Sequence[bytes]) -> QueueSnapshot:
    base = QueueKeys(prefix, name).base
    commands: list[tuple[Any, ...]] = []
    for part in STREAMS:
        stream = base + part.encode()
        commands += [
            ("XRANGE", stream, "-", "+"),
            ("XINFO", "GROUPS", stream),
            ("XINFO", "CONSUMERS", stream, GROUP),
            ("XPENDING", stream, GROUP, "-", "+", _MOST),
        ]
    commands += [("HGETALL", base + part.encode()) for part in HASHES]
    commands += [("ZRANGE", base + part.encode(), 0, -1, "WITHSCORES") for part in ZSETS]
    commands += [("SMEMBERS", base + part.encode()) for part in SETS]
    rules = sorted(key for key in keys if key.startswith(base + RULE))
    commands += [("HGETALL", key) for key in rules]
    commands.append(("LLEN", base + b"wake"))
    commands.append(("LRANGE", base + b"barriers:fallen", 0, -1))
    commands.append(("GET", base + b"dead:bytes"))
    fixed = {*keys, *(base + part.encode() for part in (*HASHES, *ZSETS, *SETS))}
    commands += [("PTTL", key) for key in sorted(fixed)]
    pipeline = client.pipeline(transaction=True)
    pipeline.response_callbacks.clear()
    for command in commands:
        ask(pipeline, *command)
    replies = iter(pipeline.execute(raise_on_error=False))
    refused: list[str] = []

    def following(what: str) -> Any:
        reply = next(replies)
        if isinstance(reply, Exception):
            # A stream that is not there, or that has no group yet.
            if not str(reply).startswith(("no such key", "NOGROUP")):
                refused.append(f"{what}: {reply}")
            return []
        return reply

    streams = tuple(_stream(*(following(part) for _ in range(4))) for part in STREAMS)
    stored = {part: following(part) for part in HASHES}
    hashes = {part: _pairs(flat) for part, flat in stored.items()}
    zsets = {part: {k: float(v) for k, v in _pairs(following(part)).items()} for part in ZSETS}
    sets = {part: frozenset(map(text, following(part))) for part in SETS}
    found = {text(key[len(base + RULE) :]): _pairs(following("cron:of:")) for key in rules}
    wakes = following("wake") or 0
    fallen = [text(each) for each in following("barriers:fallen")]
    in_letters = sum(map(len, stored["dead:data"][1::2]))
    in_notes = sum(map(int, stored["dead:noted"][1::2]))
    dead_bytes = (int(following("dead:bytes") or 0), in_letters + in_notes)
    ttl = {text(key[len(base) :]): following("ttl") for key in sorted(fixed)}
    ttl = {part: ms for part, ms in ttl.items() if ms != -2}
    about = (hashes, zsets, sets, wakes, fallen, found, dead_bytes, refused)
    return QueueSnapshot(name, ttl, streams, *about)


def _pairs(flat: Sequence[bytes]) -> dict[str, str]:
    return dict(zip(map(text, flat[::2]), map(text, flat[1::2]), strict=True))


def _entry(raw: bytes) -> Entry:
    ms, _, serial = raw.partition(b"-")
    return int(ms), int(serial)


def _stream(jobs: Any, groups: Any, consumers: Any, pending: Any) -> Stream:
    stored = {}
    for raw, fields in jobs:
        # Exactly one field: its name is the job's id.
        stored[_entry(raw)] = text(fields[0]) if len(fields) == 2 else f"{fields!r:.80}"
    named = [dict(zip(group[::2], group[1::2], strict=True)) for group in groups]
    return Stream(
        stored,
        {text(g[b"name"]): _entry(g[b"last-delivered-id"]) for g in named},
        frozenset(text(consumer[1]) for consumer in consumers),
        {_entry(raw): text(holder) for raw, holder, _, _ in pending},
    )
