"""Each cell of docs/reference/interactions.md says what happens and names a test that is there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reference" / "interactions.md"

CAPABILITIES: Final = (
    "Unique keys",
    "Steps and state",
    "Events in jobs",
    "Schedules",
    "`max_running`",
    "Process isolation",
    "Limits and fair turns",
    "Workflows",
    "Atomic outcomes",
    "Batch consumers",
    "`ctx.gather`",
)
EVENTS: Final = (
    "retry",
    "snooze",
    "reclaim",
    "poison guard",
    "cancel",
    "expiry",
    "dead-letter retry",
    "resync",
    "pause",
    "unique key",
    "schedule",
)


class Cell(NamedTuple):
    event: str
    what: str
    test: str


def tables() -> dict[str, list[Cell]]:
    """The cells of each capability."""
    parts = re.split(r"^## (.+)$", PAGE.read_text(), flags=re.MULTILINE)[1:]
    return {
        name: [
            Cell(*(cell.strip() for cell in row))
            for row in re.findall(r"^\|([^|]*)\|([^|]*)\|([^|]*)\|$", text, re.MULTILINE)
            if row[0].strip() not in ("event", "---")
        ]
        for name, text in zip(parts[::2], parts[1::2], strict=True)
    }


def file_of(path: str) -> Path:
    if path.startswith("conformance/"):
        return ROOT / "asyncjobs" / "testing" / path
    return ROOT / "tests" / path


def wrong(cell: Cell) -> Iterator[str]:
    """What is wrong with a cell that is filled in."""
    if len(cell.what.split()) < 3:
        yield "it does not say what happens"
    found = re.fullmatch(r"`([\w/]+\.py)::(test_\w+)`", cell.test)
    if found is None:
        yield "it names no test"
    elif not file_of(found[1]).exists():
        yield f"{found[1]} is not there"
    elif not re.search(
        rf"^\s*(async )?def {found[2]}\(", file_of(found[1]).read_text(), re.MULTILINE
    ):
        yield f"{found[2]} is not in {found[1]}"


def test_each_capability_meets_each_event() -> None:
    found = tables()
    assert tuple(found) == CAPABILITIES
    for name, cells in found.items():
        assert tuple(cell.event for cell in cells) == EVENTS, name


@pytest.mark.parametrize("name", CAPABILITIES)
def test_each_cell_has_its_proof(name: str) -> None:
    cells = tables()[name]
    assert [f"{cell.event}: {each}" for cell in cells for each in wrong(cell)] == []


def test_a_wrong_cell_is_found() -> None:
    cell = Cell("retry", "it runs again", "`docs/test_interactions.py::test_no_such_thing`")
    assert list(wrong(cell)) == ["test_no_such_thing is not in docs/test_interactions.py"]
    cell = cell._replace(test="`docs/no_such_file.py::test_x`")
    assert list(wrong(cell)) == ["docs/no_such_file.py is not there"]
    assert list(wrong(cell._replace(what="", test=""))) == [
        "it does not say what happens",
        "it names no test",
    ]
