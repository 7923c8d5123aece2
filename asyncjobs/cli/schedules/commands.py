"""`asyncjobs schedules`: the group of the commands for schedules."""

from __future__ import annotations

import click

from asyncjobs.cli.schedules.backfill import backfill
from asyncjobs.cli.schedules.changes import delete, pause, resume, trigger
from asyncjobs.cli.schedules.listing import list_schedules, next_ticks, show_schedule

__all__ = ["schedules"]


@click.group()
def schedules() -> None:
    """Look at schedules, stop them, and let them make jobs."""


for _command in (
    list_schedules,
    show_schedule,
    next_ticks,
    pause,
    resume,
    trigger,
    backfill,
    delete,
):
    schedules.add_command(_command)
