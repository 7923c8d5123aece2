"""Flags and arguments that say which dead jobs a command is about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from asyncjobs.cli.letters import Wanted
from asyncjobs.cli.values import Duration
from asyncjobs.config import check_queue_name
from asyncjobs.errors import ConfigError
from asyncjobs.readings import check_job_name

__all__ = ["read_ids", "read_queues", "read_wanted", "wanted_options"]

F = TypeVar("F", bound=Callable[..., Any])


def wanted_options(command: F) -> F:
    """The filters, as each of these commands has them; all of them have to hold."""
    flags = (
        click.option(
            "--queue",
            "queues",
            multiple=True,
            metavar="NAME",
            help="Of this queue; may be repeated. By default of all.",
        ),
        click.option("--function", metavar="NAME", help="Of this job function, as it is stored."),
        click.option(
            "--reason",
            metavar="WORD",
            help="Dead for this reason: exhausted, crashed, unknown, unreadable, ...",
        ),
        click.option("--error", metavar="TYPE", help="With this in the type of their last error."),
        click.option(
            "--message", metavar="TEXT", help="With this in the text of their last error."
        ),
        click.option("--since", type=Duration(), help="Died in the last so long: 30m, 2d."),
        click.option("--before", type=Duration(), help="Died longer than that ago."),
    )
    for flag in reversed(flags):
        command = flag(command)
    return command


def read_wanted(ctx: click.Context, flags: dict[str, Any]) -> Wanted:
    """Takes the filters out of `flags`. Raises click.UsageError."""
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
        # A part of every text: an unset variable in a script would mean all there are.
        if text is not None and not text.strip():
            raise click.UsageError(f"--{name} is empty; say what to look for, or leave it out", ctx)
    return Wanted(queues, **texts, since_s=since_s, before_s=before_s)


def read_queues(ctx: click.Context, names: tuple[str, ...]) -> tuple[str, ...]:
    """Each once. Raises click.UsageError."""
    try:
        return tuple(dict.fromkeys(check_queue_name(name, field="--queue") for name in names))
    except ConfigError as error:
        raise click.UsageError(str(error), ctx) from None


def read_ids(ctx: click.Context, ids: tuple[str, ...]) -> list[str]:
    """Each once. Raises click.UsageError."""
    try:
        return list(dict.fromkeys(check_job_name(job_id, field="ID") for job_id in ids))
    except ConfigError as error:
        raise click.UsageError(str(error), ctx) from None
