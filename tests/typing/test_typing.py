"""The types of the public API, proved by both checkers: what is right passes without a
word, what is wrong is refused on exactly the lines that say so."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
GOOD = sorted(HERE.glob("good*.py"))
BAD = sorted(HERE.glob("bad*.py"))
LIMIT_S = 300


class Mark(NamedTuple):
    """`# error`, `# error: name` or `# error mypy: name`: the line is refused, by an error that
    names the option, of both checkers or of this one. The other one shows all variants."""

    checker: str
    name: str


def marked(path: Path) -> dict[int, Mark]:
    """The marked lines of a file."""
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
    found = {number: re.search(r"# error ?(\w*)(?:: (\w+))?$", line) for number, line in lines}
    return {number: Mark(match[1], match[2] or "") for number, match in found.items() if match}


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
def test_wrong_calls_are_refused(
    path: Path, errors: dict[str, dict[int, str]], request: pytest.FixtureRequest
) -> None:
    found, marks = errors.get(path.name, {}), marked(path)
    assert sorted(found) == list(marks), found
    checker = request.node.callspec.params["errors"]
    mute = {
        number: found[number]
        for number, mark in marks.items()
        if mark.checker in ("", checker) and mark.name not in found[number]
    }
    assert mute == {}, "an error that does not name the option"
