"""TLS with a certificate authority of our own, and client certificates."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from asyncjobs import AsyncJobs, StoreUnavailable, Worker
from asyncjobs.testing.servers import available_servers, start_server

pytestmark = pytest.mark.anyio


class Secured:
    """A server that speaks TLS and asks for client certificates."""

    def __init__(self, port: int, folder: Path) -> None:
        self.port = port
        self.folder = folder

    def url(self, *, ca: str = "ca.pem", client: bool = True, host: str = "localhost") -> str:
        fields = [f"ssl_ca_certs={self.folder / ca}"]
        if client:
            fields.append(f"ssl_certfile={self.folder / 'client.pem'}")
            fields.append(f"ssl_keyfile={self.folder / 'client.key'}")
        return f"rediss://{host}:{self.port}/0?{'&'.join(fields)}"


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    if "redis" not in available_servers():
        pytest.skip("no redis-server on this machine, and the wheel's Valkey has no TLS")
    folder = tmp_path_factory.mktemp("tls")
    authority, stranger = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    stranger.cert_pem.write_to_path(str(folder / "stranger.pem"))
    for name, cert in (
        ("server", authority.issue_cert("localhost")),
        ("client", authority.issue_cert("worker@example.org")),
    ):
        cert.private_key_pem.write_to_path(str(folder / f"{name}.key"))
        cert.cert_chain_pems[0].write_to_path(str(folder / f"{name}.pem"))
    port = _free_port()
    config = {
        "tls-port": str(port),
        "tls-cert-file": str(folder / "server.pem"),
        "tls-key-file": str(folder / "server.key"),
        "tls-ca-cert-file": str(folder / "ca.pem"),
        "tls-auth-clients": "yes",
    }
    with start_server("redis", config=config):
        yield Secured(port, folder)


async def double(n: int) -> int:
    return 2 * n


async def test_a_job_travels_over_tls(secured: Secured) -> None:
    app = AsyncJobs(secured.url())
    job = app.job(double)
    async with app, Worker(app):
        handle = await job.enqueue(21)
        assert await handle.result(timeout=20) == 42


async def test_a_stranger_is_let_in_only_with_a_warning(
    secured: Secured, caplog: pytest.LogCaptureFixture
) -> None:
    url = secured.url(ca="stranger.pem", host="127.0.0.1").replace("rediss", "valkeys")
    app = AsyncJobs(f"{url}&ssl_cert_reqs=none")
    job = app.job(double)
    with caplog.at_level(logging.WARNING, "asyncjobs"):
        async with app, Worker(app):
            handle = await job.enqueue(21)
            assert await handle.result(timeout=20) == 42
    assert "ssl_cert_reqs=none: nobody checks" in caplog.text


@pytest.mark.parametrize(
    "wrong", [{"ca": "stranger.pem"}, {"client": False}, {"host": "127.0.0.1"}]
)
async def test_tls_refuses_whom_it_does_not_know(secured: Secured, wrong: dict[str, str]) -> None:
    app = AsyncJobs(secured.url(**wrong), connect_timeout=2)  # type: ignore[arg-type]
    with pytest.raises(StoreUnavailable) as caught:
        await app.__aenter__()
    assert "rediss://" in str(caught.value)
