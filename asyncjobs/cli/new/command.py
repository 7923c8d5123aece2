"""`asyncjobs new NAME`: make a project."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import Final

import click

from asyncjobs import __version__
from asyncjobs.cli.new.source import installed_from
from asyncjobs.cli.shared.confirm import can_ask
from asyncjobs.cli.shared.files import ask_to_overwrite, write_all
from asyncjobs.cli.shared.naming import package_name
from asyncjobs.cli.shared.templates import templates_under

__all__ = ["new"]

_HERE: Final = "asyncjobs.cli.new"
_EPILOG: Final = """\b
Exit codes:
  0  the project is there
  1  files are there already, or cannot be written: nothing was changed
  2  wrong usage
"""
VARIANTS: Final = ("plain", "fastapi", "django")


@click.command(epilog=_EPILOG)
@click.argument("name")
@click.option("--plain", "variant", flag_value="plain", help="Jobs only. The default.")
@click.option("--fastapi", "variant", flag_value="fastapi", help="With a web app in FastAPI.")
@click.option("--django", "variant", flag_value="django", help="With a Django site.")
@click.option("--force", is_flag=True, help="Replace files that are there.")
def new(name: str, variant: str | None, force: bool) -> None:
    """Make a project in the folder NAME: an app, a job, tests and a compose file.

    \b
    Example: asyncjobs new shop --fastapi && cd shop && make test
    """
    package = package_name(name)
    if variant is None:
        variant = _asked()
    root = Path.cwd() / name
    texts = {root / path: text for path, text in project(name, package, variant).items()}
    ask_to_overwrite(texts, force=force)
    write_all(texts)
    for path in texts:
        click.echo(f"  {click.format_filename(os.path.relpath(path))}")
    click.echo(f"\nNext: cd {name} && make test")


def _asked() -> str:
    # A script must not wait for an answer that nobody gives.
    if not can_ask():
        return VARIANTS[0]
    kind = click.Choice(VARIANTS)
    answer: str = click.prompt("Which kind of project", type=kind, default=VARIANTS[0], err=True)
    return answer


def project(name: str, package: str, variant: str) -> dict[PurePosixPath, str]:
    """All files of a new project, by their paths in its folder."""
    values = {
        "name": name,
        "package": package,
        "variable": package.upper(),
        "variant": variant,
        "version": __version__,
        "source": installed_from(),
    }
    common = templates_under(_HERE, "common", values)
    # A variant has its own texts of some files that all projects have.
    return common | templates_under(_HERE, variant, values)
