"""`asyncjobs dead list`: the dead jobs that pass the filters."""

from __future__ import annotations

import heapq
from typing import Any, NamedTuple

import click

from asyncjobs.cli.dead.filters import read_filters, search_options
from asyncjobs.cli.dead.letters import Filters, Summary, search, stored_time
from asyncjobs.cli.shared.render import Table, clean, show, show_json
from asyncjobs.cli.shared.store_command import ask, refusals, store_options
from asyncjobs.cli.shared.values import count
from asyncjobs.errors import StoreError, StoreUnavailable
from asyncjobs.host.exits import ExitCode
from asyncjobs.store.seam import Backend, StoreInfo

__all__ = ["list_dead"]

_EPILOG = """\b
Exit codes:
  0  shown, even if there is no dead job
  1  a queue cannot be read, or the store failed meanwhile
  2  wrong usage or configuration
  3  the store cannot be reached, or has another layout
"""


@click.command("list", epilog=_EPILOG)
@search_options
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    metavar="N",
    help="Show at most this many.",
)
@click.option("--oldest-first", is_flag=True, help="Show the oldest first.")
@store_options
@click.pass_context
def list_dead(
    ctx: click.Context, /, url: str | None, prefix: str, *, as_json: bool, **flags: Any
) -> None:
    """List dead jobs, the newest first.

    Writes the total number to stderr. Does not import the app.
    """
    filters = read_filters(ctx, flags)

    async def question(store: Backend, info: StoreInfo) -> int:
        listing = await _list(store, filters, **flags)
        code = ExitCode.failed_if(listing.refused)
        for problem in refusals(listing.refused):
            click.echo(problem, err=True)
        if as_json:
            jobs = [letter.fields() for letter in listing.letters]
            refused = {queue: str(error) for queue, error in listing.refused.items()}
            show_json({"total": listing.total, "jobs": jobs, "refused": refused})
            return code
        if listing.letters:
            show(_table(listing.letters))
        shown = len(listing.letters)
        total = count(listing.total, "dead job")
        if shown < listing.total:
            click.echo(f"{shown:,} of {total}; more with --limit", err=True)
        elif shown:
            click.echo(total, err=True)
        else:
            click.echo("no dead job", err=True)
        return code

    ctx.exit(ask(url, prefix, question, as_json=as_json))


class _Listing(NamedTuple):
    letters: list[Summary]
    total: int
    refused: dict[str, StoreError]


async def _list(store: Backend, filters: Filters, limit: int, *, oldest_first: bool) -> _Listing:
    """The first `limit` letters of all queues together, and how many there are in all."""
    letters: list[Summary] = []
    total = 0
    refused: dict[str, StoreError] = {}
    for queue in filters.queues or await store.inspect.queues.names():
        try:
            own, number = await _list_one(store, filters, queue, limit, oldest_first=oldest_first)
        except StoreUnavailable:
            raise
        except StoreError as error:
            # A key of the wrong type, for example. The other queues can still be listed.
            refused[queue] = error
            continue
        letters += own
        total += number
    # Each queue has given its first `limit` letters. The first `limit` of all are among them.
    first = heapq.nlargest
    if oldest_first:
        first = heapq.nsmallest
    return _Listing(first(limit, letters, key=lambda each: each.key.died_ms), total, refused)


async def _list_one(
    store: Backend, filters: Filters, queue: str, limit: int, *, oldest_first: bool
) -> tuple[list[Summary], int]:
    """The first `limit` letters of one queue, and how many there are in all."""
    letters: list[Summary] = []
    if not filters.need_contents:
        # The store counts by queue and time itself, so the rest need not be read.
        in_all = 0
        async for page in search(store, filters, queue, limit=limit, oldest_first=oldest_first):
            letters += page.letters[: limit - len(letters)]
            in_all = page.total
            if len(letters) == limit:
                break
        return letters, in_all
    matched = 0
    async for page in search(store, filters, queue, oldest_first=oldest_first):
        letters += page.letters[: limit - len(letters)]
        matched += len(page.letters)
    return letters, matched


def _table(letters: list[Summary]) -> Table:
    rows = [
        (
            clean(str(each.key.ref)),
            clean(each.function),
            clean(each.reason),
            clean(each.error),
            str(each.attempts),
            _died(each),
        )
        for each in letters
    ]
    columns = ("job", "function", "reason", "error", "attempts", "died")
    return Table(columns, rows, frozenset({"attempts"}))


def _died(letter: Summary) -> str:
    time = stored_time(letter.key.died_ms)
    if time is None:
        return "no known time"
    return time.isoformat(sep=" ", timespec="seconds")
