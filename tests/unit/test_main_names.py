"""A job function of a program that is no file would get a name that no worker can import."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
from asyncjobs import AsyncJobs
from asyncjobs.errors import RegistrationError

app = AsyncJobs("memory:")


def plain() -> None: ...


try:
    print(app.job(plain).name)
except RegistrationError as error:
    print(error)
print(app.job(name="given")(plain).name)
"""


def said(*args: str, given: str | None = None, folder: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, *args],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]},
        input=given,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize("args", [("-c", PROGRAM), ("-",)])
def test_what_is_no_file_needs_a_name(tmp_path: Path, args: tuple[str, ...]) -> None:
    refused, given = said(*args, given=PROGRAM, folder=tmp_path)
    assert refused.startswith("plain is written on a command line (python -c)")
    assert "move it to a module, or give it name=..." in refused
    assert given == "given"


def test_a_file_has_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    assert said("program.py", folder=tmp_path) == ["program.plain", "given"]
    assert said("-m", "program", folder=tmp_path) == ["program.plain", "given"]
