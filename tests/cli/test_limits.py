"""`asyncjobs limits`, and what other commands say of jobs that wait at a limit."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from click.testing import Result

from asyncjobs.cli.limits import commands
from asyncjobs.model.clock import new_id
from asyncjobs.model.gates import gate_header
from asyncjobs.model.job import NewJob
from asyncjobs.model.terms import Gate, LimitKind, LimitRule, LimitUse, Terms
from asyncjobs.store.redis.backend import RedisBackend
from asyncjobs.store.seam import EnqueueBatch, StoreSettings
from asyncjobs.testing.conformance.store import Store
from asyncjobs.testing.servers import Server
from tests.cli.dying import Corpse, bury
from tests.cli.test_usage import call

ONE = LimitUse("api", "acme", LimitRule(LimitKind.CONCURRENCY, 1))
MAIL = LimitUse("mail", "", LimitRule(LimitKind.RATE, 100, 60_000, 20))


def limits(server: Server, *args: str) -> Result:
    return call("limits", *args, env={"ASYNCJOBS_URL": server.url})


def put(server: Server, *jobs: tuple[str, LimitUse], close: LimitUse | None = None) -> None:
    """Store these jobs; a worker takes what it may, and is gone."""

    async def store() -> None:
        backend = RedisBackend(server.url, StoreSettings())
        await backend.open()
        try:
            if close is not None:
                await backend.limits.close("default", [close], 3_600_000)
            new = [
                NewJob(
                    "default", id, 2, b'{"v":1}', has_new_id=True, terms=Terms(gate=Gate((use,)))
                )
                for id, use in jobs
            ]
            await backend.enqueue(EnqueueBatch(new_id(), new))
            worker = await Store(backend, None, None, None).worker("default")  # type: ignore[arg-type]
            await worker.take()
        finally:
            await backend.close()

    asyncio.run(store())


def listed(server: Server, *args: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(limits(server, *args, "--json").stdout)["limits"]
    return found


def test_no_limit_is_in_use(server: Server) -> None:
    result = limits(server, "list")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "no limit is in use\n")


def test_keys_are_listed(server: Server) -> None:
    put(server, ("a", ONE), ("b", ONE), ("c", MAIL), close=MAIL)
    text = limits(server, "list").stdout
    assert "api" in text
    assert "100/minute:20" in text
    first, second = listed(server, "list")
    about = first["name"], first["key"], first["rule"], first["running"], first["waiting"]
    assert about == ("api", "acme", "1", 1, 1)
    assert first["oldest"] is not None
    assert (second["name"], second["key"], second["running"]) == ("mail", "", 0)
    assert second["opens"] is not None
    assert [each["name"] for each in listed(server, "list", "--name", "ma*")] == ["mail"]
    result = limits(server, "list", "--limit", "1")
    assert result.stderr == "1 of 2; --limit shows more\n"


def test_one_key_is_shown(server: Server) -> None:
    put(server, ("a", ONE), ("b", MAIL))
    (shown,) = listed(server, "show", "api", "acme")
    assert (shown["running"], shown["is_set"]) == (1, False)
    assert "acme" in limits(server, "show", "api", "acme").stdout
    assert listed(server, "show", "mail")[0]["rule"] == "100/minute:20"
    result = limits(server, "show", "other")
    assert result.exit_code == 1
    assert "nobody has used a limit 'other'; asyncjobs limits list shows them" in result.stderr


def test_other_rules_are_set(server: Server) -> None:
    put(server, ("a", ONE))
    result = limits(server, "set", "api", "5")
    assert (result.exit_code, result.stdout) == (0, "the rule of api is 5\n")
    assert limits(server, "set", "api", "acme", "7").stdout == "the rule of api acme is 7\n"
    assert listed(server, "show", "api", "acme")[0]["rule"] == "7"
    assert "7 (set)" in limits(server, "show", "api", "acme").stdout
    result = limits(server, "set", "api", "acme", "--code")
    assert result.stdout == "the rule of api acme is that of the code\n"
    assert listed(server, "show", "api", "acme")[0]["rule"] == "5"
    answer = json.loads(limits(server, "set", "api", "--code", "--json").stdout)
    assert answer == {"name": "api", "key": None, "rule": None, "queues": ["default"]}
    assert listed(server, "show", "api", "acme")[0]["rule"] == "1"


@pytest.mark.parametrize(
    ("args", "code", "wanted"),
    [
        (["set", "api"], 2, "give NAME [KEY] RULE, or NAME [KEY] --code"),
        (["set", "api", "a", "b", "5"], 2, "give NAME [KEY] RULE"),
        (["set", "api", "a", "5", "--code"], 2, "give NAME [KEY] RULE"),
        (["set", "api", "many"], 2, "'many' is not a rate"),
        (["set", "api", "0"], 2, "must be a whole number from 1"),
        (["set", "api", "5/s"], 2, "bounds how many jobs run at once"),
        (["set", "other", "5"], 1, "nobody has used a limit 'other'"),
        (["free", "other", "--yes"], 1, "nobody has used a limit 'other'"),
        (["free", "api", "acme"], 2, "this would free api acme; add --yes to do it"),
        (["list", "--queue", "a b"], 2, "is not a queue name"),
    ],
)
def test_what_is_refused(server: Server, args: list[str], code: int, wanted: str) -> None:
    put(server, ("a", ONE))
    result = limits(server, *args)
    assert (result.exit_code, wanted in result.stderr) == (code, True), result.stderr


def test_a_key_is_opened(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    put(server, ("a", MAIL), close=MAIL)
    monkeypatch.setattr(commands, "can_ask", lambda: True)
    asked: list[str] = []

    def answers(question: str) -> bool:
        asked.append(question)
        return len(asked) > 1

    monkeypatch.setattr(commands, "confirm", answers)
    refused = limits(server, "free", "mail")
    assert (refused.exit_code, refused.stderr) == (1, "nothing was freed\n")
    assert listed(server, "show", "mail")[0]["opens"] is not None
    result = limits(server, "free", "mail")
    assert (result.exit_code, result.stdout) == (0, "freed: mail, 0 permits of nobody\n")
    assert asked[0].startswith("Free mail, where ")
    assert listed(server, "show", "mail")[0]["opens"] is None
    answer = json.loads(limits(server, "free", "mail", "--yes", "--json").stdout)
    assert answer == {"freed": ["default"], "permits": 0}


def test_a_dead_job_that_is_retried_waits_at_its_limit(server: Server) -> None:
    bury(server.url, Corpse("dead", headers=gate_header(Gate((ONE,)))))
    put(server, ("a", ONE))
    result = call("dead", "retry", "default/dead", "--yes", env={"ASYNCJOBS_URL": server.url})
    assert result.exit_code == 0, result.output
    (shown,) = listed(server, "show", "api", "acme")
    assert (shown["running"], shown["waiting"]) == (1, 1)


def test_a_job_that_waits_says_for_what(server: Server) -> None:
    put(server, ("a", ONE), ("b", ONE))
    environment = {"ASYNCJOBS_URL": server.url}
    found = json.loads(call("jobs", "list", "held", "--json", env=environment).stdout)
    assert [(job["id"], job["held_by"]) for job in found["jobs"]] == [("b", "limit api acme")]
    shown = json.loads(call("jobs", "show", "default/b", "--json", env=environment).stdout)
    assert (shown["state"], shown["held_by"]) == ("held", "limit api acme")
