"""Writes several files of a user's project: all of them, or none."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import click

from asyncjobs.cli.shared.confirm import can_ask, confirm

__all__ = ["ask_to_overwrite", "write_all"]


def ask_to_overwrite(paths: Iterable[Path], *, force: bool) -> None:
    """Return if files that are there may be replaced.

    Asks on a terminal. Raises ClickException, naming the files, where nobody can be asked, and
    Abort for a no.
    """
    there = [path for path in paths if os.path.lexists(path)]
    if force or not there:
        return
    names = ", ".join(_shown(path) for path in there)
    if not can_ask():
        raise click.ClickException(
            f"nothing was written, for it would replace {names}; move them away, or say --force"
        )
    if not confirm(f"Replace {names}?"):
        raise click.Abort


def write_all(texts: Mapping[Path, str]) -> None:
    """Write each text into its file, and make the folders.

    Raises ClickException, naming the file, if one cannot be written. Then, as after Ctrl-C, each
    file and each folder is what it was.
    """
    undo = _Undo()
    try:
        for path, text in texts.items():
            try:
                undo.note(path)
                _replace(path, text)
            except OSError as error:
                raise click.ClickException(
                    f"nothing was written, for {_shown(path)} cannot be: {error.strerror or error}"
                ) from None
    except BaseException:
        undo.run()
        raise


def _shown(path: Path) -> str:
    return click.format_filename(os.path.relpath(path))


def _replace(path: Path, text: str) -> None:
    """Whoever reads the file meanwhile sees the old text or the new one."""
    # In the same folder: a file cannot be renamed into another file system.
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(descriptor, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        os.chmod(name, _mode(path))
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def _mode(path: Path) -> int:
    """That of the file, or that which `open` gives a new one: mkstemp hides its files from
    others."""
    try:
        return path.stat().st_mode & 0o777
    except FileNotFoundError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask


class _Undo:
    """What has to be done so that everything is as before."""

    def __init__(self) -> None:
        self._before: dict[Path, str | None] = {}
        self._folders: list[Path] = []

    def note(self, path: Path) -> None:
        """Remember the file, and make its folder."""
        # Folder by folder, so that those that were there are not removed afterwards.
        missing = [folder for folder in path.parents if not folder.exists()]
        for folder in reversed(missing):
            folder.mkdir()
            self._folders.append(folder)
        text = None
        if path.exists():
            text = path.read_text("utf-8")
        self._before[path] = text

    def run(self) -> None:
        for path, text in self._before.items():
            if text is not None:
                _replace(path, text)
                continue
            # The file that could not be written, or a folder of it, is not there.
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                path.unlink()
        for folder in reversed(self._folders):
            folder.rmdir()
