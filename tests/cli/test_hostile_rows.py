"""What commands show beside records and keys that a foreign writer has put into the store."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest
from click.testing import Result

from asyncjobs.errors import StoreError, StoreUnavailable
from asyncjobs.store.apart import apart
from asyncjobs.store.redis.backend import RedisBackend
from asyncjobs.store.seam import StoreSettings
from asyncjobs.telemetry.queues import QueueGauges, look_at_queues
from asyncjobs.testing.servers import Server
from tests.cli.dying import Corpse, bury
from tests.cli.test_usage import call

pytestmark = pytest.mark.unaudited("foreign keys are what is tested")

READERS = {
    "ready:2": ("dead list",),
    "scheduled": ("dead list", "dead retry"),
    "dead": (),
    "workers": ("dead list", "dead retry"),
    "stats": ("check", "dead list", "dead retry"),
    "index": ("stats", "check", "dead list"),
    "dead:data": ("stats", "check"),
}
"""By key: the commands that do not need it, so they answer for its queue, too."""


def run(server: Server, *args: str) -> Result:
    result = call(*args, env={"ASYNCJOBS_URL": server.url})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def spoil(server: Server, *parts: str, queue: str = "bad") -> None:
    """These keys of the queue are texts, whatever they should be."""
    server.command("SADD", "asyncjobs:queues", queue)
    for part in parts:
        key = f"{{asyncjobs:{queue}}}:{part}"
        server.command("DEL", key)
        server.command("SET", key, "hostile")


@pytest.mark.parametrize("part", READERS)
def test_a_queue_that_cannot_be_read_hides_no_other(server: Server, part: str) -> None:
    bury(server.url, Corpse("a", queue="good"), Corpse("b", queue="zoo"))
    bury(server.url, Corpse("c", queue="bad"))
    spoil(server, part)

    def asked(*command: str) -> tuple[Any, set[str]]:
        """The answer in JSON, and the queues to be found in it. The bad one is among them, or
        the command names it and ends with 1."""
        result = run(server, *command, "--json")
        is_read = " ".join(command[:2]) in READERS[part]
        assert result.exit_code == (0 if is_read else 1)
        if command != ("stats",):  # which names it in its answer
            assert ("queue 'bad' cannot be read" in result.output) is not is_read
        queues = {"good", "zoo"}
        if is_read:
            queues.add("bad")
        return json.loads(result.stdout), queues

    shown, queues = asked("stats")
    assert {row["queue"] for row in shown["queues"]} == queues
    assert shown["refused"].keys() == {"bad"} - queues
    checked, queues = asked("check")
    assert {row["queue"] for row in checked["queues"]} == queues
    listed, queues = asked("dead", "list")
    ids = {"good": "good/a", "zoo": "zoo/b", "bad": "bad/c"}
    assert {job["job"] for job in listed["jobs"]} == {ids[queue] for queue in queues}
    assert run(server, "jobs", "show", "a").exit_code == 0
    retried, queues = asked("dead", "retry", "--all", "--yes")
    assert retried["retried"] == len(queues)


def test_the_bad_queue_is_named(server: Server) -> None:
    bury(server.url, Corpse("a", queue="good"))
    spoil(server, "ready:2", "dead")
    stats = run(server, "stats")
    assert stats.exit_code == 1
    assert "problem: queue 'bad' cannot be read" in stats.stdout
    assert "good\t" in stats.stdout
    check = run(server, "check")
    assert check.exit_code == 1
    assert "problem: queue 'bad' cannot be read" in check.stdout
    for command in (["list"], ["retry", "--all", "--dry-run"], ["purge", "--all", "--yes"]):
        result = run(server, "dead", *command)
        assert result.exit_code == 1
        assert "queue 'bad' cannot be read" in result.stderr
    assert run(server, "dead", "list", "--queue", "good").stderr == "no dead job\n"


TIMES = ["+inf", "-inf", "1e300", "-1e300", "1e17", "1.5", "-1", "0"]


@pytest.mark.parametrize("flags", [[], ["--oldest-first"], ["--reason", "exhausted"]])
def test_times_that_are_none_hide_no_other_death(server: Server, flags: list[str]) -> None:
    good = [Corpse(f"good-{n}", age_s=n) for n in range(1, 4)]
    bury(server.url, *good, *(Corpse(f"odd-{n}") for n in range(len(TIMES))))
    for number, time in enumerate(TIMES):
        server.command("ZADD", "{asyncjobs:default}:dead", time, f"odd-{number}")
    listed = json.loads(run(server, "dead", "list", "--json", *flags).stdout)
    ids = {job["id"] for job in listed["jobs"]}
    assert {"good-1", "good-2", "good-3"} <= ids
    assert len(ids) == 3 + len(TIMES)
    assert run(server, "dead", "list", *flags).exit_code == 0
    for number in range(len(TIMES)):
        assert run(server, "dead", "show", f"odd-{number}").exit_code == 0
    retried = json.loads(run(server, "dead", "retry", "--all", "--yes", "--json").stdout)
    assert retried["retried"] == 3 + len(TIMES)


def test_a_purge_drops_deaths_at_times_that_are_none(server: Server) -> None:
    bury(server.url, *(Corpse(f"odd-{n}") for n in range(len(TIMES))))
    for number, time in enumerate(TIMES):
        server.command("ZADD", "{asyncjobs:default}:dead", time, f"odd-{number}")
    purged = json.loads(run(server, "dead", "purge", "--all", "--yes", "--json").stdout)
    assert purged["purged"] == len(TIMES)


LETTERS = [
    b"",
    b"\n",
    b"\xff",
    b'{"s":"dead","m":3}\n{}',
    b'{"s":"dead","n":18446744073709551615}\n{}',
    b'{"s":"dead","e":1e300}\nx',
    b'{"s":"dead","r":' + b"[" * 900 + b"]" * 900 + b"}\n{}",
    b'{"s":"dead"}\n{"v":1,"f":"f","n":1,"e":1,"a":' + b"[" * 900 + b"]" * 900 + b"}",
    b'{"s":"dead"}\n{"v":1,"f":"f","n":1,"e":18446744073709551615}',
    b'{"s":"dead"}\n{"v":1,"f":"f","n":1,"e":1,"h":{"revived":18446744073709551615,"errors":[1]}}',
]


def test_letters_that_are_none_are_rows_of_their_own(server: Server) -> None:
    bury(server.url, *(Corpse(f"l-{n}", letter=letter) for n, letter in enumerate(LETTERS)))
    bury(server.url, Corpse("good"))
    server.command("HSET", "{asyncjobs:default}:dead:data", b"\xff\xfe", b"2" + LETTERS[0])
    server.command("ZADD", "{asyncjobs:default}:dead", "1", b"\xff\xfe")
    listed = json.loads(run(server, "dead", "list", "--json").stdout)
    assert len(listed["jobs"]) == len(LETTERS) + 2
    assert run(server, "dead", "list").exit_code == 0
    for number in range(len(LETTERS)):
        for output in ([], ["--json"]):
            assert run(server, "dead", "show", f"l-{number}", *output).exit_code == 0
            shown = run(server, "jobs", "show", f"l-{number}", *output)
            assert shown.exit_code == 0
            assert f"default/l-{number}" in shown.output
    retried = run(server, "dead", "retry", "--all", "--yes", "--json")
    told = json.loads(retried.stdout)
    # Those whose first line is no outcome. An envelope is kept as it is, whatever it holds.
    unreadable = [f"default/l-{number}" for number in range(7)]
    assert told["unreadable"] == ["default/\\udcff\\udcfe", *unreadable]
    assert told["retried"] == len(LETTERS) + 2 - len(told["unreadable"])


SOON = "1970-01-01T00:00:00.001000+00:00"


@pytest.mark.parametrize(
    ("command", "due_at"),
    [
        ("ZADD {asyncjobs:default}:scheduled +inf job", "9999-12-31T23:59:59.998993+00:00"),
        ("HSET {asyncjobs:default}:scheduled:data job 9x", SOON),
        ("HSET {asyncjobs:default}:index job zzz", None),
        ("HSET {asyncjobs:default}:known:0 job q", SOON),
        ('HSET {asyncjobs:default}:progress job {"done":[[1]]}', SOON),
    ],
    ids=["time", "priority", "place", "state", "progress"],
)
def test_a_job_with_a_foreign_field_is_shown_or_named(
    server: Server, command: str, due_at: str | None
) -> None:
    """`due_at`: what is shown of it; None if it cannot be read."""
    bury(server.url, Corpse("other"))
    server.command("HSET", "{asyncjobs:default}:index", "job", "s")
    server.command("HSET", "{asyncjobs:default}:scheduled:data", "job", "2{}")
    server.command("ZADD", "{asyncjobs:default}:scheduled", "1", "job")
    server.command(*command.split(" "))
    for output in ([], ["--json"]):
        shown = run(server, "jobs", "show", "job", *output)
        assert shown.exit_code == (1 if due_at is None else 0)
        assert ("job default/job cannot be read" in shown.output) is (due_at is None)
        if due_at is not None and output:
            job = json.loads(shown.stdout)
            assert (job["state"], job["priority"], job["due_at"]) == ("scheduled", "normal", due_at)
        assert run(server, "stats", *output).exit_code == 0
        assert run(server, "check", *output).exit_code == 1  # a job, and no worker


def test_what_a_worker_says_of_itself_is_read_with_limits(server: Server) -> None:
    bury(server.url, Corpse("a"))
    deep = b'{"worker":' + b"[" * 900 + b"]" * 900 + b"}"
    wide = json.dumps({"worker": "w" * 100_000, "host": "\x1b[2J\nproblem: forged"})
    for lease, info in ((b"\xff", deep), (b"wide", wide), (b"none", b"\xff")):
        server.command("ZADD", "{asyncjobs:default}:workers", "9e15", lease)
        server.command("HSET", "{asyncjobs:default}:workers:info", lease, info)
    server.command("HSET", "{asyncjobs:default}:stats", "9" * 5000 + ":e", "9" * 5000)
    assert len(json.loads(run(server, "stats", "--json").stdout)["workers"]) == 3
    # Its lease ends in a year that no date has, and it hides nobody from operators.
    assert len(json.loads(run(server, "workers", "list", "--json").stdout)["workers"]) == 3
    for command in (["stats"], ["workers", "list"]):
        text = run(server, *command).stdout
        assert len(text) < 5_000
        assert "\x1b" not in text
        assert not [line for line in text.splitlines() if line.startswith("problem")]
    assert run(server, "workers", "quiet", "none").exit_code == 0


@pytest.mark.anyio
async def test_the_exporter_shows_the_other_queues_and_names_the_bad_one(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "asyncjobs.telemetry")
    await asyncio.to_thread(lambda: bury(server.url, Corpse("a", queue="good")))
    await asyncio.to_thread(lambda: spoil(server, "ready:2"))
    store = RedisBackend(server.url, StoreSettings())
    try:
        view = await look_at_queues(store)
    finally:
        await store.close()
    assert [count.queue for count in view.counts] == ["good"]
    assert [flow.queue for flow in view.flows] == ["good"]
    assert view.refused.keys() == {"bad"}
    gauges = QueueGauges(lambda: view)
    for _ in range(2):
        gauges._looked_s = float("-inf")
        assert gauges._fresh() is view
    assert caplog.text.count("no metrics of queue 'bad'") == 1


class Asked:
    """Answers for all but some, and counts how often it is asked."""

    def __init__(self, *bad: int) -> None:
        self.bad = bad
        self.times = 0

    async def __call__(self, about: Any) -> list[int]:
        self.times += 1
        if any(each in self.bad for each in about):
            raise StoreError("a key of a wrong type")
        return [each * 10 for each in about]


@pytest.mark.anyio
async def test_asking_apart() -> None:
    asked = Asked(300)
    found = await apart(asked, range(1000))
    assert list(found.answers) == [n for n in range(1000) if n != 300]
    assert found.answers[999] == 9990
    assert found.refused.keys() == {300}
    assert asked.times < 25
    none = Asked()
    assert await apart(none, []) == ({}, {})
    assert none.times == 0


@pytest.mark.anyio
async def test_a_store_that_is_away_is_asked_once() -> None:
    times: list[object] = []

    async def ask(about: Any) -> list[int]:
        times.append(about)
        raise StoreUnavailable("away")

    with pytest.raises(StoreUnavailable):
        await apart(ask, range(10))
    assert len(times) == 1
