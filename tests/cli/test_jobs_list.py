"""`asyncjobs jobs list`: jobs by state, filters and pages."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import Result

from asyncjobs.model.demand import Demand
from asyncjobs.model.envelope import encode_call
from asyncjobs.model.headers import Headers, PastError
from asyncjobs.model.job import NewJob
from asyncjobs.model.notes import PROGRESS, Note
from asyncjobs.store.lease import LeaseSpec
from asyncjobs.store.listing import JobCursor
from asyncjobs.store.redis.backend import RedisBackend
from asyncjobs.store.seam import EnqueueBatch
from asyncjobs.testing.servers import Server
from tests.cli.dying import Corpse, bury, enqueue, on_store
from tests.cli.test_usage import call
from tests.cli.test_worker import closed_port


def jobs(server: Server, *args: str) -> Result:
    return call("jobs", *args, env={"ASYNCJOBS_URL": server.url})


def found(server: Server, *args: str) -> dict[str, Any]:
    """The JSON of a list."""
    result = jobs(server, "list", *args, "--json")
    assert result.exit_code == 0, result.output
    (line,) = result.stdout.splitlines()
    answer: dict[str, Any] = json.loads(line)
    return answer


def listed(server: Server, *args: str) -> list[str]:
    return [job["job"] for job in found(server, *args)["jobs"]]


def rows(result: Result) -> list[list[str]]:
    return [line.split("\t") for line in result.stdout.splitlines()]


def schedule(server: Server, *names: str, delay_ms: int = 3_600_000, error: str = "") -> None:
    """Store jobs for later; with an error, after their first attempt."""
    headers = Headers({})
    if error:
        headers = headers.with_error(PastError(1, "OSError", error, "", 1, "w"))
    raw = encode_call("tasks.later", [], {}, 1, None, None, None, headers.fields, attempt=2)

    async def store_them(store: RedisBackend) -> None:
        new = [NewJob("default", name, 2, raw, delay_ms) for name in names]
        await store.enqueue(EnqueueBatch(f"token-{names}", new))

    on_store(server.url, store_them)


def run(server: Server, name: str) -> None:
    """Let a worker hold a job, half done and asked to stop."""

    async def take(store: RedisBackend) -> None:
        spec = LeaseSpec("lease", "ada", ("default",), 60_000, info=b'{"worker":"ada"}')
        lease = await store.lease(spec)
        (job,) = (await lease.exchange(1, [], {"default": Demand(1)})).jobs
        assert job.id == name
        await lease.note([Note(job, PROGRESS, b'{"done":2,"total":5,"note":"resting"}')])
        await store.cancel([job.ref], None, 0)

    on_store(server.url, take)


def test_ready_jobs(server: Server) -> None:
    enqueue(server.url, Corpse("a"), Corpse("b", queue="mail", function="mail.send", priority=0))
    result = jobs(server, "list", "ready")
    assert (result.exit_code, result.stderr) == (0, "2 ready jobs\n")
    head, *found_rows = rows(result)
    assert head == ["job", "function", "priority", "attempt", "ready since"]
    assert sorted(row[:4] for row in found_rows) == [
        ["default/a", "tasks.fail", "normal", "3"],
        ["mail/b", "mail.send", "critical", "3"],
    ]
    assert all(row[4].endswith("+00:00") for row in found_rows)


def test_scheduled_jobs(server: Server) -> None:
    schedule(server, "first", error="no host\nat all")
    schedule(server, "second", delay_ms=7_200_000)
    result = jobs(server, "list", "scheduled", "--oldest-first")
    assert (result.exit_code, result.stderr) == (0, "2 scheduled jobs\n")
    head, first, second = rows(result)
    assert head == ["job", "function", "priority", "attempt", "due", "last error"]
    assert (first[0], first[5]) == ("default/first", "OSError: no host")
    assert (second[0], second[5]) == ("default/second", "")
    assert listed(server, "scheduled", "--due-within", "90m") == ["default/first"]
    assert listed(server, "scheduled", "--message", "HOST") == ["default/first"]


def test_running_jobs(server: Server) -> None:
    enqueue(server.url, Corpse("a"))
    run(server, "a")
    result = jobs(server, "list", "running")
    head, row = rows(result)
    assert head == ["job", "function", "worker", "attempt", "since", "progress"]
    assert row[2:4] == ["ada, asked to stop", "3"]
    assert row[5] == "2 of 5 resting"
    (job,) = found(server, "running")["jobs"]
    assert (job["worker"], job["is_cancelled"]) == ("ada", True)
    assert job["progress"] == {"done": 2, "total": 5, "note": "resting"}
    assert listed(server, "running", "--since", "1m") == ["default/a"]
    assert listed(server, "running", "--before", "1m") == []


def test_dead_jobs_are_those_that_the_other_command_lists(server: Server) -> None:
    bury(
        server.url,
        Corpse("old", age_s=90, message="first\nsecond"),
        Corpse("one", queue="mail", function="mail.send", error="httpx.ReadTimeout"),
        Corpse("two", queue="mail", function="mail.sort"),
    )
    result = jobs(server, "list", "dead")
    head, *found_rows = rows(result)
    assert head == ["job", "function", "reason", "attempt", "died", "error"]
    assert found_rows[-1][:4] == ["default/old", "tasks.fail", "exhausted", "3"]
    assert found_rows[-1][5] == "ValueError: first"
    for args in (
        (),
        ("--oldest-first",),
        ("--queue", "mail"),
        ("--function", "mail.s*"),
        ("--error", "readtime"),
        ("--message", "SECOND"),
        ("--since", "1m"),
        ("--before", "1m"),
    ):
        other = call("dead", "list", "--json", *args, env={"ASYNCJOBS_URL": server.url})
        expected = [job["job"] for job in json.loads(other.stdout)["jobs"]]
        assert listed(server, "dead", *args) == expected
        assert expected


def test_pages(server: Server) -> None:
    bury(server.url, *(Corpse(f"job-{number}", age_s=10 - number) for number in range(5)))
    first = jobs(server, "list", "dead", "--limit", "2")
    assert first.stderr.startswith("2 dead jobs; more with --after ")
    cursor = first.stderr.split()[-1]
    second = found(server, "dead", "--limit", "2", "--after", cursor)
    assert [job["id"] for job in second["jobs"]] == ["job-2", "job-1"]
    third = found(server, "dead", "--limit", "2", "--after", second["after"])
    assert [job["id"] for job in third["jobs"]] == ["job-0"]
    assert (third["after"], third["is_bounded"]) == (None, False)


def test_a_look_that_stops(server: Server) -> None:
    bury(server.url, *(Corpse(f"job-{number}") for number in range(9)))
    result = jobs(server, "list", "dead", "--function", "nobody", "--look-at", "1")
    # The store looks at more than one at a time.
    assert (result.exit_code, result.stderr) == (0, "no dead job\n")
    answer = found(server, "dead", "--function", "nobody", "--look-at", "1")
    assert (answer["jobs"], answer["after"], answer["looked_at"]) == ([], None, 9)


def test_nothing_to_list(server: Server) -> None:
    for state in ("ready", "scheduled", "running", "dead"):
        result = jobs(server, "list", state)
        assert (result.exit_code, result.stdout, result.stderr) == (0, "", f"no {state} job\n")


def test_what_cannot_be_read_or_shown(server: Server) -> None:
    async def plant(store: RedisBackend) -> None:
        new = [NewJob("default", "odd\x1b[31m", 2, b"\xff\x1b")]
        await store.enqueue(EnqueueBatch("token", new))

    on_store(server.url, plant)
    result = jobs(server, "list", "ready")
    assert rows(result)[1][:2] == ["default/odd\\x1b[31m", "(unreadable)"]
    (job,) = found(server, "ready")["jobs"]
    assert (job["function"], job["is_readable"]) == (None, False)


def test_sensitive_values_are_masked(server: Server) -> None:
    headers = Headers({"sensitive": {"names": ["card"]}}).with_error(
        PastError(1, "ValueError", "bad card 424242", "", 1, "w")
    )
    raw = encode_call("pay", [], {"card": "424242"}, 1, None, None, None, headers.fields)

    async def plant(store: RedisBackend) -> None:
        await store.enqueue(EnqueueBatch("token", [NewJob("default", "a", 2, raw, 60_000)]))

    on_store(server.url, plant)
    for more in ((), ("--json",)):
        result = jobs(server, "list", "scheduled", *more)
        assert "bad card" in result.stdout
        assert "424242" not in result.output


def test_a_queue_that_cannot_be_read(server: Server) -> None:
    enqueue(server.url, Corpse("a"), Corpse("b", queue="bad"))
    server.command("DEL", "{asyncjobs:bad}:ready:2")
    server.command("SET", "{asyncjobs:bad}:ready:2", "x")
    result = jobs(server, "list", "ready", "--json")
    assert result.exit_code == 1
    assert "queue 'bad' cannot be read" in result.stderr
    answer = json.loads(result.stdout)
    assert [job["job"] for job in answer["jobs"]] == ["default/a"]
    assert list(answer["refused"]) == ["bad"]
    server.command("FLUSHALL")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((), "Missing argument"),
        (("done",), "'done' is not one of"),
        (("ready", "--after", "x"), "no cursor"),
        (("ready", "--after", JobCursor(1, "default", 2, b"a").text()), "in another state"),
        (("ready", "--function", " "), "--function is empty"),
        (("ready", "--since", "1m", "--before", "1h"), "--since has to be the longer one"),
        (("scheduled", "--since", "1m"), "use --due-within"),
        (("ready", "--due-within", "1m"), "--due-within is for scheduled jobs"),
        (("ready", "--queue", "a b"), "--queue"),
        (("ready", "--limit", "0"), "--limit"),
    ],
)
def test_wrong_usage(server: Server, args: tuple[str, ...], said: str) -> None:
    result = jobs(server, "list", *args)
    assert result.exit_code == 2
    assert said in result.stderr


def test_no_store_there() -> None:
    url = f"redis://127.0.0.1:{closed_port()}"
    assert call("jobs", "list", "ready", "--url", url).exit_code == 3
