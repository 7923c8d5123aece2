"""`asyncjobs schedules list`, `show` and `next`: what there is, and when it fires."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import click
import orjson

from asyncjobs.cli.dead.filters import read_queues
from asyncjobs.cli.schedules.reading import (
    ask_schedules,
    fields,
    priority_name,
    read_all,
    unknown,
)
from asyncjobs.cli.shared.render import (
    Table,
    ago,
    clean,
    field_table,
    line,
    moment,
    paint,
    show,
    show_json,
)
from asyncjobs.cli.shared.store_command import fail, refusals, store_options
from asyncjobs.cli.shared.values import count, show_duration
from asyncjobs.client import ticks
from asyncjobs.errors import UsageError
from asyncjobs.host.exits import ExitCode
from asyncjobs.jobs.schedule import Schedule, schedule_of
from asyncjobs.jobs.times import in_zone
from asyncjobs.jobs.zones import load_zones_of
from asyncjobs.model.schedules import ScheduleRef
from asyncjobs.store.schedules import ScheduleRecord
from asyncjobs.store.seam import Backend, StoreInfo

__all__ = ["list_schedules", "next_ticks", "show_schedule"]

_LIST_EPILOG: Final = """\b
Exit codes:
  0  shown, even if there is no schedule
  1  a queue cannot be read, or the store failed meanwhile
  2  wrong usage or configuration
  3  the store cannot be reached, or has another layout
"""
_ONE_EPILOG: Final = """\b
Exit codes:
  0  shown
  1  no schedule has the id, or the store failed
  2  wrong usage or configuration
  3  the store cannot be reached, or has another layout
"""
_COLORS: Final = {"active": "green", "paused": "yellow", "over": None}


@click.command("list", epilog=_LIST_EPILOG)
@click.option("--queue", "queues", multiple=True, metavar="NAME", help="Only of this queue.")
@store_options
@click.pass_context
def list_schedules(
    ctx: click.Context, /, queues: tuple[str, ...], url: str | None, prefix: str, *, as_json: bool
) -> None:
    """List the schedules, with their next ticks.

    Does not import the app.
    """
    names = read_queues(ctx, queues)

    async def question(store: Backend, info: StoreInfo) -> int:
        found = await read_all(store, names)
        for problem in refusals(found.refused):
            click.echo(problem, err=True)
        schedules = [schedule_of(record) for record in found.records]
        if as_json:
            refused = {queue: str(error) for queue, error in found.refused.items()}
            show_json({"schedules": [fields(each) for each in schedules], "refused": refused})
        elif schedules:
            show(_table(schedules))
        elif not found.refused:
            click.echo("no schedule", err=True)
        return ExitCode.failed_if(found.refused)

    ctx.exit(ask_schedules(url, prefix, question, as_json=as_json))


def _table(schedules: list[Schedule]) -> Table:
    columns = ("id", "queue", "times", "state", "next", "fired", "missed", "skipped")
    rows = [
        (
            clean(each.id),
            clean(each.queue),
            clean(_times(each)),
            paint(each.state, _COLORS[each.state]),
            _when(each.next_at) or "",
            str(each.fired),
            str(each.missed),
            str(each.skipped),
        )
        for each in schedules
    ]
    return Table(columns, rows, frozenset({"fired", "missed", "skipped"}))


def _times(schedule: Schedule) -> str:
    """The times as they were written, with their zone unless it is UTC."""
    if schedule.tz == "UTC":
        return schedule.times
    return f"{schedule.times} {schedule.tz}"


@click.command("show", epilog=_ONE_EPILOG)
@click.argument("id", metavar="ID")
@store_options
@click.pass_context
def show_schedule(
    ctx: click.Context, /, id: str, url: str | None, prefix: str, *, as_json: bool
) -> None:
    """Show all that the store knows of one schedule.

    Sensitive arguments are masked. Does not import the app.
    """

    async def question(store: Backend, info: StoreInfo) -> int:
        (record,) = await store.schedules.get([id])
        if record is None:
            return fail(ExitCode.FAILED, await unknown(store, id), as_json=as_json)
        await load_zones_of([record.definition])
        schedule = schedule_of(record)
        if as_json:
            show_json(fields(schedule))
        else:
            show(field_table(_rows(schedule.redacted())))
        return ExitCode.CLEAN

    ctx.exit(ask_schedules(url, prefix, question, as_json=as_json))


def _rows(schedule: Schedule) -> dict[str, str | None]:
    left = None
    if schedule.left is not None:
        left = str(schedule.left)
    return {
        "schedule": schedule.id,
        "queue": schedule.queue,
        "function": schedule.name or None,
        "times": _times(schedule) or None,
        "text": schedule.text or None,
        "state": schedule.state,
        "reason": schedule.reason,
        "source": schedule.source,
        "next": _when(schedule.next_at),
        "last": _when(schedule.last_at),
        "fired": str(schedule.fired),
        "missed": str(schedule.missed),
        "skipped": str(schedule.skipped),
        "left": left,
        "lag": ago(schedule.lag_s),
        "catch up": f"{schedule.catch_up}, within {show_duration(schedule.window_s)}",
        "overlap": schedule.overlap or None,
        "jitter": show_duration(schedule.jitter_s) if schedule.jitter_s else None,
        "start": _when(schedule.start),
        "end": _when(schedule.end),
        "priority": priority_name(schedule),
        "args": _in_json(schedule.args),
        "kwargs": _in_json(schedule.kwargs),
        "declared": _when(schedule.declared_at),
    }


@click.command("next", epilog=_ONE_EPILOG)
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option(
    "-n",
    "--number",
    type=click.IntRange(1, 1000),
    default=10,
    show_default=True,
    help="How many ticks to show.",
)
@store_options
@click.pass_context
def next_ticks(
    ctx: click.Context,
    /,
    ids: tuple[str, ...],
    number: int,
    url: str | None,
    prefix: str,
    *,
    as_json: bool,
) -> None:
    """Show the next ticks of these schedules, or of all, in the order of time.

    Those of a paused schedule are shown only if it is named. Does not import the app.
    """

    async def question(store: Backend, info: StoreInfo) -> int:
        records: list[ScheduleRecord] = []
        problems: list[str] = []
        if ids:
            named = await store.schedules.get(ids)
            await load_zones_of(record.definition for record in named if record is not None)
            for id, record in zip(ids, named, strict=True):
                if record is None:
                    problems.append(await unknown(store, id))
                else:
                    records.append(record)
        else:
            found = await read_all(store)
            # The ticks of a paused one would not come, so nobody wants them in a plan of the day.
            records = [record for record in found.records if record.paused is None]
            problems = [
                f"queue {name!r} cannot be read: {why}" for name, why in found.refused.items()
            ]
        coming = await _coming(store, records, number, problems)
        for problem in problems:
            click.echo(f"Error: {line(problem)}", err=True)
        _show_ticks(coming, problems, as_json=as_json)
        return ExitCode.failed_if(problems)

    ctx.exit(ask_schedules(url, prefix, question, as_json=as_json))


async def _coming(
    store: Backend, records: list[ScheduleRecord], number: int, problems: list[str]
) -> list[tuple[datetime, ScheduleRef]]:
    """The next ticks of all of these schedules together."""
    if not records:
        return []
    coming: list[tuple[int, ScheduleRef, str]] = []
    now_ms = await ticks.store_now_ms(store, records[0].ref.queue)
    for record in records:
        try:
            zone, found = ticks.next_ticks(record, now_ms, number)
        except UsageError as error:
            problems.append(str(error))
            continue
        coming += [(tick_ms, record.ref, zone) for tick_ms in found]
    # Times of one zone would sort by the wall clock, which shows an hour twice in autumn.
    return [(in_zone(tick_ms, zone), ref) for tick_ms, ref, zone in sorted(coming)[:number]]


def _show_ticks(
    coming: list[tuple[datetime, ScheduleRef]], problems: list[str], *, as_json: bool
) -> None:
    if as_json:
        found: list[dict[str, Any]] = [
            {"at": at.isoformat(), "schedule": ref.id, "queue": ref.queue} for at, ref in coming
        ]
        show_json({"ticks": found, "errors": problems})
    elif coming:
        rows = [(moment(at), clean(ref.id), clean(ref.queue)) for at, ref in coming]
        show(Table(("at", "schedule", "queue"), rows))
    else:
        click.echo(f"no tick is to come of {count(0, 'schedule')}", err=True)


def _when(at: datetime | None) -> str | None:
    if at is None:
        return None
    return moment(at)


def _in_json(value: Any) -> str | None:
    if not value:
        return None
    return orjson.dumps(value, default=str).decode()
