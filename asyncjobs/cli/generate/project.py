"""Finds the project of the user: where job functions and their tests belong."""

from __future__ import annotations

import ast
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

__all__ = ["Project", "find_project"]

FILE: Final = "pyproject.toml"
EXAMPLE: Final = """\
[tool.asyncjobs]
app = "shop.app:app"
jobs = "shop/jobs"
tests = "tests"
"""


@dataclass(frozen=True, slots=True)
class Project:
    """A project and the places in it that the generator needs."""

    root: Path
    jobs: Path
    tests: Path
    app_module: str
    app_name: str

    @property
    def package(self) -> str:
        """The name under which code imports the folder of the jobs."""
        parts = self.jobs.relative_to(self.root).parts
        # A folder `src` holds packages, and is none.
        if parts[0] == "src":
            parts = parts[1:]
        return ".".join(parts)


def find_project(start: Path) -> Project:
    """The project that the folder is in. Raises ClickException if there is none."""
    # The nearest one: a project may lie in the folder of another one.
    for root in (start, *start.parents):
        table = _table(root / FILE)
        if table is not None:
            return _declared(root, table)
    # Only here and not in the folders above: there may be many projects in them.
    found = [*start.glob("*/jobs/__init__.py"), *start.glob("src/*/jobs/__init__.py")]
    if len(found) == 1:
        return _guessed(start, found[0].parent)
    places = ", ".join(str(path.parent.relative_to(start)) for path in sorted(found)) or "none"
    raise click.ClickException(
        f"there is no project here: neither a {FILE} with [tool.asyncjobs], nor one folder with "
        f"jobs ({places}). Make a project with asyncjobs new, or write into {FILE}:\n\n{EXAMPLE}"
    )


def _table(path: Path) -> dict[str, Any] | None:
    """[tool.asyncjobs] of the file, or None. Raises ClickException for a file that is no TOML."""
    try:
        text = path.read_text("utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        tools = tomllib.loads(text).get("tool", {})
    except tomllib.TOMLDecodeError as error:
        raise click.ClickException(f"{path} is not TOML: {error}") from None
    found: dict[str, Any] | None = tools.get("asyncjobs")
    return found


def _declared(root: Path, table: dict[str, Any]) -> Project:
    app, jobs, tests = (str(table.get(key, "")) for key in ("app", "jobs", "tests"))
    module, _, name = app.partition(":")
    # They come from a file that may be anybody's, and will stand in code and in paths.
    importable = all(part.isidentifier() for part in [*module.split("."), name])
    if not importable or not _inside(root, jobs) or not _inside(root, tests):
        raise click.ClickException(
            f"[tool.asyncjobs] in {root / FILE} needs an app, and folders of the project for jobs "
            f"and tests, as in\n\n{EXAMPLE}"
        )
    return Project(root, root / jobs, root / tests, module, name)


def _inside(root: Path, folder: str) -> bool:
    return bool(folder) and (root / folder).resolve().is_relative_to(root.resolve() / "")


def _guessed(root: Path, jobs: Path) -> Project:
    """A project without the table: the app is what the package of the jobs imports as `app`."""
    package = jobs.parent.name
    module = f"{package}.app"
    tree = ast.parse((jobs / "__init__.py").read_text("utf-8"))
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and any(name.name == "app" for name in node.names):
            module = node.module or module
    return Project(root, jobs, root / "tests", module, "app")
