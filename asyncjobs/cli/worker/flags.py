"""The flags of `asyncjobs worker`. Each can also be set by an environment variable."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from asyncjobs.cli.shared.values import Duration, DurationOrOff, Queues, Size, merge_queues

__all__ = ["worker_flags"]

F = TypeVar("F", bound=Callable[..., Any])

LEVELS = ("debug", "info", "warning", "error", "critical")


def _flag(name: str, **settings: Any) -> Callable[[F], F]:
    variable = f"ASYNCJOBS_WORKER_{name.removeprefix('--').replace('-', '_').upper()}"
    return click.option(name, envvar=variable, show_envvar=True, **settings)


# The groups stand in the order of `--help`: what to run, and when to end.
_WORK = (
    _flag("--factory", is_flag=True, help="APP is a function that returns the app."),
    _flag(
        "--queues",
        type=Queues(),
        multiple=True,
        callback=merge_queues,
        metavar="NAME[:WEIGHT],...",
        help="Queues to take jobs from, with their weights. May be repeated. By default all queues "
        "of the job functions, and 'default'.",
    ),
    _flag(
        "--concurrency",
        type=click.IntRange(min=1),
        default=1000,
        show_default=True,
        metavar="N",
        help="How many jobs each process runs at a time.",
    ),
    _flag(
        "--processes",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        metavar="N",
        help="How many worker processes to run. A parent process replaces those that die, and "
        "gives their jobs back at once. Given as 1, there is one process and its parent. Not on "
        "Windows.",
    ),
    _flag(
        "--burst",
        is_flag=True,
        help="End when no job is ready, running or due within --burst-wait.",
    ),
    _flag(
        "--burst-wait",
        type=Duration(),
        default="5s",
        show_default=True,
        help="With --burst: also wait for scheduled jobs that are due within this time.",
    ),
    _flag(
        "--grace",
        type=Duration(),
        default="30s",
        show_default=True,
        help="How long running jobs may take to finish when the worker stops.",
    ),
    _flag(
        "--max-jobs",
        type=click.IntRange(min=1),
        metavar="N",
        help="End after N jobs. With --processes, each process ends after N jobs and is replaced.",
    ),
    _flag(
        "--max-memory",
        type=Size(),
        help="Above this much memory, such as 512MiB, take no more jobs, finish running ones "
        "within --grace and end with code 6. With --processes, each process has this limit and is "
        "replaced. Not on Windows.",
    ),
    _flag(
        "--threads",
        type=click.IntRange(min=1),
        default=16,
        show_default=True,
        metavar="N",
        help="How many sync job functions each process runs at a time. More threads help functions "
        "that wait, not functions that compute.",
    ),
    _flag(
        "--job-processes",
        type=click.IntRange(min=1),
        metavar="N",
        help="How many attempts with isolation='process' run at a time, each in a process of its "
        "own. By default the number of cores, divided by --processes.",
    ),
    _flag(
        "--lease",
        type=Duration(),
        default="15s",
        show_default=True,
        help="How long the jobs of a dead worker wait until others may take them. At least 1s.",
    ),
)
# What happens to jobs that misbehave.
_WATCH = (
    _flag(
        "--block-warning",
        type=DurationOrOff(),
        default="1s",
        show_default=True,
        help="Log the name of a job that blocks the event loop for this long.",
    ),
    _flag(
        "--hard-limit",
        type=DurationOrOff(),
        default="5m",
        show_default=True,
        help="End the process with code 5 when a job blocks the event loop for this long.",
    ),
    _flag(
        "--stuck-after",
        type=DurationOrOff(),
        default="30s",
        show_default=True,
        help="Free the slot of a job that still runs this long after it was cancelled.",
    ),
)
_HEALTH = (
    _flag(
        "--health-port",
        type=click.IntRange(0, 65535),
        metavar="PORT",
        help="Serve /livez, /readyz and /startupz at this port, for all processes together. 0 "
        "takes a free port and logs it.",
    ),
    _flag(
        "--health-host",
        default="127.0.0.1",
        show_default=True,
        metavar="ADDRESS",
        help="Address for --health-port. Use 0.0.0.0 for probes from other machines.",
    ),
    _flag(
        "--health-file",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="PATH",
        help="Rewrite this file every 2s while the worker is live, and remove it at the end.",
    ),
)
_METRICS = (
    _flag(
        "--metrics-port",
        type=click.IntRange(1, 65535),
        metavar="N",
        help="Serve /metrics for Prometheus at this port. With --processes, each process takes the "
        "next port. Needs the extra prometheus.",
    ),
    _flag(
        "--metrics-host",
        default="127.0.0.1",
        show_default=True,
        metavar="ADDRESS",
        help="Address for --metrics-port. Use 0.0.0.0 for scrapes from other machines.",
    ),
)
_PROCESS = (
    _flag("--name", show_default="host:pid", help="Name of the worker in logs and lists."),
    _flag(
        "--reload",
        is_flag=True,
        help="Restart when a Python file in the working directory changes. For development. Needs "
        "the extra reload.",
    ),
)
_LOG = (
    _flag(
        "--log-level",
        type=click.Choice(LEVELS, case_sensitive=False),
        default="info",
        show_default=True,
        help="The lowest level that is logged to stderr.",
    ),
    _flag(
        "--log-format",
        type=click.Choice(["auto", "console", "json"], case_sensitive=False),
        default="auto",
        show_default=True,
        help="auto means console on a terminal and JSON lines elsewhere. $NO_COLOR turns colors "
        "off.",
    ),
    _flag(
        "--log-jobs",
        is_flag=True,
        help="Log the start and the end of each job, at level info. With --log-level debug, both "
        "are logged anyway, at debug.",
    ),
    _flag(
        "--log-args",
        is_flag=True,
        help="Also log the arguments of jobs, with sensitive values masked. Implies --log-jobs.",
    ),
)


def worker_flags(command: F) -> F:
    """Add all flags, in the order in which `--help` shows them."""
    for flag in reversed((*_WORK, *_WATCH, *_HEALTH, *_METRICS, *_PROCESS, *_LOG)):
        command = flag(command)
    return command
