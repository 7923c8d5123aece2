"""Pictures of what was measured."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import __main__ as program
from benchmarks import plots
from benchmarks.records import Record, write

pytest.importorskip("matplotlib", reason="the extra bench is not installed")

NAMES = ("arq", "saq", "asyncjobs")
BOTH = ("arq", "chasquimq on redis 8.6.0")


def _records() -> Iterator[Record]:
    for jobs in ("1", "10", "1,000"):
        for subject in ("asyncjobs", "floor"):
            figure = f"concurrency {jobs}"
            yield Record("throughput", subject, figure, "jobs/s", "off", (900.0, 1_000.0))
        yield Record("in-flight", "asyncjobs", f"memory a job, {jobs} in flight", "KB", "off", (2,))
    for percentile in ("p50", "p95", "p99"):
        yield Record("pickup", "asyncjobs", percentile, "ms", "off", (1.5,))


def _compared() -> Iterator[Record]:
    for name in NAMES[:2]:
        yield Record("noop", name, "asyncjobs is faster by", "times", "off", (10.0,))
        yield Record("pickup", name, "p50", "ms", "off", (5.0,))
    yield Record("pickup", "asyncjobs", "p50", "ms", "off", (7.0,))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(list(_records()), {}, tmp_path, "asyncjobs")
    write([Record("throughput", "asyncjobs", "old", "", "off", (1,))], {}, tmp_path, "asyncjobs-x")
    write(list(_compared()), {}, tmp_path, "compared")
    return tmp_path


def test_the_same_figures_give_the_same_files(folder: Path) -> None:
    names = [f"{name}.svg" for name in plots.PICTURES]
    assert program.main(["plot", "--out", str(folder)]) == 0
    first = [(folder / name).read_bytes() for name in names]
    assert program.main(["plot", "--out", str(folder)]) == 0
    assert [(folder / name).read_bytes() for name in names] == first
    assert max(len(content) for content in first) < 100_000
    texts = [content.decode() for content in first]
    assert "floor, append-only file off" in texts[0]
    # What was measured by turns stands beside its own like, not beside another run's.
    rows = re.findall(r">(\w+, idle[^<]*)<", texts[1])
    assert rows == ["asyncjobs, idle worker", *(f"{n}, idle, by turns" for n in NAMES)]
    assert "2 KB a job" in texts[2]
    assert "10 ×" in texts[3]


def test_of_a_shape_only_one_file_is_read(folder: Path) -> None:
    figures = {record.figure for record in plots.read(folder) if record.shape == "throughput"}
    assert "old" not in figures
    pickups = [record for record in plots.read(folder) if record.shape == "compared, pickup"]
    assert [record.subject for record in pickups] == ["arq", "saq", "asyncjobs"]


def test_peers_that_were_compared_alone_stand_beside_the_others(folder: Path) -> None:
    alone = (
        Record("noop", name, "asyncjobs is faster by", "times", "off", (3.0,)) for name in BOTH
    )
    write([*alone, Record("noop", "saq", "none", "", "off", ())], {}, folder, "compared-chasquimq")
    ratios = {
        (record.shape, record.subject): record.values
        for record in plots.read(folder)
        if record.figure in ("asyncjobs is faster by", "none")
    }
    assert ratios == {
        ("compared, noop", "arq"): (10.0,),
        ("compared, noop", "saq"): (10.0,),
        ("compared, noop", "chasquimq on redis 8.6.0"): (3.0,),
    }


def test_what_was_not_measured_is_not_drawn(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"no figures to draw in .*; `run` or `compare` writes"):
        program.main(["plot", "--out", str(tmp_path)])
    assert list(tmp_path.iterdir()) == []


def test_without_matplotlib_a_word_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(plots, "find_spec", lambda name: None)
    monkeypatch.setattr(program, "find_spec", lambda name: None)
    assert program._plot(tmp_path) == 0
    assert "asyncjobs-framework[bench]" in capsys.readouterr().err
    with pytest.raises(SystemExit, match=r"asyncjobs-framework\[bench\]"):
        program.main(["plot", "--out", str(tmp_path)])
