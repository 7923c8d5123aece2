"""Sentinels that are dead, mute, cut off, or name the wrong server."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from pathlib import Path

import hiredis
import pytest
import trustme

from asyncjobs import AsyncJobs, ConfigError, StoreUnavailable, Worker
from asyncjobs.testing.servers import Server, available_servers, start_server
from tests.faults.conftest import StartServer, secrets_in
from tests.worker import jobs
from tests.worker.kit import LIMIT_S, register, until

pytestmark = pytest.mark.anyio


@pytest.fixture
def mute() -> Iterator[int]:
    """A port that accepts connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(20)
        yield listener.getsockname()[1]


@pytest.fixture
def closed() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def sentinel(names: int | None, after: asyncio.Event | None = None) -> AsyncIterator[int]:
    """One that names the server on this port, None for an unknown service; its port.
    It answers once `after` is set."""
    place = b"*-1\r\n"
    if names is not None:
        place = b"*2\r\n$9\r\n127.0.0.1\r\n$%d\r\n%d\r\n" % (len(str(names)), names)

    serving: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(writer)
        requests = hiredis.Reader()
        with suppress(ConnectionError):
            while data := await reader.read(4096):
                requests.feed(data)
                while request := requests.gets():
                    is_question = request[0] == b"SENTINEL"
                    if is_question and after is not None:
                        await after.wait()
                    writer.write(place if is_question else b"+OK\r\n")
            writer.close()
            await writer.wait_closed()
        serving.discard(writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await until(lambda: not serving)


def url(*ports: int, service: str = "shop") -> str:
    return f"redis+sentinel://{','.join(f'127.0.0.1:{port}' for port in ports)}/{service}"


async def _works(app: AsyncJobs) -> None:
    job = register(app, jobs.echo)
    async with app, Worker(app, grace=2):
        assert await (await job.enqueue(1)).result(LIMIT_S) == 1


async def test_dead_and_mute_sentinels_cost_no_connection(
    server: Server, mute: int, closed: int
) -> None:
    async with sentinel(server.port) as alive:
        await _works(AsyncJobs(url(mute, closed, alive), connect_timeout=1))


async def test_what_most_say_counts_and_not_who_is_first(server: Server, closed: int) -> None:
    late = asyncio.Event()
    async with AsyncExitStack() as stack:
        # The one that is cut off names a server that is gone; its answer is there first.
        first = await stack.enter_async_context(sentinel(closed))
        others = [await stack.enter_async_context(sentinel(server.port, late)) for _ in "ab"]
        asyncio.get_running_loop().call_later(0.1, late.set)
        await _works(AsyncJobs(url(first, *others), connect_timeout=LIMIT_S))


async def test_a_master_that_hangs_leaves_time_for_another(server: Server, mute: int) -> None:
    async with sentinel(mute) as one, sentinel(server.port) as two:
        await _works(AsyncJobs(url(one, two), connect_timeout=1))


async def test_a_replica_is_no_master(start: StartServer, closed: int) -> None:
    replica = start(replicaof=f"127.0.0.1 {closed}")
    async with sentinel(replica.port) as one:
        app = AsyncJobs(url(one), connect_timeout=1)
        with pytest.raises(StoreUnavailable, match=rf"{replica.port}: it is a replica") as caught:
            await app.__aenter__()
    assert url(one) in str(caught.value)
    assert "SENTINEL MASTER shop" in str(caught.value)


async def test_a_service_that_nobody_knows(closed: int) -> None:
    async with sentinel(None) as one, sentinel(None) as two:
        says = rf"no master known for service 'shop'; asked 127.0.0.1:{one}, 127.0.0.1:{two}"
        with pytest.raises(StoreUnavailable, match=says):
            await AsyncJobs(url(one, two), connect_timeout=1).__aenter__()


async def test_sentinels_that_do_not_answer(mute: int, closed: int) -> None:
    app = AsyncJobs(url(mute, closed), connect_timeout=0.4)
    async with asyncio.timeout(LIMIT_S):
        with pytest.raises(StoreUnavailable, match="no sentinel answers") as caught:
            await app.__aenter__()
    for part in (f"127.0.0.1:{mute}: no answer in time", f"127.0.0.1:{closed}", "URL is right"):
        assert part in str(caught.value)


async def test_credentials_of_both_kinds(start: StartServer) -> None:
    server = start(requirepass="store-s3cret")
    with start_server(
        server.kind,
        sentinel=True,
        config={
            "sentinel monitor shop": f"127.0.0.1 {server.port} 1",
            "sentinel auth-pass shop": "store-s3cret",
            "requirepass": "watch-s3cret",
        },
    ) as watcher:
        place = f"127.0.0.1:{watcher.port}/shop"
        right = f"redis+sentinel://:store-s3cret@{place}?sentinel_password=watch-s3cret"
        await _works(AsyncJobs(right))
        for wrong, says in (
            (right.replace("watch-s3cret", "bad-s3cret"), "sentinel_password"),
            (right.partition("?")[0], "sentinel_password"),
            (right.replace("store-s3cret", "bad-s3cret"), "check user, password"),
        ):
            with pytest.raises(ConfigError, match=says) as caught:
                await AsyncJobs(wrong).__aenter__()
            assert not secrets_in(caught.value, repr(caught.value.__cause__))


async def test_tls_to_both_kinds(tmp_path: Path, closed: int) -> None:
    if "redis" not in available_servers():
        pytest.skip("no redis-server on this machine, and the wheel's Valkey has no TLS")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    cert = authority.issue_cert("127.0.0.1")
    cert.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    cert.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    tls = {
        "tls-cert-file": str(tmp_path / "cert.pem"),
        "tls-key-file": str(tmp_path / "key.pem"),
        "tls-ca-cert-file": str(tmp_path / "ca.pem"),
        "tls-auth-clients": "no",
        "tls-replication": "yes",
    }
    with ExitStack() as stack:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            ports = [closed, probe.getsockname()[1]]
        stack.enter_context(start_server("redis", config=tls | {"tls-port": str(ports[0])}))
        monitor = {"sentinel monitor shop": f"127.0.0.1 {ports[0]} 1"}
        stack.enter_context(
            start_server("redis", config=tls | monitor | {"tls-port": str(ports[1])}, sentinel=True)
        )
        base = f"rediss+sentinel://127.0.0.1:{ports[1]}/shop"
        await _works(AsyncJobs(f"{base}?ssl_ca_certs={tmp_path / 'ca.pem'}"))
        with pytest.raises(StoreUnavailable, match="certificate"):
            await AsyncJobs(base, connect_timeout=2).__aenter__()
