"""`asyncjobs check-celery`: how much of a Celery code base moves by itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from asyncjobs.host.exits import ExitCode

if TYPE_CHECKING:
    from asyncjobs.cli.celery.report import Report
    from asyncjobs.cli.celery.sighting import Sighting

__all__ = ["check_celery"]

_EPILOG: Final = """\b
Exit codes:
  0  all that was found moves by itself, or there is no Celery
  1  something needs a hand or has no equal here, or a Python file could not be read
  2  wrong usage, or there is no Python file
"""


@click.command("check-celery", epilog=_EPILOG)
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--only",
    type=click.Choice(["moves", "needs-hand", "no-equal"]),
    help="Show only this. Counts and exit code stay the same.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON on one line.")
@click.pass_context
def check_celery(ctx: click.Context, path: Path, only: str | None, as_json: bool) -> None:
    """Say what of the Celery code base at PATH moves by itself, and what needs a hand.

    Reads Python files and files that start Celery, such as a Procfile. Imports nothing of them, and
    shows names only, never values. Folders that begin with a dot, environments and node_modules are
    left out.
    """
    # Most commands do not need the rules.
    from asyncjobs.cli.celery.rule import Verdict
    from asyncjobs.cli.shared.render import show, show_json

    report = examine(path)
    if not report.files and not report.unread:
        raise click.UsageError(f"{click.format_filename(path)} has no Python file")
    # The answer is that of the whole code base, so that --only is safe in a check of every change.
    chosen = None
    if only is not None:
        chosen = Verdict(only)
    if as_json:
        show_json(report.fields(chosen))
    else:
        show(*report.parts(chosen))
    ctx.exit(ExitCode.failed_if(not report.is_clear))


def examine(root: Path) -> Report:
    """What was found below this path."""
    from asyncjobs.cli.celery import files
    from asyncjobs.cli.celery.project import Project
    from asyncjobs.cli.celery.reading import read
    from asyncjobs.cli.celery.report import Report
    from asyncjobs.cli.celery.shell import commands_of

    sources: list[files.SourceFile] = []
    sightings: list[Sighting] = []
    skipped: list[files.Skipped] = []
    package = files.package_of(root)
    for each in files.find(root):
        if isinstance(each, files.Skipped):
            skipped.append(each)
            continue
        shown, path = each
        found: files.SourceFile | files.TextFile | files.Skipped
        if shown.endswith(".py"):
            found = files.read_source(shown, path, package)
        else:
            found = files.read_text(shown, path)
        if isinstance(found, files.Skipped):
            skipped.append(found)
        elif isinstance(found, files.SourceFile):
            sources.append(found)
        else:
            sightings += commands_of(found)
    uses, deep = read(Project(sources))
    return Report([*uses, *sightings], [*skipped, *deep], len(sources) - len(deep))
