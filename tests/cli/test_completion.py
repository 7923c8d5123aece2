"""`asyncjobs completion SHELL`: the script, and what the shell asks through it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.operator import operate
from tests.cli.test_usage import call


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_names_the_program(folder: Path, shell: str) -> None:
    done = operate(folder, "completion", shell)
    assert (done.code, done.err) == (0, "")
    assert f"_ASYNCJOBS_COMPLETE={shell}_complete" in done.out
    last = done.out.rstrip().splitlines()[-3:]
    assert any("asyncjobs" in line for line in last)
    program = shutil.which(shell)
    if program is not None:
        checked = subprocess.run([program, "-n"], input=done.out, text=True, check=False)
        assert checked.returncode == 0


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            "asyncjobs ",
            [
                "check",
                "check-celery",
                "completion",
                "dead",
                "doctor",
                "enqueue",
                "events",
                "exporter",
                "flows",
                "generate",
                "history",
                "jobs",
                "limits",
                "new",
                "queues",
                "schedules",
                "stats",
                "unique",
                "worker",
                "workers",
            ],
        ),
        ("asyncjobs st", ["stats"]),
        ("asyncjobs jobs s", ["show"]),
        ("asyncjobs dead ", ["list", "purge", "retry", "show"]),
        ("asyncjobs dead retry --priority h", ["high"]),
        ("asyncjobs stats --w", ["--watch"]),
        ("asyncjobs enqueue a:b c --priority c", ["critical"]),
        ("asyncjobs completion f", ["fish"]),
    ],
)
def test_what_the_shell_is_offered(folder: Path, words: str, expected: list[str]) -> None:
    number = str(len(words.split(" ")) - 1)
    env = {"_ASYNCJOBS_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": number}
    done = operate(folder, env=env)
    assert (done.code, done.err) == (0, "")
    assert [line.partition(",")[2] for line in done.out.splitlines()] == expected


def test_an_unknown_shell() -> None:
    result = call("completion", "tcsh")
    assert result.exit_code == 2
    assert "'bash', 'zsh', 'fish'" in result.output
