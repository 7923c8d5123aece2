"""A job has not become dearer unnoticed. Counts, no clock: the same on any machine."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from benchmarks import guard

KNOWN = guard.baseline()


@pytest.fixture(scope="module")
def found() -> dict[str, float]:
    return guard.measure()


def test_every_python_that_is_promised_has_a_baseline() -> None:
    """Else nothing below is tested on it."""
    project = tomllib.loads((guard.BASELINE.parents[1] / "pyproject.toml").read_text())["project"]
    promised = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    assert list(json.loads(guard.BASELINE.read_text())) == sorted(
        promised, key=lambda v: int(v[2:])
    )


def test_an_update_leaves_other_pythons_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(guard, "BASELINE", tmp_path / "guard.json")
    monkeypatch.setattr(guard, "measure", lambda: {"run, times the floor": 2.0})
    monkeypatch.setattr("sys.argv", ["guard", "--update"])
    for version in ("3.12", "3.11"):
        monkeypatch.setattr(guard, "VERSION", version)
        guard.main()
    monkeypatch.setattr(guard, "measure", lambda: {"run, times the floor": 3.0})
    guard.main()
    assert json.loads(guard.BASELINE.read_text()) == {
        "3.11": {"run, times the floor": 3.0},
        "3.12": {"run, times the floor": 2.0},
    }


@pytest.mark.parametrize("figure", KNOWN)
def test_a_job_costs_what_it_did(found: dict[str, float], figure: str) -> None:
    assert found[figure] <= KNOWN[figure] * guard.SLACK


@pytest.mark.parametrize("figure", KNOWN)
def test_what_became_cheaper_is_the_new_baseline(found: dict[str, float], figure: str) -> None:
    """Else the next one who makes it dearer has all of that for free."""
    assert found[figure] >= KNOWN[figure] / guard.SLACK, "run python -m benchmarks.guard --update"
