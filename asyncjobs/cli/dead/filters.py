"""The flags and arguments that choose dead jobs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from asyncjobs.cli.dead.letters import Filters
from asyncjobs.cli.shared.values import Duration
from asyncjobs.errors import ConfigError
from asyncjobs.jobs.readings import check_job_name
from asyncjobs.options.checks import check_queue_name

__all__ = ["read_filters", "read_ids", "read_queues", "search_options"]

F = TypeVar("F", bound=Callable[..., Any])


def search_options(command: F) -> F:
    """Add the filters. A job must pass all of them."""
    flags = (
        click.option(
            "--queue",
            "queues",
            multiple=True,
            metavar="NAME",
            help="Only jobs of this queue. May be repeated.",
        ),
        click.option(
            "--function",
            metavar="PATTERN",
            help="Only jobs of this job function, by its stored name: mail.send, or 'mail.*'.",
        ),
        click.option(
            "--reason",
            metavar="WORD",
            help="Only jobs that died for this reason, such as exhausted, crashed, unknown or "
            "unreadable.",
        ),
        click.option(
            "--error", metavar="TYPE", help="Only jobs whose last error has this in its type."
        ),
        click.option(
            "--message", metavar="TEXT", help="Only jobs whose last error has this in its text."
        ),
        click.option(
            "--since", type=Duration(), help="Only jobs that died within this time: 30m, 2d."
        ),
        click.option("--before", type=Duration(), help="Only jobs that died longer ago than this."),
    )
    for flag in reversed(flags):
        command = flag(command)
    return command


def read_filters(ctx: click.Context, flags: dict[str, Any]) -> Filters:
    """Take the filters out of `flags`. Raises click.UsageError."""
    queues = read_queues(ctx, flags.pop("queues"))
    names = ("function", "reason", "error", "message")
    since_s = flags.pop("since")
    before_s = flags.pop("before")
    if since_s is not None and before_s is not None and since_s <= before_s:
        raise click.UsageError(
            "nothing can have died within --since and longer ago than --before; --since has to be "
            "the longer one",
            ctx,
        )
    texts = {name: flags.pop(name) for name in names}
    for name, text in texts.items():
        # An empty text is part of every text. With an unset variable in a script, the command would
        # change all dead jobs.
        if text is not None and not text.strip():
            raise click.UsageError(f"--{name} is empty; say what to look for, or leave it out", ctx)
    return Filters(queues, **texts, since_s=since_s, before_s=before_s)


def read_queues(ctx: click.Context, names: tuple[str, ...]) -> tuple[str, ...]:
    """Check the names, and drop repeated ones. Raises click.UsageError."""
    try:
        return tuple(dict.fromkeys(check_queue_name(name, field="--queue") for name in names))
    except ConfigError as error:
        raise click.UsageError(str(error), ctx) from None


def read_ids(ctx: click.Context, ids: tuple[str, ...]) -> list[str]:
    """Check the IDs, and drop repeated ones. Raises click.UsageError."""
    try:
        return list(dict.fromkeys(check_job_name(job_id, field="ID") for job_id in ids))
    except ConfigError as error:
        raise click.UsageError(str(error), ctx) from None
