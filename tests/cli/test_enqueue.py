"""`asyncjobs enqueue APP NAME`: one job from the shell."""

from __future__ import annotations

from pathlib import Path

import pytest

from asyncjobs.testing.servers import Server
from tests.cli.conftest import Start
from tests.cli.operator import Ended, operate
from tests.cli.process import Ledger
from tests.cli.test_usage import call
from tests.cli.test_worker import closed_port, stop

SUMS = """
from asyncjobs import AsyncJobs, Discard

app = AsyncJobs(connect_timeout=2)


@app.job
async def add(a: int, b: int = 1) -> dict[str, int]:
    return {"sum": a + b}


@app.job(retry=False)
async def fail() -> None:
    raise ValueError("planted fault")


@app.job(result_ttl=0)
async def forget() -> None: ...


@app.job
async def refuse() -> None:
    raise Discard("not today")


def make() -> AsyncJobs:
    return app


broken = None
"""


@pytest.fixture
def env(folder: Path, server: Server) -> dict[str, str]:
    (folder / "sums.py").write_text(SUMS)
    return {"ASYNCJOBS_URL": server.url}


def enqueue(folder: Path, env: dict[str, str], *args: str) -> Ended:
    return operate(folder, "enqueue", *args, env=env)


def test_it_prints_the_job_and_a_worker_runs_it(
    folder: Path, env: dict[str, str], run: Start, ledger: Ledger
) -> None:
    done = enqueue(folder, env, "tasks:app", "tasks.send")
    assert (done.code, done.err) == (0, "")
    queue, _, job_id = done.out.strip().partition("/")
    assert queue == "mail"
    assert run("worker", "tasks:app", "--burst", "--burst-wait", "0s", env=env).end() == 0
    assert ledger.lines("sent") == [(job_id, 1)]


def test_waiting_for_results(folder: Path, env: dict[str, str], run: Start) -> None:
    worker = run("worker", "sums:app", env=env)
    worker.wait_started()
    add = enqueue(
        folder, env, "sums:app", "sums.add", "--args", "[1]", "--kwargs", '{"b": 4}', "--wait"
    )
    assert (add.code, add.err) == (0, "")
    ref, value = add.out.splitlines()
    assert ref.startswith("default/")
    assert value == '{"sum":5}'

    failed = enqueue(folder, env, "sums:app", "sums.fail", "--wait")
    assert failed.code == 1
    assert len(failed.out.splitlines()) == 1
    assert "ValueError: planted fault" in failed.err
    assert 'raise ValueError("planted fault")' in failed.err
    refused = enqueue(folder, env, "sums:app", "sums.refuse", "--wait")
    assert refused.code == 1
    assert "was discarded: not today" in refused.err
    forgotten = enqueue(folder, env, "sums:app", "sums.forget", "--wait")
    assert forgotten.code == 1
    assert "results are off" in forgotten.err
    assert stop(worker) == 0


def test_waiting_has_a_limit(folder: Path, env: dict[str, str]) -> None:
    flags = ("--args", "[1]", "--wait", "--timeout", "50ms")
    done = enqueue(folder, env, "sums:app", "sums.add", *flags)
    assert done.code == 1
    assert done.out.startswith("default/")
    assert "has not finished within 0.05 s: it is ready" in done.err


def test_a_second_one_with_an_id_is_not_stored(folder: Path, env: dict[str, str]) -> None:
    args = ("sums:app", "sums.add", "--args", "[1]", "--id", "once")
    first, second = enqueue(folder, env, *args), enqueue(folder, env, *args)
    assert (first.code, first.out, first.err) == (0, "default/once\n", "")
    assert (second.code, second.out) == (0, "default/once\n")
    assert second.err == "job default/once exists already: nothing was stored\n"


def test_at_a_time(folder: Path, env: dict[str, str]) -> None:
    at = "2099-05-01T12:00:00+02:00"
    args = ("sums:app", "sums.add", "--args", "[1]", "--priority", "critical", "--at", at)
    job = enqueue(folder, env, *args).out.strip()
    shown = operate(folder, "jobs", "show", job, "--json", env=env).json()
    assert (shown["state"], shown["priority"]) == ("scheduled", "critical")
    assert shown["due_at"] == "2099-05-01T10:00:00+00:00"


def test_a_job_that_nobody_starts_in_time(
    folder: Path, env: dict[str, str], run: Start, ledger: Ledger
) -> None:
    job = enqueue(folder, env, "tasks:app", "tasks.send", "--expires", "1ms").out.strip()
    shown = operate(folder, "jobs", "show", job, "--json", env=env).json()
    assert shown["expires_at"] > shown["enqueued_at"]
    assert run("worker", "tasks:app", "--burst", "--burst-wait", "0s", env=env).end() == 0
    assert ledger.lines("sent") == []
    shown = operate(folder, "jobs", "show", job, "--json", env=env).json()
    assert (shown["state"], shown["reason"]) == ("discarded", "expired")


def test_an_app_from_a_factory(folder: Path, env: dict[str, str]) -> None:
    args = ("sums:make", "sums.add", "--args", "[1]", "--factory")
    assert enqueue(folder, env, *args).code == 0


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["sums:app", "add"], "no job function 'add'; did you mean 'sums.add'?"),
        (["sums:app", "sums.ad"], "did you mean 'sums.add'?"),
        (
            ["sums:app", "other"],
            "no job function 'other'; it has sums.add, sums.fail, sums.forget, sums.refuse",
        ),
        (["sums:app", "sums.add"], "sums.add(a: int, b: int = 1)"),
        (["sums:app", "sums.add"], "missing argument 'a'"),
        (["sums:app", "sums.add", "--args", "[1,2,3]"], "takes at most 2 positional arguments"),
        (["sums:app", "sums.add", "--args", "[1]", "--kwargs", '{"c": 1}'], "argument 'c'"),
        (["sums:app", "sums.add", "--args", "[1]", "--id", "a b"], "id='a b' is not a job id"),
        (["sums:app", "sums.add", "--args", "[1]", "--delay", "90000d"], "more than 100 years"),
        (
            ["sums:app", "sums.add", "--args", "[1]", "--delay", "2m", "--expires", "2m"],
            "sums.add: expires is not after the time that delay or at asks for",
        ),
        (["sums:broken", "sums.add"], "sums:broken is not an AsyncJobs but None"),
        (["smus:app", "sums.add"], "did you mean 'sums'?"),
    ],
)
def test_what_is_refused(
    folder: Path, env: dict[str, str], server: Server, args: list[str], expected: str
) -> None:
    done = enqueue(folder, env, *args)
    assert (done.code, done.out) == (2, "")
    assert expected in done.err
    assert "Traceback" not in done.err
    assert server.command("EXISTS", "asyncjobs:queues") == 0


def test_the_users_own_error_is_shown(folder: Path, env: dict[str, str]) -> None:
    (folder / "bad.py").write_text("import json\njson.loads('{')\n")
    done = enqueue(folder, env, "bad:app", "x")
    assert done.code == 2
    assert 'bad.py", line 2' in done.err
    assert done.err.splitlines()[-1].startswith("Error: APP 'bad:app': module 'bad' cannot be")


def test_an_unreachable_store(folder: Path, env: dict[str, str]) -> None:
    url = f"redis://127.0.0.1:{closed_port()}"
    done = enqueue(folder, {"ASYNCJOBS_URL": url}, "sums:app", "sums.forget")
    assert (done.code, done.out) == (3, "")
    assert f"the store at {url}/0 is not available" in done.err


def test_a_job_in_this_process_would_be_lost(folder: Path, env: dict[str, str]) -> None:
    done = enqueue(folder, {"ASYNCJOBS_URL": "memory:"}, "sums:app", "sums.forget")
    assert (done.code, done.out) == (2, "")
    assert "the job would be lost" in done.err


def test_a_job_that_is_too_large(folder: Path, env: dict[str, str]) -> None:
    (folder / "small.py").write_text(
        "from asyncjobs import AsyncJobs\napp = AsyncJobs(max_payload=100)\n"
        "@app.job\nasync def keep(text: str) -> None: ...\n"
    )
    args = ("small:app", "small.keep", "--args", f'["{"x" * 200}"]')
    done = enqueue(folder, env, *args)
    assert (done.code, done.out) == (2, "")
    assert "max_payload" in done.err


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ([], "Missing argument 'APP'"),
        (["a:b"], "Missing argument 'NAME'"),
        (["a:b", "c", "--args", "[1"], "it is not JSON"),
        (["a:b", "c", "--args", "1"], "it is not a list; write '[1, \"two\"]'"),
        (["a:b", "c", "--kwargs", "[1]"], "it is not an object"),
        (["a:b", "c", "--delay", "soon"], "'soon' is not a duration"),
        (["a:b", "c", "--at", "soon"], "'soon' is not a time"),
        (["a:b", "c", "--expires", "soon"], "'soon' is not a duration"),
        (["a:b", "c", "--at", "2031-05-01T12:00"], "has no zone; write 2031-05-01T12:00Z"),
        (["a:b", "c", "--delay", "1s", "--at", "2031-05-01T12:00Z"], "--delay or --at, not both"),
        (["a:b", "c", "--priority", "urgent"], "'critical', 'high', 'normal', 'low'"),
        (["a:b", "c", "--timeout", "3s"], "add --wait"),
    ],
)
def test_usage(args: list[str], expected: str) -> None:
    result = call("enqueue", *args)
    assert result.exit_code == 2
    assert expected in " ".join(result.output.split())
