"""A node of a cluster is refused with words, also one that is alone and has all slots."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from asyncjobs import AsyncJobs, ConfigError
from asyncjobs.testing.servers import Server, available_servers, start_server
from tests.cli.test_usage import call

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", params=["valkey", "redis"])
def node(request: pytest.FixtureRequest) -> Iterator[Server]:
    if request.param not in available_servers():
        pytest.skip(f"no {request.param} server on this machine")
    with socket.socket() as probe:
        # By default it is the server's port plus 10,000, which there may be none of.
        probe.bind(("127.0.0.1", 0))
        bus = str(probe.getsockname()[1])
    config = {"cluster-enabled": "yes", "cluster-port": bus}
    with start_server(request.param, config=config) as server:
        server.command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        yield server


async def test_a_cluster_of_one_is_refused_at_open(node: Server) -> None:
    with pytest.raises(ConfigError, match=r"is a node of a cluster.*cluster-enabled no"):
        await AsyncJobs(node.url).__aenter__()


def test_commands_say_it(node: Server) -> None:
    for args, code in ((("check",), 1), (("jobs", "show", "x"), 2), (("stats",), 2)):
        result = call(*args, "--url", node.url)
        assert result.exit_code == code
        assert "is a node of a cluster" in result.output
    assert "this is a node of a cluster" in call("doctor", "--url", node.url).output


async def test_one_that_hides_it_is_refused_by_its_first_answer() -> None:
    replies = {
        b"INFO": b"$19\r\nredis_version:7.2.4\r\n",
        b"CONFIG": b"-NOPERM no rights\r\n",
        b"GET": b"-MOVED 10380 127.0.0.1:43375\r\n",
    }

    served = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while asked := await reader.read(4096):
            name = asked.split(b"\r\n")[2].upper()
            writer.write(replies.get(name, b"+OK\r\n"))
        writer.close()
        await writer.wait_closed()
        served.set()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ConfigError, match=r"MOVED 10380 127\.0\.0\.1:43375"):
            await AsyncJobs(f"redis://127.0.0.1:{port}").__aenter__()
        await served.wait()
