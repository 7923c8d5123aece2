"""What idle workers ask of a store: counted between heartbeats, not by a clock."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from asyncjobs import AsyncJobs, Worker
from asyncjobs.model.clock import new_id
from asyncjobs.store.redis.scripts import script
from asyncjobs.testing.servers import Server
from tests.guarantees.monitor import Monitor
from tests.worker.kit import until

pytestmark = pytest.mark.anyio

ROUNDS = 5
SCRIPTS = {
    script(name).digest.decode(): name
    for name in ("heartbeat", "exchange", "reclaim", "prune", "counts", "register")
}
BY_CLIENTS = re.compile(r'\[0 [^\]]*\d\] "([^"]+)"(?: "([^"]*)")?')
"""The command and its first argument; what scripts call is told as `[0 lua]`."""


def asked(lines: list[str]) -> Counter[str]:
    """What clients have sent, scripts by their names."""
    found: Counter[str] = Counter()
    for line in lines:
        if match := BY_CLIENTS.search(line):
            command, argument = match[1].upper(), match[2]
            found[SCRIPTS.get(argument, argument) if command == "EVALSHA" else command] += 1
    return found


async def between_heartbeats(monitor: Monitor, queues: int) -> Counter[str]:
    """What is asked in some rounds of heartbeats of the workers that run."""

    def beats() -> int:
        return asked(monitor.lines())["heartbeat"]

    start = beats() + 3 * queues  # what a start needs is over by then
    await until(lambda: beats() >= start)
    before = asked(monitor.lines())
    await until(lambda: beats() >= start + ROUNDS * queues)
    return asked(monitor.lines()) - before


@pytest.mark.parametrize("kind", ["valkey", "redis"])
@pytest.mark.parametrize("number", [1, 10])
async def test_a_lone_worker_sends_heartbeats_and_waits(server: Server, number: int) -> None:
    queues = [f"idle-{place}" for place in range(number)]
    app = AsyncJobs(server.url, prefix=f"test-{new_id()}")
    async with Monitor(server) as monitor, app, Worker(app, queues=queues, lease=1):
        found = await between_heartbeats(monitor, number)
    beats = found.pop("heartbeat")
    assert ROUNDS * number <= beats
    # One wait for all queues; nothing is polled, in whatever number of queues.
    assert found.pop("BLPOP", 0) <= ROUNDS
    assert found == Counter()
