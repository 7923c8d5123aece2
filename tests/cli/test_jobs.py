"""`asyncjobs jobs show ID`: what the store knows of one job."""

from __future__ import annotations

from pathlib import Path

import pytest

from asyncjobs.testing.servers import Server
from tests.cli.conftest import Put, Start
from tests.cli.operator import Ended, operate
from tests.cli.process import Ledger
from tests.cli.test_usage import call
from tests.cli.test_worker import closed_port
from tests.kit.waiting import ticks

MORE = """
import asyncio
from datetime import date
from asyncjobs import INJECTED, AsyncJobs, JobContext, RetryPolicy, constant

app = AsyncJobs()


@app.job(retry=RetryPolicy(3, constant(0)))
async def trip(*, ctx: JobContext = INJECTED) -> None:
    raise ValueError(f"over stone {ctx.attempt}\\nand down")


@app.job
async def climb(floors: int, *, ctx: JobContext = INJECTED) -> None:
    ctx.progress(2, floors, "resting")
    await asyncio.sleep(60)


@app.job
async def walk(*, ctx: JobContext = INJECTED) -> None:
    async for step in ctx.step("pack", start=0):
        pass
    async for step in ctx.step("walk", start=date(2026, 1, 1)):
        await step.checkpoint(date(2026, 11, 30))
        await asyncio.sleep(60)
"""


@pytest.fixture
def env(server: Server) -> dict[str, str]:
    return {"ASYNCJOBS_URL": server.url}


def add(folder: Path, env: dict[str, str], *args: str) -> str:
    """Enqueue a job by the command; returns `queue/id`."""
    done = operate(folder, "enqueue", *args, env=env)
    assert done.code == 0, done.err
    return done.out.strip()


def show(folder: Path, env: dict[str, str], *args: str) -> Ended:
    return operate(folder, "jobs", "show", *args, env=env)


def test_a_scheduled_job(folder: Path, env: dict[str, str]) -> None:
    call_args = ("--args", "[0.5]", "--delay", "1h", "--priority", "high")
    job = add(folder, env, "tasks:app", "tasks.nap", *call_args)
    done = show(folder, env, job)
    assert (done.code, done.err) == (0, "")
    assert done.row("job") == ["job", job]
    assert done.row("state") == ["state", "scheduled"]
    assert done.row("function") == ["function", "tasks.nap"]
    assert done.row("priority") == ["priority", "high"]
    assert done.row("args") == ["args", "[0.5]"]
    assert done.row("due")[1].endswith("+00:00")
    fields = show(folder, env, job.partition("/")[2], "--json").json()
    assert (fields["job"], fields["queue"], fields["state"]) == (job, "default", "scheduled")
    assert (fields["args"], fields["kwargs"], fields["attempt"]) == ([0.5], {}, 1)
    assert fields["due_at"] > fields["enqueued_at"]
    assert (fields["error"], fields["progress"], fields["finished_at"]) == (None, None, None)


def test_a_dead_job_with_its_error(
    folder: Path, env: dict[str, str], put: Put, work: Start
) -> None:
    (job_id,) = put("fail")
    assert work("--burst", "--burst-wait", "0s").end() == 0
    done = show(folder, env, job_id)
    assert done.code == 0
    assert done.row("state") == ["state", "dead"]
    assert done.row("error") == ["error", "ValueError: planted fault"]
    assert done.out.endswith("ValueError: planted fault\n")
    assert 'raise ValueError("planted fault")' in done.out
    error = show(folder, env, job_id, "--json").json()["error"]
    assert (error["type"], error["message"]) == ("ValueError", "planted fault")


def test_a_running_job_with_its_progress(folder: Path, env: dict[str, str], run: Start) -> None:
    (folder / "more.py").write_text(MORE)
    job = add(folder, env, "more:app", "more.climb", "--kwargs", '{"floors": 8}')
    run("worker", "more:app", env=env).wait_started()
    for _ in ticks():
        fields = show(folder, env, job, "--json").json()
        if fields["progress"] is not None:
            break
    assert fields["state"] == "running"
    assert fields["worker"]
    assert fields["progress"] == {"done": 2, "total": 8, "note": "resting"}
    assert show(folder, env, job).row("progress") == ["progress", "2 of 8 resting"]


def test_the_steps_of_a_running_job(folder: Path, env: dict[str, str], run: Start) -> None:
    (folder / "more.py").write_text(MORE)
    job = add(folder, env, "more:app", "more.walk")
    run("worker", "more:app", env=env).wait_started()
    for _ in ticks():
        steps = show(folder, env, job, "--json").json()["steps"]
        if len(steps) == 2:
            break
    assert [(step["step"], step["is_finished"]) for step in steps] == [
        ("pack", True),
        ("walk", False),
    ]
    assert steps[1]["cursor"] == {"$date": "2026-11-30"}
    shown = show(folder, env, job)
    assert shown.row("pack")[:2] == ["pack", "finished"]
    assert "datetime.date(2026, 11, 30)" in shown.out


def test_a_job_that_is_done(
    folder: Path, env: dict[str, str], put: Put, work: Start, ledger: Ledger
) -> None:
    (job_id,) = put("send")
    assert work("--burst", "--burst-wait", "0s").end() == 0
    fields = show(folder, env, f"mail/{job_id}", "--json").json()
    assert (fields["state"], fields["function"]) == ("succeeded", "tasks.send")
    assert fields["finished_at"]


def test_a_job_that_failed_tells_of_each_attempt(
    folder: Path, env: dict[str, str], run: Start
) -> None:
    (folder / "more.py").write_text(MORE)
    job = add(folder, env, "more:app", "more.trip")
    worker = run("worker", "more:app", "--burst", "--burst-wait", "1s", env=env)
    assert worker.end() == 0
    done = show(folder, env, job)
    assert done.row("reason") == ["reason", "exhausted"]
    rows = done.rows()
    start = rows.index(["failed", "at", "on", "error"])
    assert [(row[0], row[3]) for row in rows[start + 1 : start + 4]] == [
        (f"attempt {number}", f"ValueError: over stone {number}") for number in (1, 2, 3)
    ]
    assert done.out.count("Traceback (most recent call last)") == 1
    fields = show(folder, env, job, "--json").json()
    assert [error["message"] for error in fields["errors"]] == [
        f"over stone {number}\nand down" for number in (1, 2, 3)
    ]
    assert fields["error"] == fields["errors"][-1]
    for error in fields["errors"]:
        assert "Traceback (most recent call last)" in error["traceback"]
        assert error["at"] > fields["enqueued_at"]
    assert len({error["worker"] for error in fields["errors"]}) == 1
    assert ":" in fields["errors"][0]["worker"]


def test_an_id_in_two_queues_needs_one_named(folder: Path, env: dict[str, str]) -> None:
    add(folder, env, "tasks:app", "tasks.send", "--id", "twin")
    add(folder, env, "tasks:app", "tasks.nap", "--id", "twin", "--args", "[0]")
    done = show(folder, env, "twin")
    assert (done.code, done.out) == (1, "")
    assert "several jobs: default/twin, mail/twin; name one with --queue" in done.err
    assert show(folder, env, "mail/twin", "--json").json()["queue"] == "mail"
    assert show(folder, env, "twin", "--queue", "mail", "--json").json()["queue"] == "mail"
    assert show(folder, env, "mail/twin", "--queue", "mail", "--json").json()["id"] == "twin"


def test_an_id_may_hold_a_slash(folder: Path, env: dict[str, str]) -> None:
    add(folder, env, "tasks:app", "tasks.send", "--id", "order/7")
    assert show(folder, env, "order/7", "--json").json()["job"] == "mail/order/7"


def test_a_job_that_is_not_known(folder: Path, env: dict[str, str], put: Put) -> None:
    empty = show(folder, env, "nobody")
    assert empty.code == 1
    assert "no job 'nobody' and no queue either" in empty.err
    put("send")
    done = show(folder, env, "nobody", "--json")
    assert done.code == 1
    assert "no job 'nobody' in queue mail" in done.json()["error"]


def test_an_unreachable_store(folder: Path) -> None:
    url = f"redis://127.0.0.1:{closed_port()}"
    done = operate(folder, "jobs", "show", "x", "--url", url)
    assert done.code == 3
    assert "is not available" in done.err


def test_stored_text_cannot_steer_the_terminal(folder: Path, env: dict[str, str]) -> None:
    job = add(folder, env, "tasks:app", "tasks.say", "--args", '["\\u001b[2J"]')
    done = show(folder, env, job)
    assert done.code == 0
    assert "\x1b" not in done.out


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["show"], "Missing argument 'ID'"),
        (["show", "a b"], "ID='a b' is not a job id"),
        (["show", "a", "--queue", "{}"], "--queue='{}' is not a queue name"),
        (["shwo", "a"], "Did you mean 'show'?"),
    ],
)
def test_usage(args: list[str], expected: str) -> None:
    result = call("jobs", *args)
    assert result.exit_code == 2
    assert expected in result.output
