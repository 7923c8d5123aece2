"""The floor beside the shapes of asyncjobs: by turns, and shares of each round's own."""

from __future__ import annotations

import argparse
import subprocess
import sys
from typing import Any

import pytest

from benchmarks import __main__ as program
from benchmarks.beside import FLOORS, share
from benchmarks.shapes import SHAPES


def test_a_share_is_one_where_the_floor_is_reached() -> None:
    assert share(50.0, 100.0, "jobs/s") == 0.5
    assert share(20.0, 10.0, "µs/job") == 0.5
    assert share(1.5, 1.2, "times") == pytest.approx(0.8)


def test_shares_are_those_of_each_round() -> None:
    found: program.Found = {
        ("waiting", "off", "asyncjobs", "time", "times"): [1.5, 3.0, 2.0],
        ("waiting", "off", "floor", "time", "times"): [1.5, 1.5, 1.0],
        ("bulk", "off", "asyncjobs", "rate", "jobs/s"): [7.0],
    }
    shares = [record for record in program._records(found) if "share" in record.figure]
    assert [(record.subject, record.figure, record.values) for record in shares] == [
        ("asyncjobs", "time, share of the floor", (1.0, 0.5, 0.5))
    ]


def test_who_is_first_changes_from_round_to_round(monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[str] = []

    def measure(options: Any, name: str, mode: str, command: list[str]) -> dict[str, Any]:
        turns.append("floor" if "benchmarks.beside" in command else "asyncjobs")
        return {}

    monkeypatch.setattr(program, "_in_process", measure)
    options = argparse.Namespace(quick=False)
    for number in range(3):
        assert list(program._round(options, "enqueue", "off", number)) == ["asyncjobs", "floor"]
    assert turns == ["asyncjobs", "floor", "floor", "asyncjobs", "asyncjobs", "floor"]
    assert list(program._round(options, "bulk", "off", 0)) == ["asyncjobs"]


def test_each_floor_has_its_shape() -> None:
    assert set(FLOORS) <= set(SHAPES)


def test_the_floor_holds_nothing_of_asyncjobs() -> None:
    look = "import sys, benchmarks.beside; sys.exit('asyncjobs' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", look], check=False).returncode == 0


@pytest.mark.parametrize("shape", ["enqueue", "waiting"])
def test_the_floor_is_measured_beside_its_shape(
    shape: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.main(["run", "--quick", shape]) == 0
    out = capsys.readouterr().out
    assert f"| {shape} | asyncjobs | off | " in out
    assert f"| {shape} | floor | off | " in out
    assert ", share of the floor, times |" in out
