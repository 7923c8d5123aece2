"""The pictures of docs/guides/observability.md are what real spans draw today."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

pytest.importorskip("opentelemetry.sdk", reason="opentelemetry-sdk is not installed")

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/guides/observability.md").read_text(encoding="utf-8")
SVG = "{http://www.w3.org/2000/svg}"
MODES = ("link", "child", "auto")
FAILED = "#c8553d"
SPANS = [
    "checkout",
    "enqueue charge",
    "process charge",
    "ask the bank",
    "process charge",
    "ask the bank",
]

Skeleton = list[tuple[str, ...]]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the program has just drawn."""
    folder = tmp_path_factory.mktemp("pictures") / "img"
    done = subprocess.run(
        [sys.executable, ROOT / "tools/trace_pictures.py", folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(folder / f"trace-{mode}.svg") for mode in MODES]
    return folder


def skeleton(picture: Path) -> Skeleton:
    """All that does not change from run to run: places and lengths on the time axis do."""
    found: Skeleton = []
    for part in ET.parse(picture).getroot():
        kind, y = part.tag.removeprefix(SVG), part.get("y", "")
        if kind == "path":
            ends = re.findall(r"[\d.]+ ([\d.]+)", part.get("d", ""))
            found.append((kind, *ends))
        elif re.fullmatch(r"[\d.]+ ms", part.text or ""):
            found.append(("time", y))
        elif kind == "text":
            found.append((kind, part.get("x", ""), y, part.text or ""))
        else:
            found.append((kind, y, part.get("fill", "")))
    return found


def names(found: Skeleton) -> list[str]:
    """Of the spans, from top to bottom."""
    return [part[3] for part in found if part[0] == "text" and part[3] in SPANS]


@pytest.mark.parametrize(
    ("mode", "traces", "links"), [("link", 3, 3), ("child", 1, 1), ("auto", 2, 2)]
)
def test_real_spans_in_each_mode(drawn: Path, mode: str, traces: int, links: int) -> None:
    found = skeleton(drawn / f"trace-{mode}.svg")
    assert names(found) == SPANS
    kinds = Counter(part[0] for part in found)
    assert (kinds["path"], kinds["time"]) == (links, len(SPANS))
    titles = [part[3] for part in found if part[0] == "text" and part[3].startswith("trace ")]
    assert titles == [f"trace {number}" for number in range(1, traces + 1)]
    # The first attempt and its call of the bank.
    assert [part[2] for part in found if part[0] == "rect"].count(FAILED) == 2


@pytest.mark.parametrize("mode", MODES)
def test_the_page_shows_what_is_drawn_now(drawn: Path, mode: str) -> None:
    shown = re.findall(r"\(\.\./(img/trace-\w+\.svg)\)", PAGE)
    assert f"img/trace-{mode}.svg" in shown
    assert skeleton(ROOT / f"docs/img/trace-{mode}.svg") == skeleton(drawn / f"trace-{mode}.svg"), (
        "draw them anew: python tools/trace_pictures.py"
    )
