"""The types of the public API, proved by both checkers: what is right passes without a
word, what is wrong is refused on exactly the lines that say so."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
GOOD = sorted(HERE.glob("good*.py"))
BAD = sorted(HERE.glob("bad*.py"))
LIMIT_S = 300


def marked(path: Path) -> list[int]:
    """The lines of a file that end with `# error`."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [number for number, line in enumerate(lines, 1) if line.endswith("# error")]


def run(command: list[str]) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout


def mypy_errors() -> dict[str, dict[int, str]]:
    files = [str(path) for path in (*GOOD, *BAD)]
    output = run([sys.executable, "-m", "mypy", "--strict", "--no-error-summary", *files])
    found: dict[str, dict[int, str]] = {}
    for line in output.splitlines():
        match = re.match(r"(.+?\.py):(\d+)(?::\d+)?: error: (.*)", line)
        if match:
            found.setdefault(Path(match[1]).name, {})[int(match[2])] = match[3]
    return found


def pyright_errors() -> dict[str, dict[int, str]]:
    files = [str(path) for path in (*GOOD, *BAD)]
    python = ["--pythonpath", sys.executable]
    output = run([sys.executable, "-m", "pyright", *python, "--outputjson", *files])
    found: dict[str, dict[int, str]] = {}
    for entry in json.loads(output)["generalDiagnostics"]:
        if entry["severity"] == "error":
            line = entry["range"]["start"]["line"] + 1
            found.setdefault(Path(entry["file"]).name, {})[line] = entry["message"]
    return found


@pytest.fixture(scope="module", params=["mypy", "pyright"])
def errors(request: pytest.FixtureRequest) -> dict[str, dict[int, str]]:
    """What one checker has to say about each file, by line."""
    pytest.importorskip(request.param, reason="a type checker of the `dev` extra")
    return mypy_errors() if request.param == "mypy" else pyright_errors()


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.name)
def test_right_calls_are_accepted(path: Path, errors: dict[str, dict[int, str]]) -> None:
    assert errors.get(path.name, {}) == {}


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.name)
def test_wrong_calls_are_refused(path: Path, errors: dict[str, dict[int, str]]) -> None:
    found = errors.get(path.name, {})
    assert sorted(found) == marked(path), found
