"""`asyncjobs queues list`: queues with their jobs, and what is paused."""

from __future__ import annotations

from typing import Any

import click

from asyncjobs.cli.queues.chosen import describe_pause, pause_fields, pauses_of, tell_refused
from asyncjobs.cli.shared.render import Part, Table, clean, paint, show, show_json
from asyncjobs.cli.shared.store_command import ask, store_options
from asyncjobs.client.queues import QueuePause
from asyncjobs.host.exits import ExitCode
from asyncjobs.store.apart import apart
from asyncjobs.store.inspect import QueueCounts
from asyncjobs.store.seam import Backend, StoreInfo

__all__ = ["list_queues"]

_EPILOG = """\b
Exit codes:
  0  shown
  1  a queue cannot be read; the store failed meanwhile
  2  wrong usage or configuration
  3  the store cannot be reached, or has another layout
"""


@click.command("list", epilog=_EPILOG)
@click.option("--paused", "only_paused", is_flag=True, help="Only queues with something paused.")
@store_options
@click.pass_context
def list_queues(
    ctx: click.Context, /, url: str | None, prefix: str, *, only_paused: bool, as_json: bool
) -> None:
    """Show queues, and what is paused since when, by whom and why.

    Does not import the app. `asyncjobs stats` shows rates and workers, too.
    """

    async def question(store: Backend, info: StoreInfo) -> int:
        counts = await apart(store.inspect.queues.counts, await store.inspect.queues.names())
        pauses, refused = await pauses_of(store, list(counts.answers))
        refused |= counts.refused
        found = [
            (count, pauses[queue])
            for queue, count in counts.answers.items()
            if queue in pauses and (pauses[queue] or not only_paused)
        ]
        tell_refused(refused)
        if as_json:
            errors = {queue: str(error) for queue, error in refused.items()}
            show_json({"queues": [_fields(*each) for each in found], "refused": errors})
        else:
            show(*_parts(found, only_paused=only_paused))
        return ExitCode.failed_if(refused)

    ctx.exit(ask(url, prefix, question, as_json=as_json))


def _fields(count: QueueCounts, pauses: list[QueuePause]) -> dict[str, Any]:
    return {
        "queue": count.queue,
        "ready": sum(count.ready),
        "running": count.running,
        "scheduled": count.scheduled,
        "held": count.held,
        "dead": count.dead,
        "workers": count.workers,
        "paused": any(pause.function is None for pause in pauses),
        "pauses": [pause_fields(pause) for pause in pauses],
    }


def _parts(found: list[tuple[QueueCounts, list[QueuePause]]], *, only_paused: bool) -> list[Part]:
    if not found:
        if only_paused:
            return ["nothing is paused"]
        return ["no queue yet: nothing was enqueued, and no worker has started"]
    columns = ("queue", "ready", "running", "scheduled", "held", "dead", "workers", "state")
    rows = [row for count, pauses in found for row in _rows(count, pauses)]
    return [Table(columns, rows, frozenset(columns[1:7]))]


def _rows(count: QueueCounts, pauses: list[QueuePause]) -> list[tuple[str, ...]]:
    """A row for the queue, and one for each of its functions that is paused."""
    # Jobs that stand aside count as ready, so no number stands beside a function.
    living = (sum(count.ready), count.running, count.scheduled, count.held)
    numbers = (*living, count.dead, count.workers)
    state = "ok"
    rows = []
    for pause in pauses:
        text = paint(describe_pause(pause), "yellow")
        if pause.function is None:
            state = text
        else:
            rows.append((f"  {clean(pause.function)}", "", "", "", "", "", "", text))
    return [(clean(count.queue), *map(str, numbers), state), *rows]
