"""`asyncjobs queues`: the group of the commands for queues."""

from __future__ import annotations

import click

from asyncjobs.cli.queues.drain import drain
from asyncjobs.cli.queues.forget import forget
from asyncjobs.cli.queues.listing import list_queues
from asyncjobs.cli.queues.pauses import pause, resume
from asyncjobs.cli.queues.purge import purge

__all__ = ["queues"]


@click.group()
def queues() -> None:
    """Look at queues; pause, drain, purge and forget them."""


for _command in (list_queues, pause, resume, drain, purge, forget):
    queues.add_command(_command)
