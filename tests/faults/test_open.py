"""Stores that cannot be used: a clear error that says where and what to do."""

from __future__ import annotations

import asyncio
import socket

import pytest

from asyncjobs import AsyncJobs, ConfigError, StoreUnavailable, UnsupportedLayout, Worker
from asyncjobs.testing.servers import Server
from tests.faults.conftest import StartServer, secrets_in
from tests.worker import jobs
from tests.worker.kit import LIMIT_S, register

pytestmark = pytest.mark.anyio


def _chain(error: BaseException | None) -> list[str]:
    texts = []
    while error is not None:
        texts.append(f"{error!r} {error}")
        error = error.__cause__ or error.__context__
    return texts


@pytest.fixture
def closed_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def test_nobody_there(closed_port: int) -> None:
    app = AsyncJobs(f"redis://:s3cret@127.0.0.1:{closed_port}", connect_timeout=0.5)
    with pytest.raises(StoreUnavailable, match=f"127.0.0.1:{closed_port}") as caught:
        async with app:
            pytest.fail("the app is open")
    assert not secrets_in(*_chain(caught.value))


async def test_gone_at_enqueue(start: StartServer) -> None:
    server = start(requirepass="s3cret")
    app = AsyncJobs(server.url, connect_timeout=0.3)
    job = register(app, jobs.echo)
    async with app:
        await asyncio.to_thread(server.kill)
        with pytest.raises(StoreUnavailable, match=f"127.0.0.1:{server.port}") as caught:
            async with asyncio.timeout(LIMIT_S):
                await job.enqueue(1)
        with pytest.raises(StoreUnavailable) as looked:
            await job.handle("some").status()
    assert not secrets_in(*_chain(caught.value), *_chain(looked.value))
    assert "connect_timeout=0.3 s" in str(caught.value)


async def test_a_store_that_accepts_and_never_answers() -> None:
    # The backlog accepts connections; nobody ever reads them.
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen(5)
        port = mute.getsockname()[1]
        app = AsyncJobs(f"redis://127.0.0.1:{port}", connect_timeout=0.3)
        async with asyncio.timeout(LIMIT_S):
            with pytest.raises(StoreUnavailable, match=f"127.0.0.1:{port}"):
                await app.__aenter__()


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-random", "allkeys-lfu"])
async def test_a_store_that_throws_jobs_away_is_refused(start: StartServer, policy: str) -> None:
    server = start(maxmemory_policy=policy)
    with pytest.raises(ConfigError, match=rf"{policy}.*noeviction"):
        async with AsyncJobs(server.url):
            pytest.fail("the app is open")


async def test_a_store_that_may_drop_results_is_warned_of(
    start: StartServer, caplog: pytest.LogCaptureFixture
) -> None:
    server = start(maxmemory_policy="volatile-lru")
    app = AsyncJobs(server.url)
    async with app:
        (warning,) = app.store_info.warnings
    assert "volatile-lru" in warning
    assert "volatile-lru" in caplog.text


async def test_a_store_of_another_release_is_refused(server: Server) -> None:
    server.command("SET", "asyncjobs:layout", "99 7.7.7")
    for use in (AsyncJobs(server.url), Worker(AsyncJobs(server.url))):
        with pytest.raises(UnsupportedLayout, match=r"'99'.*7\.7\.7"):
            async with use:
                pytest.fail("it is open")
    async with AsyncJobs(server.url, prefix="other"):
        assert server.command("GET", "other:layout").startswith(b"2 ")


async def test_over_a_unix_socket(server: Server) -> None:
    app = AsyncJobs(server.socket_url)
    job = register(app, jobs.echo)
    async with app, Worker(app):
        assert await (await job.enqueue(1)).result(LIMIT_S) == 1
        assert app.store_info.address.startswith("unix://")


@pytest.mark.parametrize("name", ["127.0.0.1", "socket"])
async def test_a_wrong_password(start: StartServer, name: str) -> None:
    server = start(requirepass="right")
    url = server.url if name != "socket" else server.socket_url
    with pytest.raises(ConfigError, match="refused the credentials") as caught:
        async with AsyncJobs(url.replace("right", "s3cret")):
            pytest.fail("the app is open")
    assert not secrets_in(*_chain(caught.value))
    app = AsyncJobs(url)
    job = register(app, jobs.echo)
    async with app, Worker(app):
        assert await (await job.enqueue(1)).result(LIMIT_S) == 1
        assert "right" not in repr(app.store_info)


async def test_no_password_where_one_is_needed(start: StartServer) -> None:
    server = start(requirepass="right")
    with pytest.raises(ConfigError, match="refused the credentials"):
        async with AsyncJobs(f"redis://127.0.0.1:{server.port}"):
            pytest.fail("the app is open")


async def test_an_unknown_scheme() -> None:
    with pytest.raises(ConfigError, match=r"'amqp'.*redis://.*memory:"):
        async with AsyncJobs("amqp://:s3cret@localhost"):
            pytest.fail("the app is open")
