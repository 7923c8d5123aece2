"""Servers and scenes of the proofs; every worker here is a process of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from asyncjobs.testing.servers import Server, ServerKind, available_servers, start_server
from tests.guarantees.kit import Scene, scene_on


@pytest.fixture
def kind() -> ServerKind:
    """The store's kind; a test that asks both says so by its parameter."""
    return "valkey"


@pytest.fixture
def server(servers: Any, kind: ServerKind) -> Server:
    """The shared server of this kind."""
    found: Server = servers.get(kind)
    return found


@pytest.fixture
def scene(server: Server, tmp_path: Path) -> Iterator[Scene]:
    """Workers on the shared server."""
    with scene_on(server, tmp_path) as made:
        yield made


@pytest.fixture
def durable(kind: ServerKind, tmp_path: Path) -> Iterator[Scene]:
    """Workers on a server of their own, which keeps each write on disk before it answers."""
    if kind not in available_servers():
        pytest.skip(f"no {kind} server on this machine")
    config = {"appendonly": "yes", "appendfsync": "always"}
    with (
        start_server(kind, config=config) as server,
        scene_on(server, tmp_path) as made,
    ):
        yield made
