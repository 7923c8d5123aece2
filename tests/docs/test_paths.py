"""Each file that a document or a docstring names is there: moving a file moves its name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "asyncjobs"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
SOURCES = sorted([*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.lua"), *(ROOT / "tools").glob("*.py")])
INTERNALS = ROOT / "docs/explanation/internals.md"

FILE = re.compile(r"`((?:[\w.-]+/)*[\w-]+\.(?:py|lua|toml|md)|(?:[\w-]+/)+)`")
FROM_ROOT = re.compile(r"(?<![\w/.])((?:asyncjobs|docs|tests|tools|benchmarks)/[\w/.-]*\.\w+)")
ELSEWHERE = {".asyncjobs/"}
"""Folders that asyncjobs makes, in no repository."""


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def is_there(name: str) -> bool:
    """From the root, from the package, or a script as `lua/name.lua`."""
    folders = (ROOT, PACKAGE, PACKAGE / "store" / "redis")
    return any((folder / name).exists() for folder in folders)


def missing(document: Path) -> Iterator[str]:
    for number, line in enumerate(document.read_text().splitlines(), 1):
        for name in FILE.findall(line):
            # A guide names files of the reader, `tasks.py`. The page about the code has none.
            is_readers = "/" not in name and document != INTERNALS
            if not is_readers and not is_there(name) and name not in ELSEWHERE:
                yield f"{name_of(document)}:{number}: {name}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_a_document_names_files_that_are_there(document: Path) -> None:
    assert list(missing(document)) == []


def test_the_code_names_files_that_are_there() -> None:
    wrong = [
        f"{name_of(source)}: {name}"
        for source in SOURCES
        for name in FROM_ROOT.findall(source.read_text())
        if not (ROOT / name).exists()
    ]
    assert wrong == []


def test_a_file_that_is_not_there_is_found() -> None:
    assert not is_there("worker/no_such_file.py")
    assert not is_there("intake.py")
    assert "worker/engine/intake.py" in FILE.findall(INTERNALS.read_text())
    assert FILE.findall("`client/lone.py`, `lua/offer.lua`, `host/health/`, `app.on`") == [
        "client/lone.py",
        "lua/offer.lua",
        "host/health/",
    ]
