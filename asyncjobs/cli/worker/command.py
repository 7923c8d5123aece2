"""`asyncjobs worker`: reads the flags, refuses those that cannot work, and starts the worker.

Imports little, so that `--help` is fast: the worker itself is imported when it starts.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from asyncjobs.cli.worker.flags import worker_flags

if TYPE_CHECKING:
    from asyncjobs.cli.worker.serve import WorkerOptions
    from asyncjobs.host.health.health import HealthOptions
    from asyncjobs.host.supervisor.link import ParentLink

__all__ = ["worker"]

APP_VARIABLE = "ASYNCJOBS_APP"

_EPILOG = """\b
Signals (SIGTERM, SIGINT):
  first   take no more jobs; running jobs may finish within --grace,
          the rest is released and spends no attempt
  second  release the running jobs now
  third   exit now, with 128 + the signal's number
SIGHUP with --processes: replace the processes one by one

\b
Exit codes:
  0  clean: no running job was released
  1  runtime failure
  2  wrong usage or configuration, or APP cannot be imported
  3  the store cannot be reached at the start, or has another layout
  4  the grace was over, or a second signal came: jobs were released
  5  a job blocked the event loop for longer than --hard-limit
  6  the process held more than --max-memory; start it again
  7  a job broke the event loop
"""


@click.command(epilog=_EPILOG)
@click.argument("app", required=False, envvar=APP_VARIABLE)
@worker_flags
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
    # Imported only now, so that `--help` and a wrong flag do not wait for it.
    from asyncjobs.errors import UsageError
    from asyncjobs.host.supervisor.link import ParentLink

    try:
        parent = ParentLink.take()
    except UsageError as error:
        raise click.UsageError(str(error), ctx) from None
    _check_metrics(ctx, flags)
    # A child has the same command line as its parent. Only the link tells them apart; without this
    # check each child would start children.
    if parent is None and (_asks_for_processes(ctx) or flags["reload"]):
        _check_supervised(ctx, flags)
        ctx.exit(_run_parent(flags))
    ctx.exit(_run_worker(app, flags, parent))


def _asks_for_processes(ctx: click.Context) -> bool:
    """Whether a number of processes was given: `--processes 1` is one process with a parent."""
    return ctx.get_parameter_source("processes") is not ParameterSource.DEFAULT


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

    flag = f"--processes {flags['processes']}"
    if flags["reload"]:
        flag = "--reload"
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
    # The parent does not import APP, so each new process imports the code as it is then. A restart
    # and --reload get new code in this way.
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
        # All processes write to the same stderr.
        stamp = {"process": parent.number, "pid": os.getpid()}
    voice = configure_logging(flags["log_level"], json=json, stamp=stamp)
    name = flags["name"]
    if name and parent:
        # Each process is a worker of its own. Lists and logs must tell them apart.
        name = f"{name}-{parent.number}"
    put_working_directory_on_path()
    try:
        loaded = load_app(app, factory=flags["factory"])
    except LoadError as error:
        if error.traceback:
            click.echo(error.traceback, err=True)
        click.echo(f"Error: APP {app!r}: {error}", err=True)
        return ExitCode.USAGE
    # The import may have configured logging.
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
        job_processes=_job_processes(flags),
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


def _job_processes(flags: dict[str, Any]) -> int:
    from asyncjobs.worker.engine.processes.cores import available_cores

    given: int | None = flags["job_processes"]
    if given is not None:
        return given
    # All worker processes share the cores.
    processes: int = flags["processes"]
    return max(1, available_cores() // processes)


def _job_log(flags: dict[str, Any]) -> dict[str, Any]:
    """The level at which jobs are logged; None attaches no listener, since one costs each job
    something."""
    level = None
    if flags["log_jobs"] or flags["log_args"]:
        level = "INFO"
    elif flags["log_level"].lower() == "debug":
        level = "DEBUG"
    return {"job_log_level": level, "log_args": flags["log_args"]}
