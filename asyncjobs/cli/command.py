"""`asyncjobs` and its commands: flags, their environment variables, help.

Imports little: what a command needs is imported when it runs.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from asyncjobs import __version__
from asyncjobs.cli.check.check import check
from asyncjobs.cli.check.doctor import doctor
from asyncjobs.cli.completion import completion
from asyncjobs.cli.dead.commands import dead
from asyncjobs.cli.exporter import exporter
from asyncjobs.cli.jobs.enqueue import enqueue
from asyncjobs.cli.jobs.show import jobs
from asyncjobs.cli.queues.forget import queues
from asyncjobs.cli.queues.stats import stats
from asyncjobs.cli.shared.streams import prepare_streams
from asyncjobs.cli.shared.values import Duration, DurationOrOff, Queues, Size, merge_queues

if TYPE_CHECKING:
    from asyncjobs.cli.worker.serve import WorkerOptions
    from asyncjobs.host.health.health import HealthOptions
    from asyncjobs.host.supervisor.link import ParentLink

__all__ = ["cli", "main"]

F = TypeVar("F", bound=Callable[..., Any])

APP_VARIABLE = "ASYNCJOBS_APP"
LEVELS = ("debug", "info", "warning", "error", "critical")

_EPILOG = """\b
Signals (SIGTERM, SIGINT):
  first   take no more jobs; running jobs may finish within --grace,
          the rest is released and spends no attempt
  second  release the running jobs now
  third   exit now, with 128 + the signal's number
SIGHUP with --processes: replace the processes one by one

\b
Exit codes:
  0  clean
  1  runtime failure
  2  wrong usage or configuration, or APP cannot be imported
  3  the store cannot be reached at the start, or has another layout
  4  the grace was over, or a second signal came: jobs were released
  5  a job blocked the event loop for longer than --hard-limit
  6  the process held more than --max-memory; start it again
  7  a job broke the event loop
"""


def main() -> None:
    """Run the command line and exit the process."""
    prepare_streams()
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


for _command in (check, completion, dead, doctor, enqueue, exporter, jobs, queues, stats):
    cli.add_command(_command)


@cli.command(epilog=_EPILOG)
@click.argument("app", required=False, envvar=APP_VARIABLE)
@_flag("--factory", is_flag=True, help="APP is a function that returns the app.")
@_flag(
    "--queues",
    type=Queues(),
    multiple=True,
    callback=merge_queues,
    metavar="NAME[:WEIGHT],...",
    help="Queues to take jobs from, with their weights. May be repeated. By default all queues "
    "of the job functions, and 'default'.",
)
@_flag(
    "--concurrency",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    metavar="N",
    help="How many jobs each process runs at a time.",
)
@_flag(
    "--processes",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="How many worker processes to run. Their parent replaces those that die. Not on Windows.",
)
@_flag("--burst", is_flag=True, help="End when no job is ready, running, or due soon.")
@_flag(
    "--burst-wait",
    type=Duration(),
    default="5s",
    show_default=True,
    help="How far ahead --burst waits for scheduled jobs.",
)
@_flag(
    "--grace",
    type=Duration(),
    default="30s",
    show_default=True,
    help="How long running jobs may take to finish when the worker stops.",
)
@_flag(
    "--max-jobs",
    type=click.IntRange(min=1),
    metavar="N",
    help="End after N jobs. With --processes: each process, and a new one takes its place.",
)
@_flag(
    "--max-memory",
    type=Size(),
    help="Over this much memory, such as 512MiB, take no more jobs, finish within --grace and end "
    "with code 6. With --processes: each process, and a new one takes its place. Not on Windows.",
)
@_flag(
    "--threads",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    metavar="N",
    help="How many sync job functions each process runs at a time. More threads help functions "
    "that wait, not functions that compute.",
)
@_flag(
    "--lease",
    type=Duration(),
    default="15s",
    show_default=True,
    help="How long a worker that died keeps its jobs. At least 1s.",
)
@_flag(
    "--block-warning",
    type=DurationOrOff(),
    default="1s",
    show_default=True,
    help="Log the name of a job that blocks the event loop for this long.",
)
@_flag(
    "--hard-limit",
    type=DurationOrOff(),
    default="5m",
    show_default=True,
    help="End the process with code 5 when a job blocks the event loop for this long.",
)
@_flag(
    "--stuck-after",
    type=DurationOrOff(),
    default="30s",
    show_default=True,
    help="Free the slot of a job that has swallowed its cancellation for this long.",
)
@_flag(
    "--health-port",
    type=click.IntRange(0, 65535),
    metavar="PORT",
    help="Serve /livez, /readyz and /startupz at this port, for all processes together. 0 takes a "
    "free port and logs it.",
)
@_flag(
    "--health-host",
    default="127.0.0.1",
    show_default=True,
    metavar="ADDRESS",
    help="Address for --health-port. Use 0.0.0.0 for probes from other machines.",
)
@_flag(
    "--health-file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="PATH",
    help="Rewrite this file every 2s while the worker is live. It is removed at the end.",
)
@_flag(
    "--metrics-port",
    type=click.IntRange(1, 65535),
    metavar="N",
    help="Serve /metrics for Prometheus at this port. With --processes, each process takes the "
    "next port. Needs the extra prometheus.",
)
@_flag(
    "--metrics-host",
    default="127.0.0.1",
    show_default=True,
    metavar="ADDRESS",
    help="Address for --metrics-port. Use 0.0.0.0 for scrapes from other machines.",
)
@_flag("--name", show_default="host:pid", help="Name of the worker in logs and lists.")
@_flag(
    "--reload",
    is_flag=True,
    help="Restart when a Python file in the working directory changes. For development. Needs the "
    "extra reload.",
)
@_flag(
    "--log-level",
    type=click.Choice(LEVELS, case_sensitive=False),
    default="info",
    show_default=True,
    help="The lowest level that is logged to stderr.",
)
@_flag(
    "--log-format",
    type=click.Choice(["auto", "console", "json"], case_sensitive=False),
    default="auto",
    show_default=True,
    help="auto means console on a terminal and JSON lines elsewhere. NO_COLOR is honoured.",
)
@_flag(
    "--log-jobs",
    is_flag=True,
    help="Log the start and the end of each job, at level info. With --log-level debug both are "
    "logged anyway, at debug.",
)
@_flag(
    "--log-args",
    is_flag=True,
    help="Also log the arguments of jobs, with sensitive values masked. Implies --log-jobs.",
)
@click.pass_context
def worker(ctx: click.Context, /, app: str | None, **flags: Any) -> None:
    """Run the jobs of APP until stopped.

    APP is module:attribute, by default $ASYNCJOBS_APP. Without :attribute, the module must
    have exactly one AsyncJobs. The working directory is on the import path. Durations are a
    number and a unit: 250ms, 30s, 5m, 2h.

    \b
    Example: asyncjobs worker tasks:app --queues mail:3,default:1
    """
    if not app or not app.strip():
        raise click.UsageError(
            f"no APP; write asyncjobs worker module:attribute, or set {APP_VARIABLE}", ctx
        )
    from asyncjobs.errors import UsageError
    from asyncjobs.host.supervisor.link import ParentLink

    try:
        parent = ParentLink.take()
    except UsageError as error:
        raise click.UsageError(str(error), ctx) from None
    _check_metrics(ctx, flags)
    if parent is None and (flags["processes"] > 1 or flags["reload"]):
        _check_supervised(ctx, flags)
        ctx.exit(_run_parent(flags))
    ctx.exit(_run_worker(app, flags, parent))


def _check_metrics(ctx: click.Context, flags: dict[str, Any]) -> None:
    from asyncjobs.cli.shared.metrics import EXTRA_MISSING, can_export

    port = flags["metrics_port"]
    if port is None:
        return
    if not can_export():
        raise click.UsageError(f"--metrics-port {EXTRA_MISSING}", ctx)
    if port + flags["processes"] - 1 > 65535:
        raise click.UsageError(
            f"--metrics-port {port} leaves no ports for {flags['processes']} processes; give one "
            f"up to {65536 - flags['processes']}",
            ctx,
        )


def _check_supervised(ctx: click.Context, flags: dict[str, Any]) -> None:
    from asyncjobs.cli.worker.reload import can_watch

    flag = "--reload" if flags["reload"] else f"--processes {flags['processes']}"
    if sys.platform == "win32":
        raise click.UsageError(
            f"{flag} needs signals that Windows does not have; start one worker for each process "
            "there, without the flag",
            ctx,
        )
    if not flags["reload"]:
        return
    if flags["burst"]:
        raise click.UsageError(
            "--reload waits for changes and --burst ends; leave one of them out", ctx
        )
    if not can_watch():
        raise click.UsageError(
            "--reload needs watchfiles; pip install 'asyncjobs-framework[reload]'", ctx
        )


def _run_parent(flags: dict[str, Any]) -> int:
    from asyncjobs.cli.shared.logs import configure_logging, is_json
    from asyncjobs.cli.worker.supervise import SuperviseOptions, supervise

    json = is_json(flags["log_format"])
    configure_logging(flags["log_level"], json=json)
    return supervise(
        SuperviseOptions(
            processes=flags["processes"],
            reload=flags["reload"],
            burst=flags["burst"],
            grace_s=flags["grace"],
            name=flags["name"] or f"{socket.gethostname()}:{os.getpid()}",
            json=json,
            health=_health(flags),
        )
    )


def _health(flags: dict[str, Any]) -> HealthOptions:
    from asyncjobs.host.health.health import HealthOptions

    return HealthOptions(flags["health_port"], flags["health_host"], flags["health_file"])


def _run_worker(app: str, flags: dict[str, Any], parent: ParentLink | None) -> int:
    from asyncjobs.cli.shared.loading import LoadError, load_app, put_working_directory_on_path
    from asyncjobs.cli.shared.logs import configure_logging, is_json
    from asyncjobs.cli.worker.serve import ExitCode, serve

    json = is_json(flags["log_format"])
    stamp: dict[str, Any] | None = None
    if parent:
        stamp = {"process": parent.number, "pid": os.getpid()}
    voice = configure_logging(flags["log_level"], json=json, stamp=stamp)
    name = flags["name"]
    if name and parent:
        name = f"{name}-{parent.number}"
    put_working_directory_on_path()
    try:
        loaded = load_app(app, factory=flags["factory"])
    except LoadError as error:
        if error.traceback:
            click.echo(error.traceback, err=True)
        click.echo(f"Error: APP {app!r}: {error}", err=True)
        return ExitCode.USAGE
    voice.restore()
    return serve(loaded, _options(flags, name, json=json), voice, parent)


def _options(flags: dict[str, Any], name: str | None, *, json: bool) -> WorkerOptions:
    from asyncjobs.cli.worker.serve import WorkerOptions

    return WorkerOptions(
        queues=flags["queues"],
        concurrency=flags["concurrency"],
        burst=flags["burst"],
        burst_wait_s=flags["burst_wait"],
        grace_s=flags["grace"],
        lease_s=flags["lease"],
        max_jobs=flags["max_jobs"],
        max_memory=flags["max_memory"],
        threads=flags["threads"],
        block_warning_s=flags["block_warning"],
        hard_limit_s=flags["hard_limit"],
        stuck_after_s=flags["stuck_after"],
        name=name,
        json=json,
        health=_health(flags),
        metrics_port=flags["metrics_port"],
        metrics_host=flags["metrics_host"],
        **_job_log(flags),
    )


def _job_log(flags: dict[str, Any]) -> dict[str, Any]:
    """At which level jobs are logged, if at all; a listener costs each job something."""
    level = None
    if flags["log_jobs"] or flags["log_args"]:
        level = "INFO"
    elif flags["log_level"].lower() == "debug":
        level = "DEBUG"
    return {"job_log_level": level, "log_args": flags["log_args"]}
