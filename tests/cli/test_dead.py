"""`asyncjobs dead list` and `dead show`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from asyncjobs.model.headers import NO_HEADERS, PastError
from asyncjobs.testing.servers import Server
from tests.cli.conftest import Put, Start
from tests.cli.dying import Corpse, bury, enqueue
from tests.cli.operator import operate
from tests.cli.test_usage import call
from tests.cli.test_worker import closed_port


def dead(server: Server, *args: str) -> Result:
    return call("dead", *args, env={"ASYNCJOBS_URL": server.url})


def listed(server: Server, *args: str) -> tuple[list[str], int]:
    """The jobs shown, and how many there are in all."""
    result = dead(server, "list", "--json", *args)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    return [job["job"] for job in found["jobs"]], found["total"]


def test_a_list_as_lines(server: Server) -> None:
    bury(
        server.url,
        Corpse("old", age_s=90, message="first line\nsecond line"),
        Corpse("new", queue="mail", function="tasks.send", reason="crashed", error="", attempts=1),
    )
    result = dead(server, "list")
    assert (result.exit_code, result.stderr) == (0, "2 dead jobs\n")
    rows = [line.split("\t") for line in result.stdout.splitlines()]
    assert rows[0] == ["job", "function", "reason", "error", "attempts", "died"]
    assert rows[1][:5] == ["mail/new", "tasks.send", "crashed", "planted fault", "1"]
    assert rows[2][:5] == ["default/old", "tasks.fail", "exhausted", "ValueError: first line", "3"]
    assert rows[2][5].endswith("+00:00")
    assert len(rows) == 3


def test_a_list_as_json(server: Server) -> None:
    bury(server.url, Corpse("a", message="two\nlines"))
    result = dead(server, "list", "--json")
    (line,) = result.stdout.splitlines()
    (job,) = json.loads(line)["jobs"]
    assert job.pop("died_at").endswith("+00:00")
    assert job.pop("size") > 100
    assert job == {
        "job": "default/a",
        "queue": "default",
        "id": "a",
        "function": "tasks.fail",
        "reason": "exhausted",
        "error": {"type": "ValueError", "message": "two\nlines"},
        "attempts": 3,
    }


def test_nothing_is_dead(server: Server) -> None:
    for args in ((), ("--queue", "never"), ("--message", "x")):
        result = dead(server, "list", *args)
        assert (result.exit_code, result.stdout, result.stderr) == (0, "", "no dead job\n")
    assert listed(server) == ([], 0)


def fill(server: Server) -> None:
    bury(
        server.url,
        Corpse("week", age_s=7 * 86_400, function="tasks.old"),
        Corpse("day", age_s=86_400, error="httpx.ReadTimeout", message="Peer is gone"),
        Corpse("hour", age_s=3600, queue="mail", reason="unknown", function="shop.news", error=""),
        Corpse("now", queue="mail", error="builtins.TimeoutError", message="took too long"),
    )


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ("", ["mail/now", "mail/hour", "default/day", "default/week"]),
        ("--oldest-first", ["default/week", "default/day", "mail/hour", "mail/now"]),
        ("--queue mail", ["mail/now", "mail/hour"]),
        ("--queue mail --queue default --queue mail --since 2h", ["mail/now", "mail/hour"]),
        ("--function tasks.old", ["default/week"]),
        ("--function shop.news", ["mail/hour"]),
        ("--function tasks", []),
        ("--reason unknown", ["mail/hour"]),
        ("--error timeout", ["mail/now", "default/day"]),
        ("--error timeout --queue default", ["default/day"]),
        ("--error httpx.", ["default/day"]),
        ("--message peer", ["default/day"]),
        ("--since 25h", ["mail/now", "mail/hour", "default/day"]),
        ("--before 50m", ["mail/hour", "default/day", "default/week"]),
        ("--since 25h --before 50m", ["mail/hour", "default/day"]),
        ("--since 25h --error timeout --oldest-first", ["default/day", "mail/now"]),
    ],
)
def test_filters(server: Server, args: str, expected: list[str]) -> None:
    fill(server)
    assert listed(server, *args.split()) == (expected, len(expected))


@pytest.mark.parametrize("matching", ["", "--reason exhausted"])
def test_a_list_is_limited_and_counts_the_rest(server: Server, matching: str) -> None:
    bury(server.url, *(Corpse(f"job-{n}", queue="mail", age_s=100 - n) for n in range(4)))
    bury(server.url, Corpse("last"))
    assert listed(server, "--limit", "2", *matching.split()) == (["default/last", "mail/job-3"], 5)
    result = dead(server, "list", "--limit", "2", *matching.split())
    assert result.stderr == "2 of 5 dead jobs; more with --limit\n"
    first = listed(server, "--limit", "1", "--oldest-first", *matching.split())
    assert first == (["mail/job-0"], 5)


def test_more_than_a_page_is_listed(server: Server) -> None:
    bury(server.url, *(Corpse(f"job-{n:04}", error="EvenError" * (n % 2)) for n in range(1100)))
    shown, total = listed(server, "--limit", "5000")
    assert (len(set(shown)), total) == (1100, 1100)
    shown, total = listed(server, "--error", "even", "--limit", "7", "--oldest-first")
    assert (shown[0], len(shown), total) == ("default/job-0001", 7, 550)


def test_letters_that_cannot_be_read_are_listed(server: Server) -> None:
    bury(server.url, Corpse("a", letter=b"\xff\xfe"), Corpse("b", letter=b"{}\n{}"))
    bury(server.url, Corpse("c", letter=b'{"s":"dead"}\n' + b'{"v":1,"f":"\xff"}'))
    shown, _ = listed(server, "--reason", "unreadable", "--oldest-first")
    assert shown == ["default/a", "default/b"]
    assert listed(server)[1] == 3
    result = dead(server, "show", "a")
    assert result.exit_code == 0
    assert "\\xff\\xfe" in result.stdout
    assert "what is stored is not a dead letter" in result.stdout


def test_stored_text_cannot_steer_the_terminal(server: Server) -> None:
    letter = b'{"s":"dead","m":"\\u001b[2Jgone","t":"\\u001b"}\n{"v":1,"f":"\\u001b","n":1,"e":1}'
    bury(server.url, Corpse("a", letter=letter))
    for args in (["list"], ["show", "a"]):
        result = dead(server, *args)
        assert result.exit_code == 0
        assert "\x1b" not in result.output
        assert "gone" in result.output


HEADERS = {
    "revived": 2,
    "revived_at": 1_750_000_000_000,
    **NO_HEADERS.with_error(
        PastError(1, "OSError", "disk", "Traceback: disk", 1_700_000_000_000, "w1")
    )
    .with_error(PastError(3, "crashed", "its worker died", "", 0, ""))
    .fields,
}


def test_a_dead_job_with_its_history(server: Server) -> None:
    bury(server.url, Corpse("a", args=[1, "two"], headers=HEADERS, priority=0))
    result = dead(server, "show", "default/a")
    assert (result.exit_code, result.stderr) == (0, "")
    rows = dict(line.split("\t") for line in result.stdout.splitlines() if "\t" in line)
    assert (rows["job"], rows["state"], rows["function"]) == ("default/a", "dead", "tasks.fail")
    assert (rows["args"], rows["kwargs"], rows["priority"]) == ('[1,"two"]', "{}", "critical")
    assert (rows["attempts"], rows["reason"]) == ("3", "exhausted")
    assert rows["error"] == "ValueError: planted fault"
    assert rows["retried"] == "2 times, last at 2025-06-15 15:06:40.000+00:00"
    assert {"enqueued", "died"} <= rows.keys()
    text = result.stdout
    last, second, first = (
        text.index(part)
        for part in (
            "Traceback: in tasks.fail",
            "earlier, attempt 3: crashed: its worker died",
            "earlier, attempt 1 at 2023-11-14 22:13:20.000+00:00 on w1: OSError: disk",
        )
    )
    assert last < second < first < text.index("Traceback: disk")


def test_a_dead_job_as_json(server: Server) -> None:
    bury(server.url, Corpse("a", queue="mail", args=[1], headers=HEADERS))
    result = dead(server, "show", "a", "--json")
    job: dict[str, Any] = json.loads(result.stdout)
    assert (job["job"], job["state"], job["args"], job["kwargs"]) == ("mail/a", "dead", [1], {})
    assert (job["revived"], job["revived_at"]) == (2, "2025-06-15T15:06:40+00:00")
    assert job["error"]["traceback"] == "Traceback: in tasks.fail"
    assert [error["type"] for error in job["earlier_errors"]] == ["OSError", "crashed"]
    assert job["earlier_errors"][0]["worker"] == "w1"
    assert (job["earlier_errors"][1]["at"], job["stored"]) == (None, None)


def test_an_envelope_that_cannot_be_read_is_shown_as_it_is(server: Server) -> None:
    bury(server.url, Corpse("a", letter=b'{"s":"dead","d":"unreadable"}\n{"v":1, broken'))
    fields = json.loads(dead(server, "show", "a", "--json").stdout)
    assert (fields["args"], fields["stored"]) == (None, '{"v":1, broken')
    assert 'stored\t{"v":1, broken' in dead(server, "show", "a").stdout


def test_an_argument_named_sensitive_is_no_rule(server: Server) -> None:
    envelope = b'{"v":1,"f":"f","n":1,"e":1,"k":{"sensitive":1}}'
    bury(server.url, Corpse("a", letter=b'{"s":"dead","d":"exhausted"}\n' + envelope))
    fields = json.loads(dead(server, "show", "a", "--json").stdout)
    assert (fields["kwargs"], fields["stored"]) == ({"sensitive": 1}, None)


@pytest.mark.parametrize(
    "envelope",
    [
        b'{"v":9,"f":"f","arguments":["hunter2"],"h":{"sensitive":{"names":[],"at":[0]}}}',
        b'{"v":1,"f":"f","a":["hunter2"],"h":{"sensitive":{"names":[],"at":[0]}',
    ],
)
def test_what_cannot_be_read_is_not_shown_when_some_of_it_is_sensitive(
    server: Server, envelope: bytes
) -> None:
    bury(server.url, Corpse("a", letter=b'{"s":"dead","d":"unknown"}\n' + envelope))
    fields = json.loads(dead(server, "show", "a", "--json").stdout)
    assert (fields["args"], fields["stored"][:11]) == (None, "(not shown:")
    assert "hunter2" not in dead(server, "show", "a").stdout


def test_errors_of_a_worker_that_knew_no_rule_are_masked(server: Server) -> None:
    past = NO_HEADERS.with_error(PastError(1, "E", "no hunter2", "at hunter2", 1, "w"))
    headers = {**past.fields, "sensitive": {"names": [], "at": [0]}}
    bury(server.url, Corpse("a", args=["hunter2", "open"], headers=headers))
    for form in ((), ("--json",)):
        shown = dead(server, "show", "a", *form).stdout
        assert "open" in shown
        assert "no ***" in shown
        assert "at ***" in shown
        assert "hunter2" not in shown


def test_numbers_that_are_no_times_are_passed_over(server: Server) -> None:
    headers = {"revived": 1, "revived_at": 10**18, "errors": [{"n": 1, "t": "E", "e": 10**18}]}
    bury(server.url, Corpse("a", headers=headers))
    result = dead(server, "show", "a")
    assert result.exit_code == 0
    assert "retried\t1 time, last at no known time" in result.stdout


def test_a_dead_job_is_found_by_its_id(server: Server) -> None:
    bury(server.url, Corpse("twin"), Corpse("twin", queue="mail"), Corpse("order/7", queue="mail"))
    assert json.loads(dead(server, "show", "order/7", "--json").stdout)["job"] == "mail/order/7"
    assert json.loads(dead(server, "show", "mail/twin", "--json").stdout)["job"] == "mail/twin"
    only = dead(server, "show", "twin", "--queue", "mail", "--json")
    assert json.loads(only.stdout)["job"] == "mail/twin"
    both = dead(server, "show", "twin")
    assert (both.exit_code, both.stdout) == (1, "")
    assert "stands for several dead jobs: default/twin, mail/twin; write queue/id" in both.stderr


def test_a_job_that_is_not_dead(server: Server, put: Put) -> None:
    empty = dead(server, "show", "nobody")
    assert empty.exit_code == 1
    assert "no dead job 'nobody' and no queue either" in empty.stderr
    (job_id,) = put("send")
    result = dead(server, "show", job_id, "--json")
    assert result.exit_code == 1
    assert f"no dead job '{job_id}' in queue mail" in json.loads(result.stdout)["error"]


def test_a_real_job_in_a_real_process(folder: Path, server: Server, put: Put, work: Start) -> None:
    (job_id,) = put("fail")
    assert work("--burst", "--burst-wait", "0s").end() == 0
    env = {"ASYNCJOBS_URL": server.url}
    (job,) = operate(folder, "dead", "list", "--json", env=env).json()["jobs"]
    assert (job["id"], job["function"], job["attempts"]) == (job_id, "tasks.fail", 1)
    table = operate(folder, "dead", "list", env=env, terminal=True)
    assert (table.code, table.err) == (0, "1 dead job\n")
    assert "ValueError: planted fault" in table.out
    shown = operate(folder, "dead", "show", job_id, env=env)
    assert shown.row("error") == ["error", "ValueError: planted fault"]
    assert 'raise ValueError("planted fault")' in shown.out
    queues = operate(folder, "stats", "--json", env=env).json()["queues"]
    assert {row["queue"]: row["dead"] for row in queues} == {"default": 1, "mail": 0}


def test_a_letter_is_shown_while_its_id_lives_again(server: Server) -> None:
    bury(server.url, Corpse("a", age_s=7200, message="of old"))
    enqueue(server.url, Corpse("a", message="not yet"))
    assert listed(server) == (["default/a"], 1)
    assert "ValueError: of old" in dead(server, "show", "a").stdout


@pytest.mark.parametrize("command", ["list", "show x", "retry x", "purge --all"])
def test_an_unreachable_store(command: str) -> None:
    url = f"redis://127.0.0.1:{closed_port()}"
    result = call("dead", *command.split(), "--url", url, "--json")
    assert result.exit_code == 3
    assert "is not available" in json.loads(result.stdout)["error"]


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["show"], "Missing argument 'ID'"),
        (["show", "a b"], "ID='a b' is not a job id"),
        (["show", "a", "--queue", "{}"], "--queue='{}' is not a queue name"),
        (["list", "--queue", ""], "--queue='' is not a queue name"),
        (["list", "--since", "soon"], "'soon' is not a duration"),
        (["list", "--since", "1h", "--before", "2h"], "--since has to be the longer one"),
        (["list", "--limit", "0"], "--limit"),
        (["list", "--message", " "], "--message is empty"),
        (["lits"], "Did you mean 'list'?"),
    ],
)
def test_usage(args: list[str], expected: str) -> None:
    result = call("dead", *args)
    assert result.exit_code == 2
    assert expected in " ".join(result.output.split())
