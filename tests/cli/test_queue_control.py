"""`asyncjobs queues list | pause | resume | drain | purge`."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import threading
from typing import Any

import pytest
from click.testing import Result

from asyncjobs.model.demand import Demand
from asyncjobs.model.envelope import encode_call
from asyncjobs.model.job import NewJob
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.lease import LeaseSpec
from asyncjobs.store.redis.backend import RedisBackend
from asyncjobs.store.seam import EnqueueBatch
from asyncjobs.testing.servers import Server
from tests.cli.conftest import Start
from tests.cli.test_usage import call


def queues(server: Server, *args: str) -> Result:
    return call("queues", *args, env={"ASYNCJOBS_URL": server.url})


def fill(server: Server, *functions: str, queue: str = "mail", later: int = 0) -> None:
    def job(name: str, number: int, delay_ms: int = 0) -> NewJob:
        envelope = encode_call(name, (), {}, 1, None, None, None)
        return NewJob(queue, f"{name}-{number}", 2, envelope, delay_ms)

    jobs = [job(name, at) for at, name in enumerate(functions)]
    jobs += [job("later", len(jobs) + at, 3_600_000) for at in range(later)]

    async def act() -> None:
        store = RedisBackend(server.url)
        await store.enqueue(EnqueueBatch("token", jobs))
        await store.close()

    asyncio.run(act())


def take(server: Server, slots: int = 100, queue: str = "mail") -> int:
    """Take and settle what a worker would get."""

    async def act() -> int:
        store = RedisBackend(server.url)
        lease = await store.lease(LeaseSpec("lease", "worker", (queue,), 60_000))
        jobs = (await lease.exchange(1, (), {queue: Demand(slots)})).jobs
        await lease.exchange(2, [Settlement.succeeded(job) for job in jobs], {})
        await lease.leave()
        await store.close()
        return len(jobs)

    return asyncio.run(act())


def listed(server: Server, *args: str) -> Any:
    return json.loads(queues(server, "list", "--json", *args).stdout)["queues"]


def test_pause_and_resume(server: Server) -> None:
    fill(server, "a", "b")
    result = queues(server, "pause", "mail", "--reason", "an incident")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "paused: mail\n", "")
    assert queues(server, "pause", "mail", "--reason", "still").stdout == "paused already: mail\n"
    assert take(server) == 0
    (found,) = listed(server, "--paused")
    assert (found["paused"], found["ready"]) == (True, 2)
    (pause,) = found["pauses"]
    assert (pause["function"], pause["reason"], pause["resuming"]) == (None, "still", False)
    table = queues(server, "list").stdout
    assert re.search(r"^mail\t2\t0\t0\t0\t0\t0\tpaused \S+ ago by ", table, re.MULTILINE)
    assert ": still\n" in table
    result = queues(server, "resume", "mail", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {
        "resumed": ["mail"],
        "unchanged": [],
        "function": None,
        "errors": [],
    }
    assert queues(server, "resume", "mail").stdout == "not paused: mail\n"
    assert queues(server, "list", "--paused").stdout == "nothing is paused\n"
    assert take(server) == 2


def test_a_function_is_paused(server: Server) -> None:
    fill(server, "slow", "fast")
    result = queues(server, "pause", "mail", "--function", "slow")
    assert result.stdout == "paused: mail, function slow\n"
    assert take(server) == 1
    assert "  slow\t\t\t\t\t\t\tpaused " in queues(server, "list").stdout
    assert json.loads(queues(server, "pause", "mail", "--function", "slow", "--json").stdout) == {
        "paused": [],
        "unchanged": ["mail"],
        "function": "slow",
        "errors": [],
    }
    assert queues(server, "resume", "mail").stdout == "not paused: mail\n"
    assert queues(server, "resume", "--all").stdout == "resumed: mail, function slow\n"
    assert take(server) == 1


def test_a_pause_with_a_strange_name_keeps_no_other(server: Server) -> None:
    fill(server, "a")
    assert queues(server, "pause", "mail", "--function", "slow").exit_code == 0
    server.command("HSET", "{asyncjobs:mail}:paused", "no name", "p1 {}")
    result = queues(server, "resume", "--all")
    server.command("HDEL", "{asyncjobs:mail}:paused", "no name")
    assert result.exit_code == 1
    assert result.stdout == "resumed: mail, function slow\n"
    assert "no name" in result.stderr


def test_a_queue_that_is_not_there(server: Server) -> None:
    fill(server, "a")
    for args in (("pause", "mial"), ("drain", "mial"), ("purge", "mial", "--yes")):
        result = queues(server, *args)
        assert result.exit_code == 1
        assert result.stderr == "Error: no queue 'mial'; did you mean 'mail'?\n"
    assert take(server) == 1


def test_stats_and_check_name_what_is_paused(server: Server) -> None:
    fill(server, "a")
    queues(server, "pause", "mail", "--reason", "an incident")
    queues(server, "pause", "mail", "--function", "slow")
    env = {"ASYNCJOBS_URL": server.url}
    told = call("stats", env=env).stdout
    assert re.search(r"^paused: queue 'mail': paused \S+ ago by ", told, re.MULTILINE)
    assert re.search(r"^paused: queue 'mail', function slow: paused \S+ ago by", told, re.MULTILINE)
    found = json.loads(call("stats", "--json", env=env).stdout)["paused"]
    assert [(each["queue"], each["function"]) for each in found] == [
        ("mail", None),
        ("mail", "slow"),
    ]
    warnings = json.loads(call("check", "--json", env=env).stdout)["warnings"]
    assert any(
        each.startswith("paused: queue 'mail'") and "an incident" in each for each in warnings
    )


def test_a_paused_queue_is_not_forgotten(server: Server) -> None:
    fill(server, "a")
    queues(server, "purge", "mail", "--yes")
    queues(server, "pause", "mail")
    result = queues(server, "forget", "mail")
    assert result.exit_code == 1
    assert "something of it is paused; resume it first" in result.stderr


def test_an_empty_queue_is_drained(server: Server) -> None:
    fill(server, "a", later=2)
    assert take(server) == 1
    result = queues(server, "drain", "mail")
    assert result.exit_code == 0
    assert result.stdout == "empty: mail; 2 scheduled jobs not waited for\n"
    result = queues(server, "drain", "mail", "--pause", "--json")
    told = json.loads(result.stdout)
    assert (told["empty"], told["paused"], told["scheduled"]) == (True, True, 2)
    assert listed(server)[0]["paused"]


def test_a_drain_that_is_late(server: Server) -> None:
    fill(server, "a")
    result = queues(server, "drain", "mail", "--timeout", "50ms", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["empty"] is False
    assert "mail: 1 ready, 0 running, no live worker\n" in result.stderr
    assert "is not empty after 0.05 s: 1 ready, 0 running, 0 scheduled" in result.stderr


def test_a_drain_of_paused_jobs(server: Server) -> None:
    fill(server, "a")
    queues(server, "pause", "mail")
    result = queues(server, "drain", "mail", "--timeout", "20s")
    assert result.exit_code == 1
    assert "1 ready jobs that nobody may take" in result.stderr


def test_a_drain_waits_until_the_last_job_ends(server: Server) -> None:
    fill(server, "a")
    later = threading.Timer(0.3, take, (server,))
    later.start()
    result = queues(server, "drain", "mail", "--timeout", "20s")
    later.join()
    assert (result.exit_code, result.stdout) == (0, "empty: mail\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_drain_is_interrupted(server: Server, run: Start, number: signal.Signals) -> None:
    fill(server, "a")
    process = run("queues", "drain", "mail", env={"ASYNCJOBS_URL": server.url})
    process.wait_for("1 ready")
    process.send(number)
    assert process.end() == 130
    assert "interrupted; the jobs go on" in process.text
    assert take(server) == 1


def test_a_purge_asks(server: Server) -> None:
    fill(server, "a", "b", later=1)
    result = queues(server, "purge", "mail", "--json")
    assert result.exit_code == 2
    told = json.loads(result.stdout)
    assert (told["found"], told["purged"]) == (3, 0)
    assert "this cancels 3 waiting jobs of queue mail; add --yes to do it" in result.stderr
    assert queues(server, "purge", "mail", "--dry-run").stdout == (
        "would purge: 3 waiting jobs of queue mail\n"
    )
    result = queues(server, "purge", "mail", "--state", "scheduled", "--yes")
    assert (result.exit_code, result.stdout) == (0, "purged: 1 job\n")
    result = queues(server, "purge", "mail", "--function", "a", "--yes", "--json")
    assert json.loads(result.stdout) == {
        "queue": "mail",
        "function": "a",
        "found": 1,
        "purged": 1,
    }
    # Nothing to ask about.
    assert queues(server, "purge", "mail", "--function", "a").stdout == "purged: 0 jobs\n"
    assert take(server) == 1


def test_a_purge_that_is_answered(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(server, "a")
    asked: list[str] = []

    def answer(reply: bool) -> None:
        monkeypatch.setattr("asyncjobs.cli.queues.purge.can_ask", lambda: True)
        monkeypatch.setattr(
            "asyncjobs.cli.queues.purge.confirm", lambda what: asked.append(what) or reply
        )

    answer(False)
    result = queues(server, "purge", "mail")
    assert (result.exit_code, result.stderr) == (1, "nothing was purged\n")
    assert asked == ["Cancel 1 waiting job of queue mail?"]
    answer(True)
    assert queues(server, "purge", "mail").stdout == "purged: 1 job\n"


@pytest.mark.parametrize(
    "args",
    [
        ("pause",),
        ("pause", "no name"),
        ("pause", "mail", "--function", "no name"),
        ("resume",),
        ("resume", "mail", "--all"),
        ("resume", "--all", "--function", "a"),
        ("drain",),
        ("drain", "mail", "--timeout", "soon"),
        ("purge", "mail", "--state", "running"),
    ],
)
def test_wrong_usage(server: Server, args: tuple[str, ...]) -> None:
    assert queues(server, *args).exit_code == 2
