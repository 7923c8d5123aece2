"""`python -m benchmarks`: what it lists, refuses and writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import __main__ as program
from benchmarks.records import Record, markdown, write
from benchmarks.shapes import SHAPES

RECORD = Record("pickup", "asyncjobs", "p50", "ms", "off", (3.0, 1.0, 2.0))


def test_every_shape_is_listed_with_a_word_of_what_it_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert program.main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(SHAPES)
    assert all(len(line.split()) > 3 for line in lines)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "nothing"], "no shape 'nothing'; choose from throughput, "),
        (["run", "--fsync", "sometimes"], "--fsync 'sometimes' is not one of off, everysec"),
    ],
)
def test_what_cannot_be_measured_is_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(SystemExit, match=message):
        program.main(arguments)


def test_one_shape_is_measured_on_a_server_of_its_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert program.main(["run", "--quick", "bulk"]) == 0
    assert "| bulk | asyncjobs | off | enqueue_many, jobs/s |" in capsys.readouterr().out


def test_a_record_is_its_median_and_its_range() -> None:
    text = markdown([RECORD], {"rounds": 3})
    assert "| pickup | asyncjobs | off | p50, ms | 2 | 1 to 3 |" in text
    assert text.endswith("- rounds: 3\n")


def test_results_are_written_for_programs_and_for_people(tmp_path: Path) -> None:
    as_json, as_text = write([RECORD], {"rounds": 3}, tmp_path / "new", "figures")
    content = json.loads(as_json.read_text())
    assert content["facts"] == {"rounds": 3}
    assert content["records"][0]["median"] == 2.0
    assert content["records"][0]["values"] == [3.0, 1.0, 2.0]
    assert as_text.read_text() == markdown([RECORD], {"rounds": 3})
