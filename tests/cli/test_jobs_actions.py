"""`asyncjobs jobs cancel`, `retry`, `delete`, `run-now` and `edit`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from asyncjobs.model.envelope import Envelope
from asyncjobs.model.job import JobRecord, State
from asyncjobs.testing.servers import Server
from tests.cli.dying import Corpse, bury, enqueue, left, record
from tests.cli.operator import operate
from tests.cli.test_dead_changes import Asked
from tests.cli.test_jobs_list import jobs, run, schedule
from tests.cli.test_usage import call
from tests.cli.test_worker import closed_port


def state(server: Server, ref: str) -> State | None:
    found = record(server.url, ref)
    return None if found is None else found.state


def known(server: Server, ref: str) -> JobRecord:
    found = record(server.url, ref)
    assert found is not None
    return found


def told(result: Result) -> dict[str, Any]:
    (line,) = result.stdout.splitlines()
    answer: dict[str, Any] = json.loads(line)
    return answer


def test_jobs_are_cancelled(server: Server) -> None:
    enqueue(server.url, Corpse("running"))
    run(server, "running")
    enqueue(server.url, Corpse("ready"), Corpse("other", function="tasks.other"))
    schedule(server, "scheduled")
    result = jobs(server, "cancel", "default/ready", "scheduled", "running", "--yes")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "cancelled 2 jobs; asked the workers of 1 running job to stop\n"
    assert [state(server, f"default/{name}") for name in ("ready", "scheduled", "running")] == [
        State.CANCELLED,
        State.CANCELLED,
        State.RUNNING,
    ]
    result = jobs(server, "cancel", "--state", "ready", "--function", "tasks.o*", "--json")
    assert result.exit_code == 0
    answer = told(result)
    assert (answer["found"], answer["done"], answer["requested"]) == (1, 1, 0)
    assert state(server, "default/other") is State.CANCELLED


def test_dead_jobs_and_retries_are_retried(server: Server) -> None:
    bury(server.url, Corpse("a", message="no host"), Corpse("b", message="too large"))
    schedule(server, "again", error="no host")
    schedule(server, "later")
    result = jobs(server, "retry", "--state", "dead", "--message", "host")
    assert (result.exit_code, result.stdout) == (0, "retried 1 job\n")
    assert (state(server, "default/a"), left(server.url)) == (State.READY, ["b"])
    result = jobs(server, "retry", "--state", "scheduled", "--all-matching")
    assert (result.exit_code, result.stdout) == (0, "retried 1 job\n")
    assert state(server, "default/again") is State.READY
    assert state(server, "default/later") is State.SCHEDULED
    result = jobs(server, "retry", "default/later", "default/b", "--yes")
    assert (result.exit_code, result.stdout) == (1, "retried 1 job\n")
    assert "1 job not retried: they wait, and have not failed: default/later" in result.stderr


def test_jobs_are_deleted(server: Server) -> None:
    bury(server.url, Corpse("dead"))
    enqueue(server.url, Corpse("running"))
    run(server, "running")
    enqueue(server.url, Corpse("ready"))
    schedule(server, "scheduled")
    names = ("dead", "ready", "scheduled", "running")
    result = jobs(server, "delete", *names, "--yes", "--json")
    assert result.exit_code == 1
    answer = told(result)
    assert (answer["found"], answer["done"], answer["running"]) == (4, 3, 1)
    assert answer["left_alone"] == {"running": ["default/running"]}
    assert "1 job not deleted: a worker runs them" in result.stderr
    assert left(server.url) == []
    assert [state(server, f"default/{name}") for name in names[1:]] == [None, None, State.RUNNING]


def test_jobs_are_run_now(server: Server) -> None:
    schedule(server, "a", "b", "c")
    result = jobs(server, "run-now", "default/a")
    assert (result.exit_code, result.stdout) == (0, "made ready 1 job\n")
    result = jobs(server, "run-now", "--state", "scheduled", "--queue", "default", "--yes")
    assert (result.exit_code, result.stdout) == (0, "made ready 2 jobs\n")
    assert [state(server, f"default/{name}") for name in "abc"] == [State.READY] * 3
    assert jobs(server, "run-now", "default/a").exit_code == 0


def test_the_number_is_told_first(server: Server, tmp_path: Path) -> None:
    enqueue(server.url, *(Corpse(name) for name in "abc"))
    args = ("delete", "--state", "ready", "--all-matching")
    dry = jobs(server, *args, "--dry-run")
    assert (dry.exit_code, dry.stdout) == (0, "would delete 3 jobs\n")
    nobody = jobs(server, *args)
    assert (nobody.exit_code, nobody.stdout) == (2, "")
    assert "this would delete 3 ready jobs, and there is no terminal" in nobody.stderr
    many = jobs(server, *args, "--most", "2", "--yes")
    assert many.exit_code == 2
    assert "more than 2 jobs pass the filters, and nothing was changed" in many.stderr
    asked = Asked(tmp_path, server, *args, group="jobs")
    assert asked.question.startswith(b"Delete 3 ready jobs?")
    assert asked.end(b"n\n")[0] == 1
    assert state(server, "default/a") is State.READY
    code, out, _ = Asked(tmp_path, server, *args, group="jobs").end(b"y\n")
    assert (code, out) == (0, "deleted 3 jobs\n")
    assert state(server, "default/a") is None


def test_jobs_that_are_not_there(server: Server) -> None:
    bury(server.url, Corpse("dead"))
    result = jobs(server, "cancel", "never", "mail/never")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "no job 'never' in queue default" in result.stderr
    result = jobs(server, "cancel", "default/dead")
    assert (result.exit_code, result.stdout) == (1, "cancelled 0 jobs\n")
    assert "1 job left alone" in result.stderr
    result = jobs(server, "cancel", "--state", "ready", "--all-matching")
    assert (result.exit_code, result.stdout) == (0, "no job to cancel\n")


def test_an_id_of_several_queues(server: Server) -> None:
    enqueue(server.url, Corpse("a"), Corpse("a", queue="mail"))
    result = jobs(server, "cancel", "a")
    assert result.exit_code == 1
    assert "stands for several jobs" in result.stderr
    assert jobs(server, "cancel", "a", "--queue", "mail").exit_code == 0
    assert state(server, "default/a") is State.READY


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("cancel",), "which jobs?"),
        (("cancel", "a", "--state", "ready"), "not both"),
        (("cancel", "a", "--function", "x"), "not both"),
        (
            ("cancel", "--state", "dead", "--all-matching"),
            "for ready or scheduled or held or running",
        ),
        (("delete", "--state", "running", "--all-matching"), "for dead or ready or scheduled"),
        (("run-now", "--state", "scheduled"), "would mean every scheduled job"),
        (("retry", "--state", "dead", "--all-matching", "--queue", "a"), "leave out the filters"),
        (("retry", "x" * 400), "ID"),
        (("edit", "a"), "nothing to change"),
        (("edit", "a", "--args", "[]"), "add --app"),
        (("edit", "a", "--args", "{}"), "it is not a list"),
        (("edit", "a", "--delay", "1s", "--at", "2031-05-01T12:00:00Z"), "not both"),
        (("edit", "a", "--delay", "1s", "--queue", "a b"), "--queue"),
    ],
)
def test_wrong_usage(server: Server, args: tuple[str, ...], said: str) -> None:
    result = jobs(server, *args)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())


@pytest.mark.parametrize("args", [("cancel", "a"), ("edit", "a", "--delay", "1s")])
def test_no_store_there(args: tuple[str, ...]) -> None:
    url = f"redis://127.0.0.1:{closed_port()}"
    assert call("jobs", *args, "--url", url).exit_code == 3


def test_a_job_is_given_another_time(server: Server) -> None:
    schedule(server, "a")
    result = jobs(server, "edit", "default/a", "--at", "2040-01-01T00:00:00Z")
    assert (result.exit_code, result.stdout) == (0, "changed job default/a\n")
    assert known(server, "default/a").due_ms == 2_208_988_800_000
    result = jobs(server, "edit", "a", "--delay", "0s", "--json")
    assert told(result) == {"job": "default/a", "changed": True}
    assert state(server, "default/a") is State.READY
    run(server, "a")
    result = jobs(server, "edit", "a", "--delay", "1s")
    assert result.exit_code == 1
    assert "job default/a was not changed: a worker runs it" in result.stderr
    assert jobs(server, "edit", "never", "--delay", "1s").exit_code == 1


def test_a_job_is_given_other_arguments(server: Server, folder: Path) -> None:
    enqueue(server.url, Corpse("a", function="tasks.nap", args=[60]), Corpse("b"))
    env = {"ASYNCJOBS_URL": server.url}

    def edit(*args: str) -> Any:
        return operate(folder, "jobs", "edit", *args, env=env)

    done = edit("a", "--args", "[1]", "--app", "tasks:app")
    assert (done.code, done.out, done.err) == (0, "changed job default/a\n", "")
    envelope = Envelope.decode(known(server, "default/a").envelope or b"")
    assert (envelope.name, envelope.args, envelope.attempt) == ("tasks.nap", [1], 3)
    wrong = edit("a", "--kwargs", '{"minutes": 1}', "--app", "tasks:app")
    assert wrong.code == 2
    assert "unexpected keyword argument 'minutes'" in wrong.err
    away = edit("b", "--args", "[1]", "--app", "nowhere:app")
    assert away.code == 2
    assert "--app 'nowhere:app'" in away.err


def test_a_time_that_the_store_cannot_say(server: Server) -> None:
    enqueue(server.url, Corpse("a"), Corpse("b"))
    server.command("SET", "{asyncjobs:default}:dead", "x")
    flags = ("--state", "ready", "--since", "10m", "--yes")
    result = jobs(server, "delete", *flags)
    server.command("DEL", "{asyncjobs:default}:dead")
    # Without a time no job would be too old, and all of them would go.
    assert result.exit_code == 1
    assert [state(server, f"default/{name}") for name in "ab"] == [State.READY] * 2
