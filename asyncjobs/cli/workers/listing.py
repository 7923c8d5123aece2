"""`asyncjobs workers list`: who works."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click

from asyncjobs.cli.shared.render import Table, ago, clean, paint, show, show_json
from asyncjobs.cli.shared.store_command import ask, store_options
from asyncjobs.client.workers import WorkerInfo, Workers
from asyncjobs.host.exits import ExitCode
from asyncjobs.model.control import WorkerState
from asyncjobs.store.seam import Backend, StoreInfo

__all__ = ["list_workers", "worker_fields"]

_EPILOG = """\b
Exit codes:
  0  shown
  1  the store failed meanwhile
  2  wrong usage or configuration
  3  the store cannot be reached, or has another layout
"""


@click.command("list", epilog=_EPILOG)
@store_options
@click.pass_context
def list_workers(ctx: click.Context, /, url: str | None, prefix: str, *, as_json: bool) -> None:
    """Show live workers: what they serve, run and do.

    Does not import the app.
    """

    async def question(store: Backend, info: StoreInfo) -> int:
        found = await Workers(lambda: store).list()
        if as_json:
            show_json({"workers": list(map(worker_fields, found))})
        elif not found:
            show("no worker; start one: asyncjobs worker APP")
        else:
            show(_table(found))
        return ExitCode.CLEAN

    ctx.exit(ask(url, prefix, question, as_json=as_json))


def worker_fields(worker: WorkerInfo) -> dict[str, Any]:
    """A worker as JSON."""
    return {
        "worker": worker.name,
        "lease": worker.lease,
        "host": worker.host,
        "pid": worker.pid,
        "version": worker.version,
        "queues": dict(worker.queues),
        "concurrency": worker.concurrency,
        "running": worker.running,
        "state": worker.state,
        "ordered": worker.ordered,
        "since": worker.since,
        "lease_ends": worker.ends,
    }


def _table(found: Sequence[WorkerInfo]) -> Table:
    about = ("worker", "lease", "host", "pid", "version", "queues")
    columns = (*about, "running", "state", "since", "lease ends")
    rows = [_row(worker) for worker in found]
    return Table(columns, rows, frozenset({"pid", "running", "since", "lease ends"}))


def _row(worker: WorkerInfo) -> tuple[str, ...]:
    # This machine's clock stands for the store's: it is only shown in seconds.
    now = datetime.now(UTC)
    queues = ", ".join(f"{queue}:{weight}" for queue, weight in worker.queues.items())
    since = "?"
    if worker.since is not None:
        # Its clock may be ahead of this machine's.
        since = ago(max((now - worker.since).total_seconds(), 0))
    return (
        clean(worker.name),
        clean(worker.lease),
        clean(worker.host or "?"),
        str(worker.pid or "?"),
        clean(worker.version or "?"),
        clean(queues),
        f"{worker.running}/{worker.concurrency or '?'}",
        _state(worker),
        since,
        f"in {ago(max((worker.ends - now).total_seconds(), 0))}",
    )


def _state(worker: WorkerInfo) -> str:
    text: str = worker.state.value
    if worker.ordered is not None:
        # Its next heartbeat brings the order, or it has not told of it yet.
        text += f" ({worker.ordered.value} ordered)"
    if worker.state is not WorkerState.RUNNING:
        return paint(text, "yellow")
    return text
