"""A job has not become dearer unnoticed. Counts, no clock: the same on any machine."""

from __future__ import annotations

import json
import sys

import pytest

from benchmarks import guard

KNOWN = json.loads(guard.BASELINE.read_text(encoding="utf-8"))
PYTHON = KNOWN.pop("python")
VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"


@pytest.fixture(scope="module")
def found() -> dict[str, float]:
    if VERSION != PYTHON:
        pytest.skip(f"the baseline was counted by Python {PYTHON}; another has other steps")
    return guard.measure()


@pytest.mark.parametrize("figure", KNOWN)
def test_a_job_costs_what_it_did(found: dict[str, float], figure: str) -> None:
    assert found[figure] <= KNOWN[figure] * guard.SLACK


@pytest.mark.parametrize("figure", KNOWN)
def test_what_became_cheaper_is_the_new_baseline(found: dict[str, float], figure: str) -> None:
    """Else the next one who makes it dearer has all of that for free."""
    assert found[figure] >= KNOWN[figure] / guard.SLACK, "run python -m benchmarks.guard --update"
