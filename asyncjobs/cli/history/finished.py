"""`asyncjobs history jobs`: the last jobs that have ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import click

from asyncjobs.cli.dead.filters import read_queues
from asyncjobs.cli.shared.render import Table, clean, moment, paint, show, show_json
from asyncjobs.cli.shared.store_command import ask, refusals, store_options
from asyncjobs.cli.shared.values import Duration, count, show_duration
from asyncjobs.host.exits import ExitCode
from asyncjobs.jobs.overview import store_now_ms
from asyncjobs.jobs.past import newest
from asyncjobs.jobs.times import from_ms
from asyncjobs.model.ends import ENDS
from asyncjobs.model.history import FinishedJob
from asyncjobs.model.job import State
from asyncjobs.store.apart import apart
from asyncjobs.store.history import FinishedQuery
from asyncjobs.store.seam import Backend, StoreInfo

__all__ = ["EPILOG", "finished"]

EPILOG: Final = """\b
Exit codes:
  0  shown, even if there is nothing
  1  a queue cannot be read, or the store failed meanwhile
  2  wrong usage or configuration
  3  the store cannot be reached, or has another layout
"""
_RIGHT: Final = frozenset({"attempt", "queued", "ran"})


@click.command("jobs", epilog=EPILOG)
@click.option("--queue", "queues", multiple=True, metavar="NAME", help="Only this queue.")
@click.option("--function", metavar="NAME", help="Only jobs of this job function.")
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice([state.value for state in ENDS]),
    help="Only jobs that have ended like this; may be repeated.",
)
@click.option("--error", metavar="TEXT", help="Only jobs whose error has this in its line.")
@click.option("--since", type=Duration(), metavar="DURATION", help="Not longer ago than this.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    metavar="N",
    help="Show at most this many.",
)
@store_options
@click.pass_context
def finished(
    ctx: click.Context, /, url: str | None, prefix: str, *, as_json: bool, **flags: Any
) -> None:
    """List the last jobs that have ended, the newest first.

    Each queue keeps the last 1,000, or as many as the setting `history` of the app says. Does not
    import the app.
    """
    chosen = read_queues(ctx, flags["queues"])

    async def question(store: Backend, info: StoreInfo) -> int:
        queues = chosen or tuple(await store.inspect.queues.names())
        query = await _query(store, queues, flags)

        async def pages(names: Sequence[str]) -> list[list[FinishedJob]]:
            return [await newest(store, query._replace(queue=name)) for name in names]

        found = await apart(pages, queues)
        jobs = [job for part in found.answers.values() for job in part]
        jobs.sort(key=lambda job: (job.ended_ms, job.ref, job.number), reverse=True)
        jobs = jobs[: flags["limit"]]
        for problem in refusals(found.refused):
            click.echo(problem, err=True)
        if as_json:
            refused = {queue: str(error) for queue, error in found.refused.items()}
            show_json({"jobs": [_fields(job) for job in jobs], "refused": refused})
        else:
            _show(jobs)
        return ExitCode.failed_if(found.refused)

    ctx.exit(ask(url, prefix, question, as_json=as_json))


async def _query(store: Backend, queues: tuple[str, ...], flags: dict[str, Any]) -> FinishedQuery:
    """What to ask each queue."""
    query = FinishedQuery("", error=flags["error"] or "", limit=flags["limit"])
    if flags["function"]:
        query = query._replace(functions=(flags["function"],))
    query = query._replace(states=[State(state) for state in flags["states"]])
    # Without a time the clock of the store does not matter, and need not be asked.
    if flags["since"] is None or not queues:
        return query
    now_ms = await store_now_ms(store, queues)
    return query._replace(since_ms=now_ms - round(1000 * flags["since"]))


def _show(jobs: Sequence[FinishedJob]) -> None:
    if jobs:
        columns = ("job", "function", "state", "ended", "attempt", "queued", "ran", "error")
        show(Table(columns, [_cells(job) for job in jobs], _RIGHT))
    click.echo(count(len(jobs), "finished job") if jobs else "no finished job", err=True)


def _cells(job: FinishedJob) -> list[str]:
    queued = ran = attempt = ""
    if job.queued_ms is not None:
        queued = show_duration(job.queued_ms / 1000)
        ran = show_duration(round(job.lasted_s, 4))
    if job.attempt:
        attempt = str(job.attempt)
    state = paint(job.state.value, ENDS[job.state].color)
    about = (clean(str(job.ref)), clean(job.function), state, moment(from_ms(job.ended_ms)))
    return [*about, attempt, queued, ran, clean(job.error)]


def _fields(job: FinishedJob) -> dict[str, Any]:
    times = {
        "enqueued_at": job.enqueued_ms,
        "ready_at": job.ready_ms,
        "began_at": job.began_ms,
        "ended_at": job.ended_ms,
    }
    return {
        "job": str(job.ref),
        "queue": job.ref.queue,
        "id": job.ref.id,
        "state": job.state,
        "function": job.function or None,
        "attempt": job.attempt or None,
        "worker": job.worker or None,
        **{name: ms and from_ms(ms) for name, ms in times.items()},
        "ran_s": job.lasted_s if job.began_ms is not None else None,
        "error": job.error or None,
    }
