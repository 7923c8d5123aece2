"""What was measured, as pictures: `python -m benchmarks plot`. Needs the extra `bench`.

Reads the JSON of a folder of results and writes SVG beside it. The same figures give the
same files, byte by byte.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from benchmarks.records import Record

__all__ = ["MISSING", "add_arguments", "draw", "main", "read"]

COMPARED: Final = "compared, "
"""Before the names of shapes that were measured beside other queues."""
RESULTS: Final = Path(__file__).parent / "results"
MISSING: Final = "no plots, for matplotlib is not here; install asyncjobs-framework[bench]"
STYLE: Final[Mapping[str, Any]] = {
    "svg.hashsalt": "asyncjobs",  # else each file has ids of its own
    "svg.fonttype": "none",  # text as text: readers find it, and the files are small
    "font.size": 10,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#dddddd",
}
COLOURS: Final = {"asyncjobs": "#0b6e4f", "floor": "#888888"}
OTHERS: Final = (
    "#c8553d",
    "#3d5a80",
    "#e0a030",
    "#7a5195",
    "#58a4b0",
    "#9c6644",
    "#b56576",
    "#6a994e",
    "#adb5bd",
)
MODES: Final = {"off": "-", "everysec": "--"}
PLACES: Final = {
    "pickup": "idle worker",
    "half-load": "beside half load",
    f"{COMPARED}pickup": "idle, by turns",
}
PERCENTILES: Final = {"p50": "#9bc4b0", "p95": "#4a9a78", "p99": "#0b6e4f"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `plot`."""
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")


def main(options: argparse.Namespace) -> int:
    """Draw what the folder has figures for."""
    if find_spec("matplotlib") is None:
        raise SystemExit(MISSING)
    files = draw(read(options.out), options.out)
    if not files:
        raise SystemExit(f"no figures to draw in {options.out}; `run` or `compare` writes them")
    for file in files:
        print(f"written: {file}", file=sys.stderr)
    return 0


def read(folder: Path) -> list[Record]:
    """All records of a folder; of a shape and subject those of one file, the run of all first."""
    found: list[Record] = []
    for file in sorted(folder.glob("*.json"), key=lambda file: (len(file.stem), file.stem)):
        known = {(record.shape, record.subject) for record in found}
        before = COMPARED if file.stem.startswith("compared") else ""
        for one in json.loads(file.read_text(encoding="utf-8")).get("records", ()):
            fields = {name: one[name] for name in ("subject", "figure", "unit", "fsync")}
            record = Record(shape=before + one["shape"], values=tuple(one["values"]), **fields)
            if record.values and (record.shape, record.subject) not in known:
                found.append(record)
    return found


def draw(records: Sequence[Record], folder: Path) -> list[Path]:
    """Each picture that there are figures for."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    written = []
    style: Any = {**mpl.rcParamsDefault, **STYLE}
    with mpl.rc_context(style):
        for name, picture in PICTURES.items():
            figure = Figure(figsize=(7, 4), layout="constrained")
            FigureCanvasSVG(figure)
            if picture(figure, records):
                file = folder / f"{name}.svg"
                figure.savefig(file, format="svg", metadata={"Date": None})
                written.append(file)
    return written


def _throughput(figure: Any, records: Sequence[Record]) -> bool:
    lines: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for record in records:
        size = re.fullmatch(r"concurrency ([\d,]+)", record.figure)
        if record.shape == "throughput" and size and record.unit == "jobs/s":
            point = (int(size[1].replace(",", "")), record.median)
            lines.setdefault((record.subject, record.fsync), []).append(point)
    axes = figure.subplots()
    for (subject, mode), points in lines.items():
        axes.plot(
            *zip(*sorted(points), strict=True),
            MODES[mode],
            marker="o",
            color=COLOURS[subject],
            label=f"{subject}, append-only file {mode}",
        )
    _logarithmic(axes, x=True)
    axes.set(title="No-op jobs a second, results off", xlabel="concurrency", ylabel="jobs/s")
    if lines:
        axes.legend()
    return bool(lines)


def _latency(figure: Any, records: Sequence[Record]) -> bool:
    mode = _mode([record for record in records if record.figure in PERCENTILES])
    bars: dict[str, dict[str, float]] = {}
    # Ours first. Only what was measured by turns may be compared, so ours is there twice.
    for record in sorted(records, key=lambda record: record.shape.startswith(COMPARED)):
        if record.figure in PERCENTILES and record.fsync == mode and record.subject != "floor":
            where = PLACES.get(record.shape, record.shape)
            bars.setdefault(f"{record.subject}, {where}", {})[record.figure] = record.median
    figure.set_size_inches(7, max(4.0, 0.8 + 0.45 * len(bars)))
    axes = figure.subplots()
    for number, (percentile, colour) in enumerate(PERCENTILES.items()):
        widths = [values.get(percentile, 0.0) for values in bars.values()]
        at = [row + 0.26 * (number - 1) for row in range(len(bars))]
        drawn = axes.barh(at, widths, 0.24, label=percentile, color=colour)
        axes.bar_label(drawn, fmt=_short, padding=3, fontsize=8)
    axes.set_yticks(range(len(bars)), list(bars))
    axes.invert_yaxis()
    _logarithmic(axes, x=True, y=False)
    axes.margins(x=0.1)
    axes.set(title=f"Until a job starts, 100 jobs/s, append-only file {mode}", xlabel="ms")
    if bars:
        axes.legend()
    return bool(bars)


def _memory(figure: Any, records: Sequence[Record]) -> bool:
    points = []
    for record in records:
        size = re.fullmatch(r"memory a job, ([\d,]+) in flight", record.figure)
        if size and record.fsync == _mode([r for r in records if r.shape == record.shape]):
            points.append((int(size[1].replace(",", "")), record.median))
    axes = figure.subplots()
    points.sort()
    for jobs, kilobytes in points:
        text = f"{_short(kilobytes)} KB a job"
        place = (jobs, jobs * kilobytes / 1024)
        axes.annotate(text, place, (-6, 8), textcoords="offset points", ha="right")
    total = [jobs * kilobytes / 1024 for jobs, kilobytes in points]
    axes.plot([jobs for jobs, _ in points], total, "o-", color=COLOURS["asyncjobs"])
    _logarithmic(axes, x=True)
    axes.margins(x=0.25, y=0.15)
    axes.set(title="Memory of jobs in flight in one process", xlabel="jobs in flight", ylabel="MB")
    return bool(points)


def _peers(figure: Any, records: Sequence[Record]) -> bool:
    ratios = [record for record in records if record.figure == "asyncjobs is faster by"]
    mode = _mode(ratios)
    shapes = list(dict.fromkeys(record.shape for record in ratios))
    names = list(dict.fromkeys(record.subject for record in ratios))
    if not shapes:
        return False
    columns = 2 if len(shapes) > 1 else 1
    figure.set_size_inches(8, 0.6 + (0.8 + 0.28 * len(names)) * -(-len(shapes) // columns))
    grid = figure.subplots(-(-len(shapes) // columns), columns, squeeze=False)
    places = list(grid.flat)
    for axes in places[len(shapes) :]:
        axes.remove()
    for axes, shape in zip(places, shapes, strict=False):
        mine = {r.subject: r.median for r in ratios if r.shape == shape and r.fsync == mode}
        mine = dict(sorted(mine.items(), key=lambda item: item[1]))
        colours = [OTHERS[names.index(name) % len(OTHERS)] for name in mine]
        drawn = axes.barh(list(mine), list(mine.values()), color=colours)
        axes.bar_label(drawn, fmt=lambda value: f"{_short(value)} ×", padding=3, fontsize=8)
        axes.axvline(1, color=COLOURS["asyncjobs"])
        axes.invert_yaxis()
        axes.margins(x=0.15)
        axes.set_xlim(left=0)
        axes.set_title(shape.removeprefix(COMPARED))
    figure.suptitle(f"So many times faster asyncjobs is, append-only file {mode}")
    return True


def _mode(records: Sequence[Record]) -> str:
    """The first of the modes that there are figures for."""
    found = {record.fsync for record in records}
    return next((mode for mode in MODES if mode in found), "off")


def _logarithmic(axes: Any, *, x: bool, y: bool = True) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    for wanted, axis, scale in ((x, axes.xaxis, axes.set_xscale), (y, axes.yaxis, axes.set_yscale)):
        if wanted:
            scale("log")
            axis.set_major_locator(LogLocator(subs=(1, 2, 5) if axis is axes.yaxis else (1,)))
            axis.set_major_formatter(lambda value, _: f"{value:,.10g}")
            axis.set_minor_formatter(NullFormatter())


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


PICTURES: Final[Mapping[str, Callable[[Any, Sequence[Record]], bool]]] = {
    "throughput": _throughput,
    "latency": _latency,
    "memory": _memory,
    "peers": _peers,
}
