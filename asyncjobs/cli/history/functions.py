"""`asyncjobs history functions`: how many attempts there were, and how long they took."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import click

from asyncjobs.cli.dead.filters import read_queues
from asyncjobs.cli.history.finished import EPILOG
from asyncjobs.cli.shared.render import Table, clean, moment, paint, show, show_json
from asyncjobs.cli.shared.store_command import ask, refusals, store_options
from asyncjobs.cli.shared.values import Duration, show_duration
from asyncjobs.host.exits import ExitCode
from asyncjobs.jobs.overview import store_now_ms
from asyncjobs.jobs.past import figures_query, in_one
from asyncjobs.jobs.times import from_ms
from asyncjobs.model.figures import OTHERS, Figures
from asyncjobs.model.histogram import Histogram, quantile_s
from asyncjobs.store.apart import apart
from asyncjobs.store.history import KEPT_HOURS
from asyncjobs.store.seam import Backend, StoreInfo

__all__ = ["functions"]

SHARES: Final = (0.5, 0.95, 0.99)


@click.command(epilog=EPILOG)
@click.option("--queue", "queues", multiple=True, metavar="NAME", help="Only this queue.")
@click.option("--function", metavar="NAME", help="Only this job function.")
@click.option(
    "--since",
    type=Duration(),
    default="1h",
    show_default=True,
    metavar="DURATION",
    help="How far to look back: by the minute for a day, by the hour for 30 days.",
)
@click.option(
    "--step",
    type=Duration(),
    metavar="DURATION",
    help="A row for each such span of time, in whole minutes or hours.",
)
@store_options
@click.pass_context
def functions(
    ctx: click.Context, /, url: str | None, prefix: str, *, as_json: bool, **flags: Any
) -> None:
    """Show what each job function took: attempts, failures, and times.

    Of the times in the queue and of the run it shows the median, and what 95 and 99 per cent do not
    exceed, to within 10 per cent. Workers tell the store every ten seconds. Does not import the
    app.
    """
    chosen = read_queues(ctx, flags["queues"])
    since_s, step_s = flags["since"], flags["step"]
    if not 60 <= since_s <= KEPT_HOURS * 3600:
        raise click.BadParameter("it must be from 1m to 30d", ctx, param_hint="--since")
    if step_s is not None and step_s < 60:
        raise click.BadParameter("it must be at least 1m", ctx, param_hint="--step")

    async def question(store: Backend, info: StoreInfo) -> int:
        queues = chosen or tuple(await store.inspect.queues.names())
        now_ms = await store_now_ms(store, queues)
        query = figures_query(now_ms, since_s, step_s)
        if flags["function"]:
            query = query._replace(functions=(flags["function"],))

        async def figures(names: Sequence[str]) -> list[list[Figures]]:
            history = store.inspect.history
            return [await history.figures(query._replace(queue=name)) for name in names]

        found = await apart(figures, queues)
        rows = [each for part in found.answers.values() for each in part]
        if step_s is None:
            rows = in_one(rows)
        for problem in refusals(found.refused):
            click.echo(problem, err=True)
        if as_json:
            refused = {queue: str(error) for queue, error in found.refused.items()}
            show_json({"functions": [_fields(each) for each in rows], "refused": refused})
        elif rows:
            show(_table(rows, has_steps=step_s is not None))
        else:
            show("no attempt has ended in this time")
        return ExitCode.failed_if(found.refused)

    ctx.exit(ask(url, prefix, question, as_json=as_json))


def _table(rows: Sequence[Figures], *, has_steps: bool) -> Table:
    columns = ["queue", "function", "attempts", "failed", "queued p50", "p95", "p99"]
    columns += ["ran p50", "p95", "p99"]
    cells = [_cells(each) for each in rows]
    if has_steps:
        columns.insert(0, "from")
        for row, each in zip(cells, rows, strict=True):
            row.insert(0, moment(from_ms(each.at_ms))[:16])
    return Table(columns, cells, frozenset(columns) - {"from", "queue", "function"})


def _cells(figures: Figures) -> list[str]:
    failed = str(figures.failed)
    if figures.failed:
        share = 100 * figures.failed / max(figures.attempts, 1)
        failed = paint(f"{figures.failed} ({share:.2g} %)", "red")
    times = [
        _time(histogram, share) for histogram in (figures.queued, figures.ran) for share in SHARES
    ]
    return [clean(figures.queue), _name(figures), str(figures.attempts), failed, *times]


def _name(figures: Figures) -> str:
    # In brackets, which no name of a function has.
    return "(others)" if figures.function == OTHERS else clean(figures.function)


def _time(histogram: Histogram, share: float) -> str:
    found = quantile_s(histogram, share)
    # Two digits: more would tell what the buckets do not know.
    return "" if found is None else show_duration(float(f"{found:.2g}"))


def _fields(figures: Figures) -> dict[str, Any]:
    return {
        "queue": figures.queue,
        "function": figures.function or None,
        "from": from_ms(figures.at_ms),
        "attempts": figures.attempts,
        "failed": figures.failed,
        "queued_s": _quantiles(figures.queued),
        "ran_s": _quantiles(figures.ran),
    }


def _quantiles(histogram: Histogram) -> dict[str, float | None]:
    return {f"p{share * 100:g}": quantile_s(histogram, share) for share in SHARES}
