"""The first words of a server's errors, through the driver, in asyncjobs' classes."""

from __future__ import annotations

import asyncio

import pytest

from asyncjobs.errors import StoreError, StoreFull, StoreUnavailable
from asyncjobs.store.redis.address import Address
from asyncjobs.store.redis.faults import AccessDenied, ClusterNode, Demoted, NoScript
from asyncjobs.store.redis.link import Link

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("says", "kind"),
    [
        ("NOSCRIPT No matching script. Please use EVAL.", NoScript),
        ("OOM command not allowed when used memory > 'maxmemory'.", StoreFull),
        ("READONLY You can't write against a read only replica.", Demoted),
        ("READONLY You can not run script with write flag on readonly replica.", Demoted),
        ("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is 'no'.", Demoted),
        ("UNBLOCKED force unblock from blocking operation, instance state changed", Demoted),
        ("LOADING Redis is loading the dataset in memory", StoreUnavailable),
        ("MISCONF Redis is configured to save RDB snapshots, but can't", StoreUnavailable),
        ("NOREPLICAS Not enough good replicas to write.", StoreUnavailable),
        ("BUSY Redis is busy running a script.", StoreUnavailable),
        ("TRYAGAIN Multiple keys request during rehashing of slot", StoreUnavailable),
        ("CLUSTERDOWN Hash slot not served", StoreUnavailable),
        ("ERR max number of clients reached", StoreUnavailable),
        ("NOAUTH Authentication required.", AccessDenied),
        ("NOPERM this user has no permissions", AccessDenied),
        ("WRONGPASS invalid username-password pair", AccessDenied),
        ("MOVED 10380 127.0.0.1:43375", ClusterNode),
        ("ASK 3999 127.0.0.1:6381", ClusterNode),
        ("CROSSSLOT Keys in request don't hash to the same slot", ClusterNode),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", StoreError),
    ],
)
async def test_each_word_has_its_answer(says: str, kind: type[StoreError]) -> None:
    served = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        writer.write(b"+OK\r\n")  # it has been given its name
        await reader.read(4096)
        writer.write(f"-{says}\r\n".encode())
        await reader.read()
        writer.close()
        await writer.wait_closed()
        served.set()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        address = Address.parse(f"redis://127.0.0.1:{port}")
        link = Link(address, label="client", connect_timeout_s=5, timeout_s=5)
        with pytest.raises(StoreError) as caught:
            await link.call("PING")
        await link.close()
        await served.wait()
    assert type(caught.value) is kind
    if kind is ClusterNode:
        assert says in str(caught.value)
        assert "needs one server" in str(caught.value)
    if kind is not NoScript:
        assert f"127.0.0.1:{port}" in str(caught.value)
