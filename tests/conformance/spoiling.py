"""How a queue of our own stores is spoiled, for asyncjobs.testing.conformance."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from asyncjobs.errors import StoreError
from asyncjobs.store.memory import MemoryBackend
from asyncjobs.store.redis.keys import QUEUE_KEYS
from asyncjobs.testing.conformance.spoiled import ALL, BAD, Spoil
from asyncjobs.testing.conformance.store import Store

__all__ = ["spoil"]


@pytest.fixture
def spoil(store: Store, request: pytest.FixtureRequest, servers: Any) -> Iterator[Spoil]:
    """`await spoil("index")` puts a value of another type in the place of a key of queue BAD,
    `await spoil("index", is_sound=True)` takes it away, before the keys are audited. In memory
    the queue is broken as a whole. ALL takes the whole queue away, where keys of it are left
    that do not fit together any more."""
    backend, spoiled = store.backend, set[str]()
    memory = backend if isinstance(backend, MemoryBackend) else None
    # tests/redis/test_acl.py runs the suite as users of a server.
    params = request.node.callspec.params
    kind = params["users"] if "users" in params else params["make_backend"]

    def put(name: str) -> None:
        spoiled.add(name)
        if memory is not None:
            memory.break_queue(BAD, StoreError("planted: WRONGTYPE"))
            return
        key = f"{{{store.settings.prefix}:{BAD}}}:{name}"
        servers.get(kind).command("DEL", key)
        # Of no type that a queue's key has: `awaited` is text, all others are not.
        other = ("SADD", key, "x") if name == "awaited" else ("SET", key, "x")
        servers.get(kind).command(*other)

    def mend(name: str) -> None:
        spoiled.discard(name)
        if memory is not None:
            memory.break_queue(BAD, None)
            return
        start = f"{{{store.settings.prefix}:{BAD}}}:"
        names = QUEUE_KEYS if name == ALL else (name,)
        servers.get(kind).command("DEL", *(start + name for name in names))

    async def change(name: str, *, is_sound: bool = False) -> None:
        await asyncio.to_thread(mend if is_sound else put, name)

    yield change
    for name in tuple(spoiled):
        mend(name)
