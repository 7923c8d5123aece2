"""`asyncjobs queues forget`."""

from __future__ import annotations

import asyncio
import json

import pytest
from click.testing import Result

from asyncjobs.model.job import NewJob
from asyncjobs.store.lease import LeaseSpec
from asyncjobs.store.redis.backend import RedisBackend
from asyncjobs.store.seam import EnqueueBatch
from asyncjobs.testing.servers import Server
from tests.cli.test_usage import call


def forget(server: Server, *args: str) -> Result:
    return call("queues", "forget", *args, env={"ASYNCJOBS_URL": server.url})


def fill(server: Server, *, served: str = "", empty: tuple[str, ...] = (), full: str = "") -> None:
    async def act() -> None:
        store = RedisBackend(server.url)
        for queue in filter(None, (*empty, served)):
            lease = await store.lease(LeaseSpec("lease", "worker", (queue,), 60_000))
            if queue in empty:
                await lease.leave()
        if full:
            await store.enqueue(EnqueueBatch("token", [NewJob(full, "a", 2, b"{}")]))
        await store.close()

    asyncio.run(act())


def names(server: Server) -> set[str]:
    return {name.decode() for name in server.command("SMEMBERS", "asyncjobs:queues")}


def test_a_queue_is_forgotten(server: Server) -> None:
    fill(server, empty=("mail", "typo"))
    result = forget(server, "typo")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "forgotten: 1 queue\n", "")
    assert names(server) == {"mail"}


def test_what_is_left_is_said_and_stays(server: Server) -> None:
    fill(server, served="mail", full="sms", empty=("typo",))
    result = forget(server, "sms", "mail", "typo", "mial", "--yes", "--json")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert told["forgotten"] == ["typo"]
    assert [left["queue"] for left in told["left"]] == ["sms", "mail"]
    assert told["errors"] == ["no queue 'mial'; did you mean 'mail'?"]
    assert "Error: queue 'sms' stays: it holds jobs: 1 ready" in result.stderr
    assert "Error: queue 'mail' stays: 1 live worker there" in result.stderr
    assert names(server) == {"mail", "sms"}


def test_all_of_them(server: Server) -> None:
    fill(server, full="sms", empty=("a", "b"))
    assert forget(server, "--all").exit_code == 2
    assert names(server) == {"a", "b", "sms"}
    result = forget(server, "--all", "--yes")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "forgotten: 2 queues; 1 queue still in use\n"
    assert names(server) == {"sms"}


@pytest.mark.parametrize("args", [(), ("mail", "--all"), ("no name",)])
def test_usage(server: Server, args: tuple[str, ...]) -> None:
    assert forget(server, *args).exit_code == 2
