"""`asyncjobs flows`: the group of the commands for flows."""

from __future__ import annotations

import click

from asyncjobs.cli.flows.changes import cancel, drop, retry
from asyncjobs.cli.flows.listing import list_flows, show_flow, why

__all__ = ["flows"]


@click.group()
def flows() -> None:
    """Look at flows, cancel them and retry them."""


for _command in (list_flows, show_flow, why, cancel, retry, drop):
    flows.add_command(_command)
