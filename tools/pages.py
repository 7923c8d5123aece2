"""Writes the pages of docs/reference/ from the code.

    python tools/pages.py            write the pages
    python tools/pages.py --check    end with 1 when a page differs from what would be written

Each page has a module beside this one, and its function `page` makes the text.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

NAMES = ("settings", "cli", "api", "telemetry")
FOLDER = Path(__file__).resolve().parent.parent / "docs" / "reference"


def text_of(name: str) -> str:
    """What the page should say."""
    # Loaded one by one: each needs other packages, and a test may have only some of them.
    text = importlib.import_module(f"{name}_page").page()
    assert isinstance(text, str)
    return text


def is_current(name: str) -> bool:
    """Whether the page says what the code says."""
    path = FOLDER / f"{name}.md"
    return path.is_file() and path.read_text() == text_of(name)


def write(name: str) -> None:
    (FOLDER / f"{name}.md").write_text(text_of(name))


def main(arguments: Sequence[str], names: Sequence[str] = NAMES) -> int:
    if "--check" not in arguments:
        for name in names:
            write(name)
        return 0
    stale = [name for name in names if not is_current(name)]
    for name in stale:
        sys.stderr.write(f"docs/reference/{name}.md is not up to date; run make settings\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
