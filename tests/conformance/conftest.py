"""The backends that the suite runs on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from asyncjobs.store.memory import MemoryBackend
from asyncjobs.store.redis.backend import RedisBackend
from asyncjobs.store.seam import Backend, Clock, StoreSettings
from asyncjobs.testing.conformance.store import (
    MakeBackend,
    clock,
    flows,
    new_settings,
    schedules,
    store,
)
from tests.conformance.spoiling import any_part, spoil

__all__ = ["any_part", "clock", "flows", "new_settings", "schedules", "spoil", "store"]


@pytest.fixture(params=["memory", "valkey", "redis"])
def make_backend(request: pytest.FixtureRequest, servers: Any) -> Iterator[MakeBackend]:
    if request.param == "memory":
        yield lambda settings, now_ms: MemoryBackend(settings, now_ms=now_ms)
        return
    server = servers.get(request.param)
    before = set(server.command("KEYS", "*"))
    prefixes: set[str] = set()

    def make(settings: StoreSettings, now_ms: Clock | None) -> Backend:
        prefixes.add(settings.prefix)
        return RedisBackend(server.url, settings, now_ms=now_ms)

    yield make
    ours = {key for key in server.command("KEYS", "*") if _belongs(key, prefixes)}
    if ours:
        server.command("DEL", *ours)
    # A key outside the prefix would be shared by all apps on the server.
    assert set(server.command("KEYS", "*")) <= before


def _belongs(key: bytes, prefixes: set[str]) -> bool:
    return any(
        key.startswith((f"{prefix}:".encode(), f"{{{prefix}:".encode())) for prefix in prefixes
    )
