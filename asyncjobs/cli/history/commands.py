"""`asyncjobs history`: the group of the commands for the past."""

from __future__ import annotations

import click

from asyncjobs.cli.history.finished import finished
from asyncjobs.cli.history.functions import functions

__all__ = ["history"]


@click.group()
def history() -> None:
    """Look at jobs that have ended, and at what job functions took."""


for _command in (finished, functions):
    history.add_command(_command)
