"""`asyncjobs queues forget`: remove queues that nobody uses any more."""

from __future__ import annotations

from typing import Any

import click

from asyncjobs.cli.dead.filters import read_queues
from asyncjobs.cli.queues.chosen import unknown
from asyncjobs.cli.shared.confirm import can_ask, confirm
from asyncjobs.cli.shared.render import line, show_json
from asyncjobs.cli.shared.store_command import ask, fail, refusals, store_options
from asyncjobs.cli.shared.values import count
from asyncjobs.host.exits import ExitCode
from asyncjobs.store.apart import Apart, apart
from asyncjobs.store.inspect import Leftover
from asyncjobs.store.seam import Backend, StoreInfo

__all__ = ["forget"]

_EPILOG = """\b
Exit codes:
  0  forgotten; with --all: every empty queue is forgotten
  1  a queue does not exist, is not empty, or cannot be read; you answered no; the store failed
  2  wrong usage or configuration; no terminal to ask on, and no --yes
  3  the store cannot be reached, or has another layout
"""


@click.command("forget", epilog=_EPILOG)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--all", "all_", is_flag=True, help="Forget every empty queue.")
@click.option("--yes", is_flag=True, help="Do not ask before forgetting more than one.")
@store_options
@click.pass_context
def forget(
    ctx: click.Context,
    /,
    names: tuple[str, ...],
    url: str | None,
    prefix: str,
    *,
    all_: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Remove empty queues from all lists, metrics and warnings, until they are used again.

    No job is ever lost: a queue stays if it holds jobs (dead ones, too) or has a live worker. It
    also stays for some minutes after its last use, and while ids of its finished jobs are
    remembered (id_ttl). Asks before it forgets more than one queue. Does not import the app.
    """
    if bool(names) == all_:
        raise click.UsageError("name the queues, or give --all; asyncjobs stats shows them", ctx)
    names = read_queues(ctx, names)

    async def question(store: Backend, info: StoreInfo) -> int:
        known = await store.inspect.queues.names()
        missing = [problem for name in names if (problem := unknown(name, known))]
        chosen = known
        if not all_:
            chosen = [name for name in names if name in known]
        if len(chosen) > 1 and not yes:
            if not can_ask():
                # A script has nobody to answer. To go on would be worse than to stop.
                message = f"this is about {count(len(chosen), 'queue')}; add --yes to do it"
                return fail(ExitCode.USAGE, message, as_json=as_json)
            if not confirm(f"Forget {count(len(chosen), 'queue')} if nothing is left there?"):
                click.echo("nothing was forgotten", err=True)
                return ExitCode.FAILED
        found = await apart(lambda some: store.inspect.queues.forget(some, 0), chosen)
        return _tell(found, missing, all_=all_, as_json=as_json)

    ctx.exit(ask(url, prefix, question, as_json=as_json))


def _tell(found: Apart[str, Leftover], missing: list[str], *, all_: bool, as_json: bool) -> int:
    """Say which queues were forgotten and which stay, and return the exit code."""
    left = [each for each in found.answers.values() if not each.is_forgotten]
    gone = [each.queue for each in found.answers.values() if each.is_forgotten]
    for problem in missing:
        click.echo(f"Error: {line(problem)}", err=True)
    for problem in refusals(found.refused):
        click.echo(problem, err=True)
    if not all_:
        # With --all it is no error that queues in use stay: nobody has named them.
        for each in left:
            click.echo(f"Error: {line(f'queue {each.queue!r} stays: {_why(each)}')}", err=True)
    if as_json:
        refused = {queue: str(error) for queue, error in found.refused.items()}
        kept = [each._asdict() for each in left]
        show_json({"forgotten": gone, "left": kept, "errors": missing, "refused": refused})
    else:
        summary = f"forgotten: {count(len(gone), 'queue')}"
        if all_ and left:
            summary += f"; {count(len(left), 'queue')} still in use"
        click.echo(summary)
    return ExitCode.failed_if(missing or found.refused or (left and not all_))


def _why(left: Leftover) -> str:
    """Why a queue stays, and what to do about it."""
    held: dict[str, Any] = {
        "ready": left.ready,
        "running": left.running,
        "scheduled": left.scheduled,
        "dead": left.dead,
    }
    if any(held.values()):
        jobs = ", ".join(f"{number:,} {word}" for word, number in held.items() if number)
        if left.dead:
            jobs += f" (asyncjobs dead purge --queue {left.queue} drops dead ones)"
        return f"it holds jobs: {jobs}"
    if left.paused:
        return "something of it is paused; resume it first (asyncjobs queues list shows what)"
    if left.workers:
        return f"{count(left.workers, 'live worker')} there; stop it first, or leave its queue out"
    if left.outbox:
        what = count(left.outbox, "thing")
        return f"its outbox holds {what} for other queues; a worker of it brings them there"
    if left.schedules:
        return f"{count(left.schedules, 'schedule')} may fire there; delete it first"
    if left.flows:
        return f"{count(left.flows, 'flow')} kept there; wait until they are over, or cancel them"
    if left.barriers:
        return f"{count(left.barriers, 'barrier')} there, which jobs of other queues may arrive at"
    if left.awaited:
        return "somebody waits for the result of a job; try again later"
    if left.indexed:
        return f"its index names {count(left.indexed, 'job')} that somebody has removed by hand"
    # Rounded up: who comes back after that time must not be turned away again.
    minutes = -(-left.wait_ms // 60_000)
    return (
        f"it was used lately, and ids may not be used again yet; try in {count(minutes, 'minute')}"
    )
