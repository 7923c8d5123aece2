"""Texts of files that the command line writes, with places that are filled in."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import PurePosixPath
from typing import Final

__all__ = ["LINE", "filled", "import_line", "template", "templates_under"]

# Not string.Template: a Makefile is full of dollars.
_PLACE: Final = re.compile(r"\{\{ (\w+) \}\}")
_PLACE_IN_PATH: Final = re.compile(r"__(\w+?)__(?=[/.])")
SUFFIX: Final = ".tmpl"
"""Of all templates: tools must not take them for modules of asyncjobs."""
LINE: Final = 88
"""The limit of the formatter, if a project does not set one."""


def import_line(module: str, name: str) -> str:
    """`from module import name`, broken as the formatter breaks it."""
    line = f"from {module} import {name}"
    if len(line) <= LINE:
        return line
    return f"from {module} import (\n    {name},\n)"


def filled(text: str, values: Mapping[str, str]) -> str:
    """The text with each `{{ name }}` replaced. Raises KeyError for a name without a value."""
    return _PLACE.sub(lambda place: values[place[1]], text)


def template(package: str, name: str) -> str:
    """The text of one template beside the modules of a package."""
    return (files(package) / "templates" / f"{name}{SUFFIX}").read_text("utf-8")


def templates_under(
    package: str, folder: str, values: Mapping[str, str]
) -> dict[PurePosixPath, str]:
    """Every file that the templates of a folder make. Paths have places, too: `__package__/`."""
    root = files(package) / "templates" / folder
    return {
        PurePosixPath(_path(path.removesuffix(SUFFIX), values)): filled(text, values)
        for path, text in _found(root, "")
    }


def _path(path: str, values: Mapping[str, str]) -> str:
    return _PLACE_IN_PATH.sub(lambda place: values.get(place[1], place[0]), path)


def _found(folder: Traversable, before: str) -> Iterator[tuple[str, str]]:
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        path = f"{before}{entry.name}"
        # What is no template, such as a cache of an editor, stays out of projects.
        if entry.is_dir():
            yield from _found(entry, f"{path}/")
        elif entry.name.endswith(SUFFIX):
            yield path, entry.read_text("utf-8")
