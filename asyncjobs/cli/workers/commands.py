"""`asyncjobs workers`: the group of the commands for running workers."""

from __future__ import annotations

import click

from asyncjobs.cli.workers.listing import list_workers
from asyncjobs.cli.workers.orders import quiet, resume, stop, weights

__all__ = ["workers"]


@click.group()
def workers() -> None:
    """Look at running workers, and order them to be quiet, to stop, or to share anew."""


for _command in (list_workers, quiet, resume, stop, weights):
    workers.add_command(_command)
