"""The flags and arguments that choose jobs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import click

from asyncjobs.cli.dead.filters import read_queues
from asyncjobs.cli.shared.values import Duration
from asyncjobs.jobs.overview import store_now_ms
from asyncjobs.model.job import State
from asyncjobs.store.listing import ENDED_STATES, LISTED_STATES, JobQuery
from asyncjobs.store.seam import Backend

__all__ = ["ACTION_STATE", "STATE", "Filters", "filter_options", "read_filters"]

F = TypeVar("F", bound=Callable[..., Any])

STATE: Final = click.Choice([state.value for state in LISTED_STATES])
ACTION_STATE: Final = click.Choice(
    [state.value for state in LISTED_STATES if state not in ENDED_STATES]
)
"""The states of jobs that something can be done about."""
_TEXTS: Final = ("function", "error", "message")


@dataclass(frozen=True, slots=True)
class Filters:
    """Which jobs of a state a command is about; None accepts each. Times are seconds before the
    present, by the clock of the store, and `due_within_s` seconds after it."""

    queues: tuple[str, ...] = ()
    function: str | None = None
    error: str | None = None
    message: str | None = None
    meta: tuple[tuple[str, str], ...] = ()
    tags: tuple[str, ...] = ()
    since_s: float | None = None
    before_s: float | None = None
    due_within_s: float | None = None

    @property
    def accept_all(self) -> bool:
        """Whether no filter is given."""
        return self == Filters()

    async def query(self, store: Backend, state: State, *, oldest_first: bool) -> JobQuery:
        """What to ask the store."""
        query = JobQuery(
            state,
            self.queues,
            self.function,
            error=self.error,
            message=self.message,
            meta=self.meta,
            tags=self.tags,
            oldest_first=oldest_first,
        )
        # Without times the clock of the store does not matter, and need not be asked.
        if (self.since_s, self.before_s, self.due_within_s) == (None, None, None):
            return query
        now_ms = await store_now_ms(store, self.queues)
        if self.since_s is not None:
            query = query._replace(since_ms=now_ms - round(1000 * self.since_s))
        if self.before_s is not None:
            query = query._replace(before_ms=now_ms - round(1000 * self.before_s))
        if self.due_within_s is not None:
            query = query._replace(before_ms=now_ms + round(1000 * self.due_within_s))
        return query


_LABELS: Final = (
    click.option(
        "--meta",
        multiple=True,
        metavar="NAME=VALUE",
        help="Only jobs with this label. May be repeated.",
    ),
    click.option(
        "--tag",
        "tags",
        multiple=True,
        metavar="TAG",
        help="Only jobs with this tag. May be repeated.",
    ),
)


def filter_options(command: F) -> F:
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
            "--error", metavar="TYPE", help="Only jobs whose last error has this in its type."
        ),
        click.option(
            "--message", metavar="TEXT", help="Only jobs whose last error has this in its text."
        ),
        *_LABELS,
        click.option(
            "--since",
            type=Duration(),
            help="Only jobs that became ready, started or ended within this time: 30m, 2d.",
        ),
        click.option(
            "--before",
            type=Duration(),
            help="Only jobs that became ready, started or ended longer ago than this.",
        ),
        click.option(
            "--due-within", type=Duration(), help="Only scheduled jobs that are due within this."
        ),
    )
    for flag in reversed(flags):
        command = flag(command)
    return command


def read_filters(ctx: click.Context, flags: dict[str, Any], state: State | None) -> Filters:
    """Take the filters out of `flags`. Raises click.UsageError."""
    queues = read_queues(ctx, flags.pop("queues"))
    texts = {name: flags.pop(name) for name in _TEXTS}
    tags = tuple(flags.pop("tags"))
    meta = tuple(_label(ctx, text) for text in flags.pop("meta"))
    since_s = flags.pop("since")
    before_s = flags.pop("before")
    due_within_s = flags.pop("due_within")
    for name, text in texts.items():
        # An empty text is part of every text. With an unset variable in a script, the command would
        # be about all jobs.
        if text is not None and not text.strip():
            raise click.UsageError(f"--{name} is empty; say what to look for, or leave it out", ctx)
    if since_s is not None and before_s is not None and since_s <= before_s:
        raise click.UsageError(
            "no job can be within --since and before --before; --since has to be the longer one",
            ctx,
        )
    # "Within the last hour" would mean jobs that are overdue, and nobody means that.
    if state is State.SCHEDULED and (since_s, before_s) != (None, None):
        raise click.UsageError(
            "scheduled jobs have their time before them: use --due-within in place of --since "
            "and --before",
            ctx,
        )
    if state is not State.SCHEDULED and due_within_s is not None:
        raise click.UsageError("--due-within is for scheduled jobs", ctx)
    return Filters(
        queues,
        **texts,
        meta=meta,
        tags=tags,
        since_s=since_s,
        before_s=before_s,
        due_within_s=due_within_s,
    )


def _label(ctx: click.Context, text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not name or not sign or not value:
        raise click.UsageError(f"--meta {text!r} must be NAME=VALUE", ctx)
    return name, value
