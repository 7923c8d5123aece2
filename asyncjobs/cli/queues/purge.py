"""`asyncjobs queues purge`: cancel the jobs of a queue that wait."""

from __future__ import annotations

import click

from asyncjobs.cli.queues.chosen import function_option, one_queue, queues_of, unknown
from asyncjobs.cli.shared.confirm import can_ask, confirm
from asyncjobs.cli.shared.render import clean, show_json
from asyncjobs.cli.shared.store_command import ask, fail, store_options
from asyncjobs.cli.shared.values import count
from asyncjobs.client.queues import PURGEABLE
from asyncjobs.host.exits import ExitCode
from asyncjobs.model.job import State
from asyncjobs.store.seam import Backend, StoreInfo

__all__ = ["purge"]

_EPILOG = """\b
Exit codes:
  0  purged; also if there was no job
  1  the queue does not exist; you answered no; the store failed, and some jobs may be purged
  2  wrong usage or configuration; no terminal to ask on, and no --yes
  3  the store cannot be reached, or has another layout
"""


@click.command("purge", epilog=_EPILOG)
@click.argument("name", metavar="NAME")
@function_option("Purge only jobs of this job function.")
@click.option(
    "--state",
    "states",
    type=click.Choice([state.value for state in PURGEABLE]),
    multiple=True,
    help="Purge only jobs of this state. May be repeated; by default all.",
)
@click.option("--dry-run", is_flag=True, help="Only say how many jobs that would be.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@store_options
@click.pass_context
def purge(
    ctx: click.Context,
    /,
    name: str,
    function: str | None,
    states: tuple[str, ...],
    url: str | None,
    prefix: str,
    *,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Cancel the jobs of a queue that wait; running ones stay.

    They end as cancelled: who waits for a result is told. They do not come back. Says how many
    there are, and asks before it cancels them. Does not import the app.
    """
    name = one_queue(ctx, name)
    chosen = [State(state) for state in states] or list(PURGEABLE)

    async def question(store: Backend, info: StoreInfo) -> int:
        if (problem := unknown(name, await store.inspect.queues.names())) is not None:
            return fail(ExitCode.FAILED, problem, as_json=as_json)
        queues = queues_of(store)
        number = await queues.purge(name, function=function, states=chosen, dry_run=True)
        what = f"{count(number, 'waiting job')} of queue {clean(name)}"
        if function is not None:
            what += f", function {clean(function)}"
        if number and not (dry_run or yes):
            refusal = _ask_first(what, number, as_json=as_json)
            if refusal is not None:
                return refusal
        # Some of those that were counted may have been taken by now, and others have come.
        purged = 0
        if number and not dry_run:
            purged = await queues.purge(name, function=function, states=chosen)
        if as_json:
            show_json({"queue": name, "function": function, "found": number, "purged": purged})
        elif dry_run:
            click.echo(f"would purge: {what}")
        else:
            click.echo(f"purged: {count(purged, 'job')}")
        return ExitCode.CLEAN

    ctx.exit(ask(url, prefix, question, as_json=as_json))


def _ask_first(what: str, number: int, *, as_json: bool) -> ExitCode | None:
    """The exit code if nothing is to be purged, None after a yes."""
    if not can_ask():
        # A script has nobody to answer. To go on would be worse than to stop.
        message = f"this cancels {what}; add --yes to do it"
        return fail(ExitCode.USAGE, message, as_json=as_json, purged=0, found=number)
    if not confirm(f"Cancel {what}?"):
        click.echo("nothing was purged", err=True)
        return ExitCode.FAILED
    return None
