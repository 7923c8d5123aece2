"""`asyncjobs schedules pause`, `resume`, `trigger` and `delete`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import click

from asyncjobs.cli.schedules.reading import ask_schedules, unknown
from asyncjobs.cli.shared.confirm import ask_first
from asyncjobs.cli.shared.one_by_one import Refused, change_each
from asyncjobs.cli.shared.store_command import store_options
from asyncjobs.cli.shared.values import count
from asyncjobs.client import ticks
from asyncjobs.errors import ScheduleNotFound, UsageError
from asyncjobs.store.seam import Backend, StoreInfo

__all__ = ["delete", "pause", "resume", "trigger"]

_EPILOG: Final = """\b
Exit codes:
  0  done, or there was nothing to do
  1  no schedule has an id, one cannot be changed, or the store failed
  2  wrong usage or configuration
  3  the store cannot be reached, or has another layout
"""
_DELETE_EPILOG: Final = _EPILOG.replace(
    "or the store failed\n  2  wrong usage or configuration",
    "the store failed, or you answered no\n"
    "  2  wrong usage or configuration; no terminal to ask on, and no --yes",
)

_PLACES: Final = {
    "there": "made no job: the job {} holds its unique key",
    "replaced": "gave its call to the job {}, which holds its unique key and has not started",
    "held": "made the job {}, which waits for its unique key",
    "cancelled": "made the job {}, which was cancelled at once, for its limit has no room",
}

Act = Callable[[Backend, str], Awaitable[str]]
"""Changes one schedule, and returns what was done to it, in words."""


@click.command(epilog=_EPILOG)
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@click.option("--reason", default="", metavar="TEXT", help="Shown with the schedule.")
@store_options
@click.pass_context
def pause(ctx: click.Context, /, reason: str, **flags: Any) -> None:
    """Let schedules fire no more until they are resumed.

    The pause outlives deploys. Jobs that were made stay. Does not import the app.
    """

    async def act(store: Backend, id: str) -> str:
        is_new = (await store.schedules.pause([id], reason or "paused by hand"))[0]
        if is_new:
            return "paused"
        # It also answers so for an unknown id.
        await ticks.found(store, id)
        return "was paused already"

    _run(ctx, act, flags)


@click.command(epilog=_EPILOG)
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@store_options
@click.pass_context
def resume(ctx: click.Context, /, **flags: Any) -> None:
    """Let paused schedules go on with their next tick.

    They make up for nothing: asyncjobs schedules backfill does. Does not import the app.
    """

    async def act(store: Backend, id: str) -> str:
        if await ticks.resume(store, id):
            return "resumed"
        return "was not paused"

    _run(ctx, act, flags)


@click.command(epilog=_EPILOG)
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@store_options
@click.pass_context
def trigger(ctx: click.Context, /, **flags: Any) -> None:
    """Make a job of each schedule now.

    Its times, a pause, the overlap and the limit do not matter; a unique key that another job holds
    does. Does not import the app.
    """

    async def act(store: Backend, id: str) -> str:
        ref, _, place = await ticks.trigger(store, id)
        if place is None:
            return f"made the job {ref}"
        return _PLACES[place.how].format(ref)

    _run(ctx, act, flags)


@click.command(epilog=_DELETE_EPILOG)
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@click.option("--yes", is_flag=True, help="Do not ask.")
@store_options
@click.pass_context
def delete(ctx: click.Context, /, *, yes: bool, **flags: Any) -> None:
    """Delete schedules, with their counters. Their jobs stay.

    A schedule that running workers have in their code comes back within a minute: remove it there,
    or pause it. Does not import the app.
    """

    async def act(store: Backend, id: str) -> str:
        if (await store.schedules.delete([id]))[0]:
            return "deleted"
        raise ScheduleNotFound(await unknown(store, id))

    verb = ""
    if not yes:
        verb = "Delete"
    _run(ctx, act, flags, verb=verb)


def _run(ctx: click.Context, act: Act, flags: dict[str, Any], *, verb: str = "") -> None:
    """Change each schedule by itself. `verb`: ask first, with this word."""
    ids: tuple[str, ...] = flags["ids"]
    as_json: bool = flags["as_json"]

    async def question(store: Backend, info: StoreInfo) -> int:
        if verb:
            schedules = count(len(ids), "schedule")
            would, undone = f"this would {verb.lower()} {schedules}", "nothing was changed"
            refused = ask_first(f"{verb} {schedules}?", would, undone, as_json=as_json)
            if refused is not None:
                return refused

        async def change(id: str) -> str:
            try:
                return await act(store, id)
            except ScheduleNotFound:
                raise Refused(await unknown(store, id)) from None
            except UsageError as error:
                raise Refused(str(error)) from None

        return await change_each(ids, change, as_json=as_json)

    ctx.exit(ask_schedules(flags["url"], flags["prefix"], question, as_json=as_json))
