"""`asyncjobs queues drain`: wait until queues are empty."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Final

import click

from asyncjobs.cli.queues.chosen import one_queue, queues_of, unknown
from asyncjobs.cli.shared.render import clean, show_json
from asyncjobs.cli.shared.stopping import stop_signals
from asyncjobs.cli.shared.store_command import ask, fail, store_options
from asyncjobs.cli.shared.values import Duration, count
from asyncjobs.client.draining import Drained
from asyncjobs.errors import DrainTimeout, UsageError
from asyncjobs.guard.own import hide
from asyncjobs.host.exits import ExitCode
from asyncjobs.store.seam import Backend, StoreInfo

__all__ = ["drain"]

# As a shell says it of a command that Ctrl-C has ended.
INTERRUPTED: Final = 130
_EPILOG = """\b
Exit codes:
  0    the queue is empty
  1    it is not empty after --timeout, or never will be, for its jobs are paused; it does not
       exist; the store failed
  2    wrong usage or configuration
  3    the store cannot be reached, or has another layout
  130  interrupted by Ctrl-C or SIGTERM; the jobs go on
"""


@click.command("drain", epilog=_EPILOG)
@click.argument("name", metavar="NAME")
@click.option("--timeout", type=Duration(), metavar="DURATION", help="Wait at most so long.")
@click.option("--scheduled", is_flag=True, help="Wait for scheduled jobs, too.")
@click.option(
    "--pause", "pauses", is_flag=True, help="Pause the queue once it is empty, and nothing runs."
)
@store_options
@click.pass_context
def drain(
    ctx: click.Context,
    /,
    name: str,
    timeout: float | None,
    url: str | None,
    prefix: str,
    *,
    scheduled: bool,
    pauses: bool,
    as_json: bool,
) -> None:
    """Wait until no job of a queue is ready or running.

    Jobs can still be enqueued, so stop that first. Scheduled jobs are named and not waited for,
    unless you ask for it. To stop at once and leave ready jobs where they are, use `queues pause`.
    Does not import the app.
    """
    name = one_queue(ctx, name)

    async def question(store: Backend, info: StoreInfo) -> int:
        if (problem := unknown(name, await store.inspect.queues.names())) is not None:
            return fail(ExitCode.FAILED, problem, as_json=as_json)
        with stop_signals() as stop:
            progress = _Progress()
            draining = queues_of(store).drain(
                name,
                timeout=timeout,
                scheduled=scheduled,
                pause=pauses,
                on_progress=progress,
            )
            work = hide(asyncio.create_task(draining))
            stopping = hide(asyncio.create_task(stop.wait()))
            await asyncio.wait((work, stopping), return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            # Both may have ended in one turn of the loop. Then the queue is empty all the same.
            if not work.done():
                work.cancel()
                await asyncio.wait((work,))
                return _interrupted(progress.last, as_json=as_json)
        return _tell(work, is_paused=pauses, as_json=as_json)

    ctx.exit(ask(url, prefix, question, as_json=as_json))


class _Progress:
    """Says on stderr how far it is, whenever that has changed."""

    def __init__(self) -> None:
        self.last: Drained | None = None

    def __call__(self, found: Drained) -> None:
        # One line for each change, or a log of hours would be all the same line.
        if found != self.last and (found.ready or found.running):
            text = f"{clean(found.queue)}: {found.ready:,} ready, {found.running:,} running"
            if not found.workers:
                text += ", no live worker"
            click.echo(text, err=True)
        self.last = found


def _interrupted(last: Drained | None, *, as_json: bool) -> int:
    click.echo("interrupted; the jobs go on", err=True)
    if as_json:
        show_json({"empty": False, "interrupted": True, **(asdict(last) if last else {})})
    return INTERRUPTED


def _tell(work: asyncio.Task[Drained], *, is_paused: bool, as_json: bool) -> int:
    try:
        found = work.result()
    except (DrainTimeout, UsageError) as error:
        return fail(ExitCode.FAILED, error, as_json=as_json, empty=False)
    if as_json:
        show_json({"empty": True, "paused": is_paused, **asdict(found)})
        return ExitCode.CLEAN
    text = f"empty: {clean(found.queue)}"
    if is_paused:
        text = f"empty and paused: {clean(found.queue)}"
    if found.scheduled:
        text += f"; {count(found.scheduled, 'scheduled job')} not waited for"
    click.echo(text)
    return ExitCode.CLEAN
