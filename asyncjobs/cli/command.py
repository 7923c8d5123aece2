"""`asyncjobs`: the program, and the list of its commands.

Imports little, so that `--help` and completion are fast: a command imports what it needs when it
runs.
"""

from __future__ import annotations

import click

from asyncjobs import __version__
from asyncjobs.cli.celery.command import check_celery
from asyncjobs.cli.check.check import check
from asyncjobs.cli.check.doctor import doctor
from asyncjobs.cli.completion import completion
from asyncjobs.cli.dead.commands import dead
from asyncjobs.cli.events.commands import events
from asyncjobs.cli.exporter import exporter
from asyncjobs.cli.flows.commands import flows
from asyncjobs.cli.generate.commands import generate
from asyncjobs.cli.history.commands import history
from asyncjobs.cli.jobs.commands import jobs
from asyncjobs.cli.jobs.enqueue import enqueue
from asyncjobs.cli.limits.commands import limits
from asyncjobs.cli.new.command import new
from asyncjobs.cli.queues.commands import queues
from asyncjobs.cli.queues.stats import stats
from asyncjobs.cli.schedules.commands import schedules
from asyncjobs.cli.shared.streams import prepare_streams
from asyncjobs.cli.unique.commands import unique
from asyncjobs.cli.worker.command import worker
from asyncjobs.cli.workers.commands import workers

__all__ = ["cli", "main"]


def main() -> None:
    """Run the command line and exit the process."""
    prepare_streams()
    cli(prog_name="asyncjobs")


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="asyncjobs %(version)s")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Run async functions as jobs, at least once, in worker processes."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


for _command in (
    check,
    check_celery,
    completion,
    dead,
    doctor,
    enqueue,
    events,
    exporter,
    flows,
    generate,
    history,
    jobs,
    limits,
    new,
    queues,
    schedules,
    stats,
    unique,
    worker,
    workers,
):
    cli.add_command(_command)
