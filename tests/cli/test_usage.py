"""What is refused before anything starts, and what help says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

import asyncjobs
from asyncjobs.cli.command import cli
from asyncjobs.cli.shared.values import count, show_duration
from tests.cli.conftest import Start
from tests.kit.environment import environment


def call(*args: str, env: dict[str, str] | None = None) -> Result:
    clean = {"ASYNCJOBS_APP": "", "ASYNCJOBS_URL": ""} | (env or {})
    return CliRunner(env=clean).invoke(cli, args, prog_name="asyncjobs")


def test_bare_command_is_help() -> None:
    bare, short, full = call(), call("-h"), call("--help")
    assert bare.exit_code == short.exit_code == full.exit_code == 0
    assert bare.output == short.output == full.output
    assert re.search(r"^  worker +Run the jobs of APP until stopped\.$", bare.output, re.MULTILINE)


def test_version() -> None:
    result = call("--version")
    assert (result.exit_code, result.output) == (0, f"asyncjobs {asyncjobs.__version__}\n")


def test_help_names_each_flag_with_its_variable() -> None:
    result = call("worker", "-h")
    assert result.exit_code == 0, result.output
    text = " ".join(result.output.split())
    flags = (
        "factory",
        "queues",
        "concurrency",
        "processes",
        "burst",
        "burst-wait",
        "grace",
        "max-jobs",
        "max-memory",
        "threads",
        "job-processes",
        "lease",
        "block-warning",
        "hard-limit",
        "stuck-after",
        "health-port",
        "health-host",
        "health-file",
        "metrics-port",
        "metrics-host",
        "name",
        "reload",
        "log-level",
        "log-format",
        "log-jobs",
        "log-args",
    )
    options = [param for param in cli.commands["worker"].params if isinstance(param, click.Option)]
    assert [option.opts[0] for option in options] == [f"--{flag}" for flag in flags]
    for flag in flags:
        assert f" --{flag} " in text
        assert f"env var: ASYNCJOBS_WORKER_{flag.upper().replace('-', '_')}" in text
    assert "$ASYNCJOBS_APP" in text
    for default in ("default: 1000", "default: 30s", "default: 5s", "default: 15s"):
        assert default in text
    for code in range(7):
        assert f" {code} " in text


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["chekc"], "No such command 'chekc'. Did you mean 'check'?"),
        (["wroker"], "No such command 'wroker'. (Did you mean one of: 'worker', 'workers'?)"),
        (["--vresion"], "No such option '--vresion'. Did you mean '--version'?"),
        (["worker", "--concurency", "3"], "Did you mean '--concurrency'?"),
        (["worker"], "no APP; write asyncjobs worker module:attribute, or set ASYNCJOBS_APP"),
        (["worker", "a:b", "c:d"], "unexpected extra argument"),
        (["worker", "a:b", "--grace", "soon"], "'soon' is not a duration; write a number and ms"),
        (["worker", "a:b", "--grace", "5 weeks"], "'5 weeks' is not a duration"),
        (["worker", "a:b", "--lease=-1s"], "'-1s' is not a duration"),
        (["worker", "a:b", "--burst-wait", ""], "'' is not a duration"),
        (["worker", "a:b", "--concurrency", "0"], "'--concurrency'"),
        (["worker", "a:b", "--max-jobs", "many"], "'many' is not a valid integer"),
        (["worker", "a:b", "--max-memory", "512M"], "'512M' is not a size; write a number and KiB"),
        (["worker", "a:b", "--max-memory", "-1GiB"], "'-1GiB' is not a size"),
        (["worker", "a:b", "--threads", "0"], "'--threads'"),
        (["worker", "a:b", "--log-level", "loud"], "'debug', 'info', 'warning'"),
        (["worker", "a:b", "--log-format", "xml"], "'auto', 'console', 'json'"),
        (["worker", "a:b", "--queues", "mail:x"], "'x' is not a weight for queue 'mail'"),
        (["worker", "a:b", "--queues", "mail:0"], "'0' is not a weight for queue 'mail'"),
        (["worker", "a:b", "--queues", "mail:"], "'' is not a weight for queue 'mail'"),
        (["worker", "a:b", "--queues", "mail:-1"], "'-1' is not a weight for queue 'mail'"),
        (["worker", "a:b", "--queues", "ma il"], "'ma il' is not a queue name; use 1 to 64"),
        (["worker", "a:b", "--queues", "{mail}:2"], "'{mail}' is not a queue name"),
        (["worker", "a:b", "--queues", " , "], "names no queue; write mail,default"),
        (["worker", "a:b", "--queues", "a,b,a"], "queue 'a' is named twice"),
        (["worker", "a:b", "--queues", "a", "--queues", "b,a:2"], "queue 'a' is named twice"),
    ],
)
def test_wrong_usage_is_refused_with_the_value_and_a_way_out(
    args: list[str], expected: str
) -> None:
    result = call(*args)
    assert result.exit_code == 2
    assert expected in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.output


def test_a_wrong_variable_is_named() -> None:
    result = call("worker", "a:b", env={"ASYNCJOBS_WORKER_GRACE": "soon"})
    assert result.exit_code == 2
    named = "'--grace' (env var: 'ASYNCJOBS_WORKER_GRACE'): 'soon' is not a duration"
    assert named in result.stderr


@pytest.mark.parametrize(
    ("args", "variable", "expected"),
    [
        (["--queues", "mail:3,default"], None, {"mail": 3, "default": 1}),
        (["--queues", "mail:3", "--queues", "b:2, c"], None, {"mail": 3, "b": 2, "c": 1}),
        ([], "mail:3,default:1", {"mail": 3, "default": 1}),
        ([], "mail:3, default", {"mail": 3, "default": 1}),
        (["--queues", "x"], "mail", {"x": 1}),
        ([], None, None),
    ],
)
def test_queues_in_all_their_forms(
    args: list[str], variable: str | None, expected: dict[str, int] | None
) -> None:
    worker = cli.commands["worker"]
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("ASYNCJOBS_WORKER_QUEUES", raising=False)
        if variable is not None:
            patch.setenv("ASYNCJOBS_WORKER_QUEUES", variable)
        context = worker.make_context("worker", ["a:b", *args])
    assert context.params["queues"] == expected


def test_durations_become_seconds() -> None:
    args = ["a:b", "--grace", "250ms", "--lease", "1m", "--burst-wait", "0s"]
    params = cli.commands["worker"].make_context("worker", args).params
    assert (params["grace"], params["lease"], params["burst_wait"]) == (0.25, 60.0, 0.0)


def test_numbers_for_people() -> None:
    assert [count(n, "job") for n in (0, 1, 2, 12345)] == [
        "0 jobs",
        "1 job",
        "2 jobs",
        "12,345 jobs",
    ]
    assert [show_duration(s) for s in (0, 0.3, 1, 90)] == ["0s", "300ms", "1s", "90s"]


def test_python_dash_m_is_the_same_command(run: Start) -> None:
    process = run("--version")
    out, _ = process.process.communicate(timeout=30)
    assert out.decode() == f"asyncjobs {asyncjobs.__version__}\n"
    assert process.end() == 0


def test_help_imports_no_store_and_no_logging_library(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from asyncjobs.cli import main\n"
        "sys.argv = ['asyncjobs', 'worker', '--help']\n"
        "try:\n    main()\n"
        "except SystemExit as error:\n    assert error.code == 0\n"
        "heavy = {'redis', 'hiredis', 'structlog', 'uvloop', 'opentelemetry'}\n"
        "heavy.add('asyncjobs.worker.worker')\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=30,
        cwd=tmp_path,
        env=environment({}),
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"
