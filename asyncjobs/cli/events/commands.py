"""`asyncjobs events send`: wakes the jobs that wait for an event."""

from __future__ import annotations

import json
from typing import Any, Final

import click

from asyncjobs.cli.dead.filters import read_queues
from asyncjobs.cli.shared.render import line, show_json
from asyncjobs.cli.shared.store_command import ask, fail, store_options
from asyncjobs.cli.shared.values import count
from asyncjobs.client.events import new_event, send
from asyncjobs.errors import (
    EncodeError,
    MissingCapability,
    PayloadTooLarge,
    StoreUnavailable,
    UsageError,
)
from asyncjobs.host.exits import ExitCode
from asyncjobs.model.awaiting import NewEvent
from asyncjobs.options.app import AppSettings
from asyncjobs.store.seam import Backend, StoreInfo

__all__ = ["events"]

_EPILOG: Final = """\b
Exit codes:
  0  sent, even if no job waits for it
  1  a queue has not taken it, or the store failed meanwhile
  2  wrong usage or configuration
  3  the store cannot be reached, or has another layout
"""


@click.group()
def events() -> None:
    """Send events to jobs that wait for them."""


@events.command("send", epilog=_EPILOG)
@click.argument("name")
@click.option("--key", default="", metavar="TEXT", help="The key that the jobs wait for.")
@click.option("--value", default="null", metavar="JSON", help="What the jobs get. [default: null]")
@click.option("--queue", "queues", multiple=True, metavar="NAME", help="Only jobs of this queue.")
@store_options
@click.pass_context
def send_event(
    ctx: click.Context,
    /,
    name: str,
    key: str,
    value: str,
    queues: tuple[str, ...],
    url: str | None,
    prefix: str,
    *,
    as_json: bool,
) -> None:
    """Send an event to all jobs that wait for its NAME and key by `ctx.wait_for`.

    It is kept for a day, for jobs that come to wait later. Does not import the app.
    """
    names = read_queues(ctx, queues)
    event = _read_event(ctx, name, key, value)
    limit_s = AppSettings().connect_timeout_s

    async def question(store: Backend, info: StoreInfo) -> int:
        # Without the app nobody knows its queues, so all of the store get it.
        chosen = names or tuple(await store.inspect.queues.names())
        try:
            woken = await send(store, event, chosen, limit_s)
        except MissingCapability as error:
            return fail(ExitCode.USAGE, error, as_json=as_json)
        except StoreUnavailable as error:
            return fail(ExitCode.FAILED, error, as_json=as_json)
        if as_json:
            show_json({"name": name, "key": key, "queues": list(chosen), "woken": woken})
        elif not chosen:
            click.echo("the store has no queue yet; name one with --queue", err=True)
        else:
            click.echo(line(f"sent {name!r} to {count(len(chosen), 'queue')}: woke {_jobs(woken)}"))
        return ExitCode.CLEAN

    ctx.exit(ask(url, prefix, question, as_json=as_json))


def _jobs(woken: int) -> str:
    if not woken:
        return "no job; it is kept for those that wait for it later"
    return count(woken, "job")


def _read_event(ctx: click.Context, name: str, key: str, text: str) -> NewEvent:
    """The event as the flags say it. Raises click.UsageError."""
    value: Any
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise click.UsageError(
            f"--value is no JSON; a text stands in quotes: --value '\"{_hint(text)}\"'", ctx
        ) from None
    try:
        return new_event(name, key, value)
    except (UsageError, EncodeError, PayloadTooLarge) as error:
        raise click.UsageError(str(error), ctx) from None


def _hint(text: str) -> str:
    """A value for the example: the one that was given, if it is a short plain word."""
    if text.isalnum() and len(text) <= 20:
        return text
    return "text"
