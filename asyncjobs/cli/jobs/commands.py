"""`asyncjobs jobs`: the group of the commands for jobs in any state."""

from __future__ import annotations

import click

from asyncjobs.cli.jobs.actions import cancel, delete, retry, run_now
from asyncjobs.cli.jobs.edit import edit
from asyncjobs.cli.jobs.listing import list_jobs
from asyncjobs.cli.jobs.show import show_job

__all__ = ["jobs"]


@click.group()
def jobs() -> None:
    """List jobs, look at one, and act on them."""


for _command in (list_jobs, show_job, cancel, retry, delete, run_now, edit):
    jobs.add_command(_command)
