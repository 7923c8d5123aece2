"""Which files there are, and the job id of each."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final, Literal
from urllib.parse import quote

_OTHERS: Final = {"site-packages", "dist-packages", "__pycache__"}
_LONGEST_ID: Final = 256


def python_files(folder: Path) -> list[Path]:
    """The `.py` files below `folder`, sorted; installed packages are left out."""
    found: list[Path] = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in _OTHERS]
        found += [Path(parent, name) for name in names if name.endswith(".py")]
    return sorted(path for path in found if path.is_file())


def job_id(path: Path, folder: Path) -> str:
    """The file's path below `folder`, as a job id: printable, no white space, not too long.

    One file has one id, so enqueueing a folder twice makes no job twice.
    """
    name = quote(path.relative_to(folder).as_posix(), safe="/")
    if len(name) <= _LONGEST_ID:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()
    return f"{digest}{name[len(digest) - _LONGEST_ID :]}"


def priority(path: Path, folder: Path) -> Literal["high", "normal", "low"]:
    """Modules of the top folder first, packages next, their tests when there is time."""
    parts = path.relative_to(folder).parts
    if any(part in ("test", "tests", "idle_test") for part in parts[:-1]):
        return "low"
    return "high" if len(parts) == 1 else "normal"
