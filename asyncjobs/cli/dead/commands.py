"""`asyncjobs dead`: the group of the commands for dead jobs."""

from __future__ import annotations

import click

from asyncjobs.cli.dead.changes import purge, retry
from asyncjobs.cli.dead.listing import list_dead
from asyncjobs.cli.dead.show import show_dead

__all__ = ["dead"]


@click.group()
def dead() -> None:
    """Look at dead jobs, run them again, or delete them."""


for _command in (list_dead, show_dead, retry, purge):
    dead.add_command(_command)
