"""`asyncjobs events send`: wakes the jobs that wait for an event."""

from __future__ import annotations

import asyncio
import json

import pytest
from click.testing import Result

from asyncjobs.model.awaiting import EventWait
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.redis.backend import RedisBackend
from asyncjobs.store.seam import StoreSettings
from asyncjobs.testing.conformance.store import Store
from asyncjobs.testing.servers import Server
from tests.cli.test_usage import call


def send(server: Server, *args: str) -> Result:
    return call("events", "send", *args, env={"ASYNCJOBS_URL": server.url})


def sleep(server: Server, id: str) -> None:
    """Store a job that waits for the event `paid` with the key 7."""

    async def store() -> None:
        backend = RedisBackend(server.url, StoreSettings())
        await backend.open()
        try:
            own = Store(backend, None, None, None)  # type: ignore[arg-type]  # its clock is not asked
            await own.enqueue(id, queue="default")
            worker = await own.worker("default")
            job = await worker.take_one()
            await worker.lease.await_events([EventWait(job, "paid", "7", "n", "0", 60_000, b"")])
            await worker.exchange(Settlement.waiting(job, b'{"f": "pay"}', 60_000))
            await worker.lease.leave()
        finally:
            await backend.close()

    asyncio.run(store())


def test_a_store_without_queues(server: Server) -> None:
    result = send(server, "paid")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "the store has no queue yet; name one with --queue\n"


def test_a_job_is_woken(server: Server) -> None:
    sleep(server, "a")
    shown = call("jobs", "show", "default/a", "--json", env={"ASYNCJOBS_URL": server.url})
    assert json.loads(shown.stdout)["held_by"] == "event paid:7"
    listed = call("jobs", "list", "scheduled", env={"ASYNCJOBS_URL": server.url})
    assert "waits for event paid:7" in listed.stdout
    result = send(server, "paid", "--key", "7", "--value", '{"amount": 42}')
    assert (result.exit_code, result.stdout) == (0, "sent 'paid' to 1 queue: woke 1 job\n")
    again = send(server, "paid", "--key", "7", "--queue", "default", "--queue", "mail", "--json")
    assert json.loads(again.stdout) == {
        "name": "paid",
        "key": "7",
        "queues": ["default", "mail"],
        "woken": 0,
    }
    result = send(server, "paid", "--key", "7")
    assert "woke no job; it is kept for those that wait for it later" in result.stdout


@pytest.mark.parametrize(
    ("args", "what"),
    [
        (["paid", "--value", "yes"], "--value is no JSON"),
        (["", "--queue", "default"], "the name of an event is empty"),
        (["paid", "--key", "a\nb"], "control character"),
        (["paid", "--queue", "no queue"], "--queue"),
        (["paid", "--value", "[" * 5_000], "--value is no JSON"),
    ],
)
def test_wrong_usage(server: Server, args: list[str], what: str) -> None:
    result = send(server, *args)
    assert result.exit_code == 2
    assert what in result.stderr
