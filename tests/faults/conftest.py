"""Servers of a test's own, to be killed, filled and cut off."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, cast

import pytest

from asyncjobs import AsyncJobs
from asyncjobs.store.redis.link import Link
from asyncjobs.testing.servers import Server, ServerKind, available_servers, start_server
from tests.worker.conftest import stage, thread_gate

__all__ = ["stage", "thread_gate"]

StartServer = Callable[..., Server]


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """An idle worker whose wait has failed pauses for up to 5 s before it waits again."""
    monkeypatch.setattr("asyncjobs.worker.engine.parking.FALLBACK_S", 0.2)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls are given up after half a second and not after ten."""
    limit = property(lambda self: 0.5, lambda self, value: None)
    monkeypatch.setattr(Link, "timeout_s", limit, raising=False)
    monkeypatch.setattr("asyncjobs.worker.engine.parking.WAIT_S", 0.5)


@pytest.fixture(params=["valkey", "redis"])
def start(request: pytest.FixtureRequest) -> Iterator[StartServer]:
    """Starts servers that only this test uses."""
    kind = cast(ServerKind, request.param)
    if kind not in available_servers():
        pytest.skip(f"no {kind} server on this machine")
    with ExitStack() as stack:

        def start_one(**config: str) -> Server:
            given = {name.replace("_", "-"): value for name, value in config.items()}
            return stack.enter_context(start_server(kind, config=given))

        yield start_one


@pytest.fixture
def server(start: StartServer) -> Server:
    """A server of this test's own, without persistence."""
    return start()


@pytest.fixture
def durable(start: StartServer) -> Server:
    """A server that keeps each write on disk before it answers."""
    return start(appendonly="yes", appendfsync="always")


@pytest.fixture
def app(server: Server) -> AsyncJobs:
    return AsyncJobs(server.url, connect_timeout=2)


def secrets_in(*texts: Any) -> bool:
    return any("s3cret" in str(text) for text in texts)
