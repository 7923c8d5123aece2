"""Which server a span names, and that it names nothing else of the store's URL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from asyncjobs import AsyncJobs
from asyncjobs.model.clock import new_id
from asyncjobs.store.redis.address import Address
from asyncjobs.telemetry.spans import Attributes, Server
from asyncjobs.testing.servers import Server as StoreServer
from asyncjobs.testing.servers import start_server
from tests.telemetry import tasks
from tests.telemetry.recording import Recording
from tests.worker.kit import LIMIT_S, register, working

pytestmark = pytest.mark.anyio

PASSWORD = "hush/hush@hush"
QUOTED = "hush%2Fhush%40hush"


def named(address: str) -> Attributes:
    return Server(lambda: address).attributes()


def at(host: str, port: int) -> Attributes:
    return {"server.address": host, "server.port": port}


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("redis://", at("localhost", 6379)),
        (f"redis://ada:{QUOTED}@db.example:7000/3", at("db.example", 7000)),
        (f"rediss://:{QUOTED}@db.example", at("db.example", 6379)),
        ("redis://[::1]:6380", at("::1", 6380)),
        (f"redis://:{QUOTED}@[fe80::1]", at("fe80::1", 6379)),
        (f"unix://ada:{QUOTED}@/run/v.sock?db=2", {"server.address": "/run/v.sock"}),
        (
            f"redis+sentinel://ada:{QUOTED}@one:1,two:2/shop?sentinel_password={QUOTED}",
            at("one", 1),
        ),
        (f"redis+sentinel://:{QUOTED}@one,two:2/shop", at("one", 26379)),
        ("rediss+sentinel://[::1]:5,two:2/shop", at("::1", 5)),
    ],
)
def test_the_server_that_a_url_leads_to(url: str, found: Attributes) -> None:
    assert named(Address.parse(url).text) == found


@pytest.mark.parametrize(
    "address", ["", "memory:", "embedded:/srv/shop/.asyncjobs", "other://a:b:c", "other://[a"]
)
def test_a_store_that_is_no_server_that_can_be_named(address: str) -> None:
    assert named(address) == {}


@pytest.mark.parametrize(
    "address",
    [f"redis://ada:{QUOTED}@one:1", f"redis+sentinel://:{QUOTED}@one:1,two:2/shop"],
)
def test_not_even_a_backend_that_keeps_its_password_gives_it_away(address: str) -> None:
    assert named(address) == at("one", 1)


@pytest.fixture
def locked() -> Iterator[StoreServer]:
    with start_server("valkey", config={"requirepass": PASSWORD}) as server:
        yield server


@pytest.mark.parametrize("way", ["port", "socket", "sentinels"])
async def test_spans_of_a_real_store(recording: Recording, locked: StoreServer, way: str) -> None:
    watching = {
        "sentinel monitor shop": f"127.0.0.1 {locked.port} 1",
        "sentinel auth-pass shop": PASSWORD,
    }
    with start_server("valkey", sentinel=True, config=watching) as sentinel:
        path = Address.parse(locked.socket_url).arguments["path"]
        sentinels = f"redis+sentinel://:{QUOTED}@127.0.0.1:{sentinel.port}/shop"
        url, found = {
            "port": (locked.url, at("127.0.0.1", locked.port)),
            "socket": (locked.socket_url, {"server.address": path}),
            "sentinels": (sentinels, at("127.0.0.1", sentinel.port)),
        }[way]
        assert QUOTED in url
        provider = recording.provider
        app = AsyncJobs(url, prefix=f"test-{new_id()}", tracer_provider=provider)
        job = register(app, tasks.looks)
        async with working(app):
            await (await job.enqueue()).result(LIMIT_S)
            await recording.ended(1)
    assert len(recording.spans()) == 2
    for span in recording.spans():
        attributes = dict(span.attributes or {})
        assert {key: attributes[key] for key in attributes if key.startswith("server.")} == found
        assert "hush" not in span.to_json()
