"""`asyncjobs workers list | quiet | resume | stop | weights`."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson
import pytest
from click.testing import Result

from asyncjobs.client.workers import WorkerInfo, Workers
from asyncjobs.model.clock import new_id
from asyncjobs.store.lease import LeaseSpec
from asyncjobs.store.redis.backend import RedisBackend
from asyncjobs.testing.servers import Server
from tests.cli.conftest import Start
from tests.cli.test_usage import call


def workers(server: Server, *args: str) -> Result:
    return call("workers", *args, env={"ASYNCJOBS_URL": server.url})


def listed(server: Server) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(workers(server, "list", "--json").stdout)["workers"]
    return found


def enter(server: Server, *names: str, queues: tuple[str, ...] = ("mail",)) -> list[str]:
    """Leases that stand in the store, without programs behind them."""

    async def act() -> list[str]:
        store = RedisBackend(server.url)
        leases = []
        for name in names:
            info = {"worker": name, "host": "h1", "pid": 7, "version": "9", "concurrency": 5}
            leases.append(new_id())
            about = orjson.dumps({**info, "queues": dict.fromkeys(queues, 2)})
            await store.lease(LeaseSpec(leases[-1], name, queues, 60_000, about))
        await store.close()
        return leases

    return asyncio.run(act())


def orders(server: Server, lease: str, queue: str = "mail") -> dict[str, str]:
    """What stands in the store for this lease, without the numbers."""
    found = {}
    for kind in ("state", "weights"):
        stored = server.command("HGET", f"{{asyncjobs:{queue}}}:sequence", f"{lease}:{kind}")
        if stored:
            found[kind] = stored.decode().partition(" ")[2]
    return found


def test_nobody_works(server: Server) -> None:
    assert workers(server, "list").stdout == "no worker; start one: asyncjobs worker APP\n"
    assert listed(server) == []
    assert workers(server, "quiet", "--all").stdout == "no worker\n"


def test_workers_are_listed(server: Server) -> None:
    (lease,) = enter(server, "w1", queues=("mail", "sms"))
    (found,) = listed(server)
    assert found["queues"] == {"mail": 2, "sms": 2}
    assert {name: found[name] for name in ("worker", "lease", "host", "pid", "version")} == {
        "worker": "w1",
        "lease": lease,
        "host": "h1",
        "pid": 7,
        "version": "9",
    }
    assert (found["concurrency"], found["running"]) == (5, 0)
    assert (found["state"], found["ordered"]) == ("running", None)
    head, row = (line.split("\t") for line in workers(server, "list").stdout.splitlines())
    assert head[0] == "worker"
    assert row[:8] == ["w1", lease, "h1", "7", "9", "mail:2, sms:2", "0/5", "running"]


@pytest.mark.parametrize(
    ("command", "state"), [("quiet", "quiet"), ("resume", "running"), ("stop", "stopping")]
)
def test_an_order(server: Server, command: str, state: str) -> None:
    lease, other = enter(server, "w1", "w2", queues=("mail", "sms"))
    result = workers(server, command, "w1")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"ordered: {command}: w1 ({lease})\n"
    for queue in ("mail", "sms"):
        assert orders(server, lease, queue) == {"state": state}
        assert orders(server, other, queue) == {}
    if state != "running":
        found = {each["worker"]: each for each in listed(server)}
        assert (found["w1"]["state"], found["w1"]["ordered"]) == ("running", state)
        assert f"running ({state} ordered)" in workers(server, "list").stdout
    result = workers(server, command, lease[:-1], "--json")
    told = json.loads(result.stdout)
    assert told["ordered"] == command
    # Leases that were made in one moment begin alike.
    assert result.exit_code == 0, result.stderr
    assert [each["lease"] for each in told["workers"]] == [lease]


def test_names_that_fit_nobody_or_several(server: Server) -> None:
    leases = enter(server, "twin", "twin", "one")
    result = workers(server, "quiet", "one", "twin", "--json")
    assert result.exit_code == 1
    assert "'twin' stands for 2 workers: give the lease of one" in result.stderr
    assert "stands for 2 workers" in json.loads(result.stdout)["error"]
    result = workers(server, "quiet", "onee")
    assert result.stderr == "Error: no live worker 'onee'; did you mean 'one'?\n"
    assert [orders(server, lease) for lease in leases] == [{}, {}, {}]


def test_stopping_several_asks(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    leases = enter(server, "a", "b")
    result = workers(server, "stop", "--all", "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout) == {"error": "this is about 2 workers; add --yes to do it"}
    monkeypatch.setattr("asyncjobs.cli.workers.orders.can_ask", lambda: True)
    monkeypatch.setattr("asyncjobs.cli.workers.orders.confirm", lambda what: False)
    result = workers(server, "stop", "a", "b")
    assert (result.exit_code, result.stderr) == (1, "nobody was ordered\n")
    assert [orders(server, lease) for lease in leases] == [{}, {}]
    assert workers(server, "stop", "--all", "--yes").exit_code == 0
    assert [orders(server, lease) for lease in leases] == [{"state": "stopping"}] * 2


def test_one_that_ends_before_the_answer(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    (lease,) = enter(server, "stays")
    look = Workers.list
    seen: list[str] = []

    async def lists(self: Workers) -> Sequence[WorkerInfo]:
        found = await look(self)
        if not seen:
            found = [*found, replace(found[0], name="goes", lease="gone")]
        return found

    def confirm(what: str) -> bool:
        seen.append(what)
        return True

    monkeypatch.setattr(Workers, "list", lists)
    monkeypatch.setattr("asyncjobs.cli.workers.orders.can_ask", lambda: True)
    monkeypatch.setattr("asyncjobs.cli.workers.orders.confirm", confirm)
    result = workers(server, "stop", "--all")
    assert (result.stderr, seen) == ("", ["Order 2 workers: stop?"])
    assert (result.exit_code, result.stdout) == (0, f"ordered: stop: stays ({lease})\n")
    assert orders(server, lease) == {"state": "stopping"}


def test_weights(server: Server) -> None:
    (lease,) = enter(server, "w1", queues=("mail", "sms"))
    result = workers(server, "weights", "w1", "mail=3", "sms=1")
    assert (result.exit_code, result.stdout) == (0, f"ordered: mail=3, sms=1: w1 ({lease})\n")
    assert json.loads(orders(server, lease)["weights"]) == {"mail": 3, "sms": 1}
    told = json.loads(workers(server, "weights", "w1", "mail=4", "--json").stdout)
    assert told["weights"] == {"mail": 4}
    result = workers(server, "weights", "w1", "fax=3")
    assert result.exit_code == 1
    assert "does not serve the queue 'fax'; it serves mail, sms" in result.stderr
    assert workers(server, "weights", "w1", "mail=0").exit_code == 1


@pytest.mark.parametrize(
    "args",
    [
        ("quiet",),
        ("quiet", "a", "--all"),
        ("stop",),
        ("resume",),
        ("weights", "w1"),
        ("weights", "w1", "mail"),
        ("weights", "w1", "mail=x"),
        ("weights", "w1", "mail=1", "mail=2"),
        ("weights", "w1", "mail=" + "9" * 5000),
    ],
)
def test_wrong_usage(server: Server, args: tuple[str, ...]) -> None:
    assert workers(server, *args).exit_code == 2


def test_a_real_worker_follows(server: Server, run: Start) -> None:
    env = {"ASYNCJOBS_URL": server.url}
    process = run("worker", "tasks:app", "--name", "w1", env=env)
    process.wait_started()
    assert workers(server, "quiet", "w1").exit_code == 0
    process.wait_for("ordered to be quiet")
    assert workers(server, "resume", "w1").exit_code == 0
    process.wait_for("ordered to take jobs again")
    assert workers(server, "stop", "w1").exit_code == 0
    assert process.end() == 0
    assert "ordered to stop" in process.text
    assert listed(server) == []


def test_a_supervised_worker_that_is_stopped_is_replaced(server: Server, run: Start) -> None:
    env = {"ASYNCJOBS_URL": server.url}
    process = run("worker", "tasks:app", "--processes", "1", "--name", "w1", env=env)
    process.wait_started()
    (before,) = listed(server)
    assert workers(server, "stop", before["lease"]).exit_code == 0
    process.wait_until(lambda text: len(re.findall("ordered to stop", text)) == 1)
    process.wait_until(lambda text: "worker ended" in text)

    def others() -> list[dict[str, Any]]:
        return [each for each in listed(server) if each["lease"] != before["lease"]]

    for _ in range(500):
        if others():
            break
    assert others(), process.text
