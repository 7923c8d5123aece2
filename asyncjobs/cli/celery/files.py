"""Finds the files of a code base, and reads them with limits."""

from __future__ import annotations

import os
import stat
import warnings
from ast import Module, parse
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["Skipped", "SourceFile", "TextFile", "find", "package_of", "read_source", "read_text"]

MOST_BYTES: Final = 2 * 1024 * 1024
"""Larger files are made by programs, and their trees take a hundred times as much memory."""
_FOLDERS: Final = frozenset(
    {"__pycache__", "node_modules", "site-packages", "venv", "env", "virtualenv", "build", "dist"}
    | {"htmlcov", "__pypackages__", "bower_components", "egg-info", "vendor"}
)
"""Folders with code of others, or made by programs. Those with a dot in front are left out, too."""
_TEXT_ENDINGS: Final = (".sh", ".yml", ".yaml", ".conf", ".service", ".ini", ".toml", ".cfg")
_TEXT_STARTS: Final = ("Procfile", "Dockerfile", "Makefile", "Containerfile")


class Skipped(NamedTuple):
    """A file or a folder that was not read, and why."""

    path: str
    why: str


class SourceFile(NamedTuple):
    """A Python file as a tree. `name` is its dotted name below the path that was given."""

    path: str
    name: str
    tree: Module


class TextFile(NamedTuple):
    """A file that may start Celery's program."""

    path: str
    lines: list[str]


def find(root: Path) -> Iterator[tuple[str, Path] | Skipped]:
    """The files to read, each with its path below `root`, in the order of their names."""
    if root.is_file():
        yield root.name, root
        return
    failed: list[Skipped] = []

    def note(error: OSError) -> None:
        failed.append(Skipped(_below(root, error.filename), error.strerror or "cannot be read"))

    # rule:41 a code base with links that lead upwards is read once
    # Links to folders are not followed: one that leads upwards would never end.
    for folder, names, files in os.walk(root, onerror=note):
        here = Path(folder)
        names[:] = sorted(name for name in names if _is_theirs(here / name))
        for name in sorted(files):
            if name.endswith(".py") or _may_start_celery(name):
                yield _below(root, here / name), here / name
    yield from failed


def _below(root: Path, path: str | Path) -> str:
    return Path(os.path.relpath(path, root)).as_posix()


def _is_theirs(folder: Path) -> bool:
    """Whether the folder has code of this code base."""
    name = folder.name
    if name.startswith(".") or name in _FOLDERS or name.endswith(".egg-info"):
        return False
    # An environment may have any name.
    return not (folder / "pyvenv.cfg").exists()


def _may_start_celery(name: str) -> bool:
    return name.endswith(_TEXT_ENDINGS) or name.startswith(_TEXT_STARTS)


def _bytes(shown: str, path: Path) -> bytes | Skipped:
    try:
        status = path.stat()
        # Opening a pipe would wait for somebody who writes into it.
        if not stat.S_ISREG(status.st_mode):
            return Skipped(shown, "no regular file")
        if status.st_size > MOST_BYTES:
            return Skipped(shown, f"larger than {MOST_BYTES // 1024 // 1024} MiB")
        return path.read_bytes()
    except OSError as error:
        return Skipped(shown, error.strerror or "cannot be read")


def package_of(root: Path) -> str:
    """The dotted name of the package that `root` is, with a dot behind; empty if it is none."""
    parts: list[str] = []
    folder = root.absolute()
    while (folder / "__init__.py").exists() and folder.name:
        parts.insert(0, folder.name)
        folder = folder.parent
    return "".join(f"{part}." for part in parts)


def read_source(shown: str, path: Path, package: str = "") -> SourceFile | Skipped:
    """The tree of a Python file, or why there is none. `package`: see `package_of`."""
    found = _bytes(shown, path)
    if isinstance(found, Skipped):
        return found
    try:
        with warnings.catch_warnings():
            # An odd escape in their code is their matter.
            warnings.simplefilter("ignore")
            tree = parse(found, filename=shown)
    except SyntaxError as error:
        # The message may quote the source, but only `msg` does not show a line of it.
        return Skipped(
            f"{shown}:{error.lineno or 1}", f"not Python as this one reads it: {error.msg}"
        )
    except (ValueError, RecursionError, MemoryError) as error:
        return Skipped(shown, f"cannot be read as Python: {type(error).__name__}")
    name = package + shown.removesuffix(".py").replace("/", ".")
    return SourceFile(shown, name.removesuffix(".__init__"), tree)


def read_text(shown: str, path: Path) -> TextFile | Skipped:
    """The lines of another file, or why there are none."""
    found = _bytes(shown, path)
    if isinstance(found, Skipped):
        return found
    return TextFile(shown, found.decode("utf-8", "replace").splitlines())
