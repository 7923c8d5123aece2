"""What each error of a server becomes, as the driver hands it over."""

from __future__ import annotations

import pytest

from asyncjobs.backends.redis.address import Address
from asyncjobs.backends.redis.faults import NoScript
from asyncjobs.backends.redis.link import Link
from asyncjobs.errors import StoreError, StoreFull, StoreUnavailable
from asyncjobs.testing.servers import start_server
from tests.faults.proxy import proxy_to

pytestmark = pytest.mark.anyio

LIMIT_S = 20.0
PASSING = [
    "LOADING Redis is loading the dataset in memory",
    "READONLY You can't write against a read only replica.",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist",
    "NOREPLICAS Not enough good replicas to write.",
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
    "ERR max number of clients reached",
]


async def answered(text: str) -> Exception:
    """What a call raises when the server answers with this error."""
    with start_server("valkey") as server:
        async with proxy_to(server.port) as proxy:
            link = Link(
                Address.parse(proxy.url), label="client", connect_timeout_s=LIMIT_S,
                timeout_s=LIMIT_S,
            )  # fmt: skip
            try:
                await link.connect()
                proxy.lose = lambda wire, data: f"-{text}\r\n".encode()
                with pytest.raises(StoreError) as caught:
                    await link.call(b"PING")
            finally:
                await link.close()
    return caught.value


@pytest.mark.parametrize("text", PASSING, ids=lambda text: text.split()[0])
async def test_what_passes_by_itself_is_waited_for(text: str) -> None:
    error = await answered(text)
    assert type(error) is StoreUnavailable
    assert "check that the server runs" in str(error)


async def test_what_has_an_answer_of_its_own() -> None:
    assert type(await answered("NOSCRIPT No matching script.")) is NoScript
    full = "OOM command not allowed when used memory > 'maxmemory'."
    assert type(await answered(full)) is StoreFull
    assert type(await answered("ERR Error running script")) is StoreError
