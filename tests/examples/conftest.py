"""A web example over ASGI: its store, its modules, a client and a worker.

For test modules that name the example's folder as FOLDER.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from types import ModuleType

import httpx
import pytest

from asyncjobs import Worker
from asyncjobs.testing.servers import Server, start_server
from tests.examples.kit import asgi_client, loaded


@pytest.fixture
def server() -> Iterator[Server]:
    """A store of this test's own."""
    with start_server("valkey") as server:
        yield server


@pytest.fixture
def tasks(
    request: pytest.FixtureRequest, server: Server, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ModuleType]:
    monkeypatch.setenv("ASYNCJOBS_URL", server.url)
    with loaded(request.module.FOLDER, "tasks") as (tasks,):
        yield tasks


@pytest.fixture
async def client(
    request: pytest.FixtureRequest, tasks: ModuleType
) -> AsyncIterator[httpx.AsyncClient]:
    with loaded(request.module.FOLDER, "web") as (web,):
        async with asgi_client(web.web) as client:
            yield client


@pytest.fixture
async def worker(client: httpx.AsyncClient, tasks: ModuleType) -> AsyncIterator[Worker]:
    """Runs the jobs, in this process."""
    async with Worker(tasks.app, grace=1) as worker:
        yield worker
