"""What suspects that wait cost the exchanges of others: the same however many there are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest

from asyncjobs.model.demand import Demand
from asyncjobs.store.redis.backend import RedisBackend
from asyncjobs.store.seam import StoreSettings
from asyncjobs.testing.conformance.store import LEASE_MS, PinnedClock, Store
from asyncjobs.testing.servers import Server, ServerKind, available_servers, start_server

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["valkey", "redis"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server of this test's own: its counters are read."""
    kind = cast(ServerKind, request.param)
    if kind not in available_servers():
        pytest.skip(f"no {kind} server on this machine")
    with start_server(kind) as running:
        yield running


@pytest.fixture
async def own(server: Server, anyio_backend: str) -> Any:
    clock, config = PinnedClock(), StoreSettings()
    backend = RedisBackend(server.url, config, now_ms=clock)
    try:
        await backend.open()
        yield Store(backend, clock, config, lambda *_: backend)
    finally:
        await backend.close()


def commands(server: Server) -> int:
    """How many commands the server has executed, those of scripts too."""
    told = cast(bytes, server.command("INFO", "commandstats")).decode()
    calls = [
        int(line.partition("calls=")[2].partition(",")[0])
        for line in told.splitlines()
        if line.startswith("cmdstat_") and not line.startswith(("cmdstat_info", "cmdstat_config"))
    ]
    return sum(calls)


@pytest.mark.parametrize("room", [(), (0, 0), (5, 1)])
async def test_an_exchange_walks_past_no_suspects(
    own: Store, server: Server, room: tuple[int, ...]
) -> None:
    """`room`: none asked for, none left, some for those with one crash."""
    found: list[int] = []
    for waiting in (10, 1000):
        queue = f"queue-{waiting}"
        await own.enqueue(*(f"job-{number}" for number in range(waiting)), queue=queue)
        keeper, dead = await own.worker(queue), await own.worker(queue)
        taken = [job for _ in range(5) for job in await dead.take(200)]
        assert len(taken) == waiting
        await own.pass_time(LEASE_MS + 1, keeper)
        assert (await own.reclaim(queue)).returned == waiting
        server.command("CONFIG", "RESETSTAT")
        answer = await keeper.exchange(demand={queue: Demand(100, suspects=room)})
        found.append(commands(server))
        assert len(answer.jobs) == (room[0] if room else 0)
        assert answer.suspects == {queue: 1}
    assert found[0] == found[1]
