"""`asyncjobs generate`: write code into a project."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import click

from asyncjobs.cli.shared.files import ask_to_overwrite, write_all
from asyncjobs.cli.shared.naming import snake_case
from asyncjobs.errors import ConfigError

__all__ = ["generate"]

_EPILOG: Final = """\b
Exit codes:
  0  the job is there
  1  no project, or files are there already, or cannot be written: nothing was changed
  2  wrong usage
"""


@click.group()
def generate() -> None:
    """Write code into a project that asyncjobs new has made, or one like it."""


@generate.command(epilog=_EPILOG)
@click.argument("name")
@click.option("--queue", metavar="Q", help="The queue of the job.")
@click.option("--sync", is_flag=True, help="A plain def, which runs in a thread.")
@click.option("--cron", metavar="EXPR", help="Enqueue it at these times, in UTC: '30 2 * * *'.")
@click.option("--force", is_flag=True, help="Replace files that are there.")
def job(name: str, queue: str | None, sync: bool, cron: str | None, force: bool) -> None:
    """Write the job function NAME and its test, and register it.

    NAME may be send_mail, send-mail or SendMail. The project is that of the nearest pyproject.toml
    with [tool.asyncjobs].
    """
    # The names of the commands must not wait for this.
    from asyncjobs.cli.generate.job import NewJob, files_of
    from asyncjobs.cli.generate.project import find_project

    name = snake_case(name)
    try:
        wanted = NewJob(name, queue, sync, cron)
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    project = find_project(Path.cwd())
    texts, grown = files_of(wanted, project)
    # The list of jobs gets a line more and loses none, so there is nothing to ask.
    ask_to_overwrite(texts, force=force)
    write_all(texts | grown)
    for path in texts | grown:
        click.echo(f"  {click.format_filename(os.path.relpath(path))}")
