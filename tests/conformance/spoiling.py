"""How a queue of our own stores is spoiled, for asyncjobs.testing.conformance."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, Final

import pytest

from asyncjobs.errors import StoreError
from asyncjobs.model.refs import JobRef
from asyncjobs.store.memory import MemoryBackend
from asyncjobs.store.redis.backend import RedisBackend
from asyncjobs.store.redis.keys import QUEUE_KEYS
from asyncjobs.testing.conformance.spoiled import BAD, Part, Spoil
from asyncjobs.testing.conformance.store import Store

__all__ = ["any_part", "spoil"]

KEYS: Final[dict[str, str]] = {
    Part.LEASES: "workers",
    Part.UPKEEP: "upkeep",
    Part.LEAVING: "leaving",
    Part.PLACES: "index",
    Part.CRITICAL: "ready:0",
    Part.NORMAL: "ready:2",
    Part.LOW: "ready:3",
    Part.DUE_TIMES: "scheduled",
    Part.SCHEDULED: "scheduled:data",
    Part.KNOWN: "known:0",
    Part.DEATHS: "dead",
    Part.LETTERS: "dead:data",
    Part.LETTER_BYTES: "dead:bytes",
    Part.ACTIVITY: "stats",
    Part.FINISHED: "history",
    Part.FINISHED_NUMBER: "history:jobs",
    Part.SIGNALS: "wake",
}


class MemorySpoil(Spoil):
    """In memory the queue is broken as a whole, whatever the part."""

    error = "WRONGTYPE"

    def __init__(self, backend: MemoryBackend) -> None:
        self._backend = backend

    async def __call__(self, part: str) -> None:
        self._backend.break_queue(BAD, StoreError("planted: WRONGTYPE"))

    async def mend(self, part: str | None = None) -> None:
        self._backend.break_queue(BAD, None)

    async def has_waiter(self, about: JobRef) -> bool:
        return about in self._backend._queues.results


class ServerSpoil(Spoil):
    """On a server a value of another type stands in the place of a key, which comes back when it is
    mended."""

    error = "WRONGTYPE"

    def __init__(self, backend: RedisBackend, prefix: str, server: Any) -> None:
        self._backend = backend
        self._server = server
        self._start = f"{{{prefix}:{BAD}}}:"
        self._saved = f"{{{prefix}:{BAD}}}-saved:"
        self._spoiled: set[str] = set()

    async def __call__(self, part: str) -> None:
        name = KEYS.get(part, part)
        self._spoiled.add(name)
        await asyncio.to_thread(self._put, name)

    def _put(self, name: str) -> None:
        key = self._start + name
        self._server.command("DEL", self._saved + name)
        if self._server.command("EXISTS", key):
            self._server.command("RENAME", key, self._saved + name)
        # Of no type that a queue's key has: `awaited` is text, all others are not.
        other = ("SADD", key, "x") if name == "awaited" else ("SET", key, "x")
        self._server.command(*other)

    async def mend(self, part: str | None = None) -> None:
        if part is None:
            await asyncio.to_thread(self._drop)
            return
        name = KEYS.get(part, part)
        self._spoiled.discard(name)
        await asyncio.to_thread(self._restore, name)

    def _restore(self, name: str) -> None:
        self._server.command("DEL", self._start + name)
        if self._server.command("EXISTS", self._saved + name):
            self._server.command("RENAME", self._saved + name, self._start + name)

    def _drop(self) -> None:
        self.mend_all()
        if keys := self._server.command("KEYS", f"{self._start}*"):
            self._server.command("DEL", *keys)

    def mend_all(self) -> None:
        """Take away every key that is spoiled, before the keys are audited."""
        for name in self._spoiled:
            self._server.command("DEL", self._start + name, self._saved + name)
        self._spoiled.clear()

    async def has_waiter(self, about: JobRef) -> bool:
        board = self._backend._board
        channel = self._backend._keys.result(about)
        return board is not None and channel in board._subscribed and not board._new


@pytest.fixture
def spoil(store: Store, request: pytest.FixtureRequest, servers: Any) -> Iterator[Spoil]:
    backend = store.backend
    if isinstance(backend, MemoryBackend):
        yield MemorySpoil(backend)
        backend.break_queue(BAD, None)
        return
    assert isinstance(backend, RedisBackend)
    # tests/redis/test_acl.py runs the suite as users of a server.
    params = request.node.callspec.params
    kind = params["users"] if "users" in params else params["make_backend"]
    spoiled = ServerSpoil(backend, store.settings.prefix, servers.get(kind))
    yield spoiled
    spoiled.mend_all()


@pytest.fixture(params=QUEUE_KEYS)
def any_part(request: pytest.FixtureRequest) -> str:
    """Each key of a queue, also those that no part is named after."""
    key: str = request.param
    return key
