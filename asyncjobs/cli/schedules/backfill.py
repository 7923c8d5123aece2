"""`asyncjobs schedules backfill`: make up for ticks of the past."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import click

from asyncjobs.cli.schedules.reading import ask_schedules, unknown
from asyncjobs.cli.shared.confirm import can_ask, confirm
from asyncjobs.cli.shared.render import line, show_json
from asyncjobs.cli.shared.store_command import fail, store_options
from asyncjobs.cli.shared.values import count
from asyncjobs.client import ticks
from asyncjobs.errors import ConfigError, ScheduleNotFound, UsageError
from asyncjobs.host.exits import ExitCode
from asyncjobs.model.clock import at_ms
from asyncjobs.store.seam import Backend, StoreInfo

__all__ = ["backfill"]

_EPILOG: Final = """\b
Exit codes:
  0  done, even if all of the ticks had run
  1  no schedule has the id, or it cannot be read; there are more than 1,000 ticks; you
     answered no; the store failed
  2  wrong usage or configuration; no terminal to ask on, and no --yes
  3  the store cannot be reached, or has another layout
"""


class _Moment(click.ParamType[int]):
    """A time in ISO 8601 with its offset; converted to milliseconds since the epoch."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        # click converts a default or a converted value once more.
        if not isinstance(value, str):
            return int(value)
        try:
            return at_ms(datetime.fromisoformat(value), field="")
        except ValueError:
            self.fail(f"{value!r} is no time; write 2026-10-25T02:30:00+02:00", param, ctx)
        except ConfigError:
            self.fail(f"{value!r} has no offset; write 2026-10-25T02:30:00+02:00", param, ctx)


@click.command(epilog=_EPILOG)
@click.argument("id", metavar="ID")
@click.option("--from", "start_ms", type=_Moment(), required=True, help="The first time, ISO 8601.")
@click.option("--to", "end_ms", type=_Moment(), required=True, help="The end, not included.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Count the ticks and store nothing.")
@store_options
@click.pass_context
def backfill(
    ctx: click.Context,
    /,
    id: str,
    start_ms: int,
    end_ms: int,
    url: str | None,
    prefix: str,
    *,
    yes: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Make the jobs of all ticks in a time that is over, except of those that ran.

    The store remembers the last 10,000 ticks of a schedule that ran. Does not import the app.
    """

    async def question(store: Backend, info: StoreInfo) -> int:
        try:
            plan = await ticks.plan_backfill(store, id, start_ms, end_ms)
            number = len(plan.ticks)
            if dry_run:
                return _tell(number, None, as_json=as_json)
            # A wrong year makes a thousand jobs, and they cannot be called back.
            if number and not yes:
                jobs = f"up to {count(number, 'job')}"
                if not can_ask():
                    message = f"this would make {jobs}; add --yes to do it"
                    return fail(ExitCode.USAGE, message, as_json=as_json)
                if not confirm(f"Make {jobs} of {line(id)}?"):
                    click.echo("nothing was made", err=True)
                    return ExitCode.FAILED
            return _tell(number, await ticks.run_backfill(store, plan), as_json=as_json)
        except ScheduleNotFound:
            return fail(ExitCode.FAILED, await unknown(store, id), as_json=as_json)
        except UsageError as error:
            return fail(ExitCode.FAILED, error, as_json=as_json)

    ctx.exit(ask_schedules(url, prefix, question, as_json=as_json))


def _tell(number: int, done: ticks.Backfill | None, *, as_json: bool) -> int:
    if as_json:
        fired = ran = skipped = None
        if done is not None:
            fired, ran, skipped = done
        answer = {"ticks": number, "fired": fired, "ran": ran, "skipped": skipped}
        show_json({**answer, "dry_run": done is None})
    elif done is None:
        click.echo(f"{count(number, 'tick')} in this time")
    else:
        text = f"made {count(done.fired, 'job')}; {count(done.ran, 'tick')} had run before"
        if done.skipped:
            text += f"; {count(done.skipped, 'tick')} skipped: another job has the unique key"
        click.echo(text)
    return ExitCode.CLEAN
