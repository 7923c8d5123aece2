"""`asyncjobs` and its commands: flags, their environment variables, help.

Imports little: what a command needs is imported when it runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from asyncjobs import __version__
from asyncjobs.cli.values import Duration, Queues, merge_queues

__all__ = ["cli", "main"]

F = TypeVar("F", bound=Callable[..., Any])

APP_VARIABLE = "ASYNCJOBS_APP"
LEVELS = ("debug", "info", "warning", "error", "critical")

_EPILOG = """\b
Signals (SIGTERM, SIGINT):
  first   take no more jobs, let the running ones finish within --grace;
          what remains is released and spends no attempt
  second  release the running jobs now
  third   exit now, with 128 + the signal's number

\b
Exit codes:
  0  clean
  1  runtime failure
  2  usage, configuration, or APP cannot be imported
  3  the store is unreachable at the start, or of another layout
  4  the grace was over, or a second signal came: jobs were released
"""


def main() -> None:
    """Run the command line and exit the process."""
    cli(prog_name="asyncjobs")


def _flag(name: str, **settings: Any) -> Callable[[F], F]:
    variable = f"ASYNCJOBS_WORKER_{name.removeprefix('--').replace('-', '_').upper()}"
    return click.option(name, envvar=variable, show_envvar=True, **settings)


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="asyncjobs %(version)s")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Run async functions as jobs, at least once, in worker processes."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@cli.command(epilog=_EPILOG)
@click.argument("app", required=False, envvar=APP_VARIABLE)
@_flag("--factory", is_flag=True, help="APP is a function that returns the app.")
@_flag(
    "--queues",
    type=Queues(),
    multiple=True,
    callback=merge_queues,
    metavar="NAME[:WEIGHT],...",
    help="Queues to take jobs from, with weights; may be repeated. By default all that the "
    "job functions name, and default.",
)
@_flag(
    "--concurrency",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    metavar="N",
    help="Jobs running at a time, at the most.",
)
@_flag("--burst", is_flag=True, help="End when nothing is ready, running, or due soon.")
@_flag(
    "--burst-wait",
    type=Duration(),
    default="5s",
    show_default=True,
    help="What is due soon, for --burst.",
)
@_flag(
    "--grace",
    type=Duration(),
    default="30s",
    show_default=True,
    help="How long running jobs may take to finish at a stop.",
)
@_flag("--max-jobs", type=click.IntRange(min=1), metavar="N", help="End after N jobs.")
@_flag(
    "--threads",
    type=click.IntRange(min=1),
    default=40,
    show_default=True,
    metavar="N",
    help="Sync job functions running at a time, at the most.",
)
@_flag(
    "--lease",
    type=Duration(),
    default="15s",
    show_default=True,
    help="How long a worker that died keeps its jobs; at least 1s.",
)
@_flag("--name", show_default="host:pid", help="Name of the worker in logs and lists.")
@_flag(
    "--log-level",
    type=click.Choice(LEVELS, case_sensitive=False),
    default="info",
    show_default=True,
    help="What is logged to stderr.",
)
@_flag(
    "--log-format",
    type=click.Choice(["auto", "console", "json"], case_sensitive=False),
    default="auto",
    show_default=True,
    help="auto: console on a terminal, JSON lines elsewhere. NO_COLOR is honoured.",
)
@click.pass_context
def worker(ctx: click.Context, /, app: str | None, **flags: Any) -> None:
    """Run the jobs of APP until stopped.

    APP is module:attribute, by default $ASYNCJOBS_APP; the working directory is on the
    path. Without :attribute, the only AsyncJobs of the module. Durations are a number
    and a unit: 250ms, 30s, 5m, 2h.

    \b
    Example: asyncjobs worker tasks:app --queues mail:3,default:1
    """
    if not app or not app.strip():
        raise click.UsageError(
            f"no APP; write asyncjobs worker module:attribute, or set {APP_VARIABLE}", ctx
        )
    ctx.exit(_run_worker(app, flags))


def _run_worker(app: str, flags: dict[str, Any]) -> int:
    from asyncjobs.cli.loading import LoadError, load_app, put_working_directory_on_path
    from asyncjobs.cli.logs import configure_logging, is_json
    from asyncjobs.cli.serve import ExitCode, WorkerOptions, serve

    json = is_json(flags["log_format"])
    configure_logging(flags["log_level"], json=json)
    put_working_directory_on_path()
    try:
        loaded = load_app(app, factory=flags["factory"])
    except LoadError as error:
        if error.traceback:
            click.echo(error.traceback, err=True)
        click.echo(f"Error: APP {app!r}: {error}", err=True)
        return ExitCode.USAGE
    return serve(
        loaded,
        WorkerOptions(
            queues=flags["queues"],
            concurrency=flags["concurrency"],
            burst=flags["burst"],
            burst_wait_s=flags["burst_wait"],
            grace_s=flags["grace"],
            lease_s=flags["lease"],
            max_jobs=flags["max_jobs"],
            threads=flags["threads"],
            name=flags["name"],
            json=json,
        ),
    )
