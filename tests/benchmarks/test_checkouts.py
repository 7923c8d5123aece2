"""`python -m benchmarks.checkouts`: two versions of the code beside each other."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import checkouts


@pytest.fixture
def twin(monkeypatch: pytest.MonkeyPatch) -> Path:
    """This checkout, taken for another one, in the environment that runs the tests."""
    monkeypatch.setattr(checkouts, "python_of", lambda checkout: Path(sys.executable))
    return checkouts.HERE / "benchmarks" / ".."


def test_both_are_measured_in_each_round(twin: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(twin), "--quick", "--rounds", "1", "--jobs", "500"]
    assert checkouts.main([*arguments, "--shapes", "off,enqueue-1"]) == 0
    out = capsys.readouterr().out
    assert "| results off, jobs/s |" in out
    assert "| enqueue, one caller, jobs/s |" in out


def test_the_ratio_is_that_of_each_round_alone() -> None:
    ours = {("pickup p50", "ms"): [2.0, 40.0, 3.0]}
    theirs = {("pickup p50", "ms"): [1.0, 10.0, 3.0]}
    row = checkouts.table(ours, theirs).splitlines()[-1]
    assert row == "| pickup p50, ms | 3.00 (1.00 to 10.00) | 3.00 (2.00 to 40.00) | 2.000 |"


def test_pickup_reads_what_its_program_says() -> None:
    shape = checkouts.shapes(10, quick=True)["pickup"]
    assert shape.arguments[-1] == "--quick"
    assert shape.read({"p50": [0.9, "ms"]}) == {("pickup p50", "ms"): 0.9}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--shapes", "nothing"], "no shape 'nothing'; choose from off, on, "), ([], "make env")],
)
def test_what_cannot_be_measured_is_refused(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        checkouts.main([str(tmp_path), "--rounds", "1", "--jobs", "1", *arguments])
    assert message in f"{refused.value}{capsys.readouterr().err}"
