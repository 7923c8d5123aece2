"""Adds a job to the module that lists them, `jobs/__init__.py`."""

from __future__ import annotations

import ast
from pathlib import Path

import click

from asyncjobs.cli.shared.templates import import_line

__all__ = ["listed"]


def listed(path: Path, package: str, name: str) -> str:
    """The text of the module with the import of the job, in its place by the alphabet.

    All else stays as it is. Raises ClickException if the module cannot be read as Python.
    """
    text = ""
    if path.exists():
        text = path.read_text("utf-8")
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise click.ClickException(
            f"{path} is not Python: line {error.lineno}: {error.msg}"
        ) from None
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    jobs = [node for node in imports if _is_of(node, package)]
    if any(alias.name == name for node in jobs for alias in node.names):
        return text
    # By lines and not by writing the tree: that would lose comments and the user's own layout.
    lines = text.splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    # The second name says that the module offers it to others.
    line = import_line(package, f"{name} as {name}")
    lines.insert(_place(tree, imports, jobs, name), f"{line}\n")
    return "".join(lines)


def _is_of(node: ast.stmt, package: str) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == package and node.level == 0


def _place(
    tree: ast.Module,
    imports: list[ast.Import | ast.ImportFrom],
    jobs: list[ast.Import | ast.ImportFrom],
    name: str,
) -> int:
    """The index of the new line."""
    # Where the formatter would sort it, so that the next check finds nothing.
    smaller = [node for node in jobs if node.names[0].name < name]
    if smaller:
        return smaller[-1].end_lineno or 0
    if jobs:
        return jobs[0].lineno - 1
    if imports:
        return imports[-1].end_lineno or 0
    if ast.get_docstring(tree) is not None:
        return tree.body[0].end_lineno or 0
    return 0
