"""`asyncjobs stats`: jobs in the queues, rates, and workers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import click

from asyncjobs.cli.queues.chosen import describe_pauses, pause_fields, pauses_of
from asyncjobs.cli.shared.render import (
    Part,
    Screen,
    Table,
    ago,
    clean,
    hanging,
    paint,
    show,
    show_json,
)
from asyncjobs.cli.shared.stopping import stop_signals
from asyncjobs.cli.shared.store_command import ask, describe_store, refusals, store_options
from asyncjobs.cli.shared.values import Duration
from asyncjobs.client.queues import QueuePause
from asyncjobs.errors import StoreError, StoreUnavailable
from asyncjobs.host.exits import ExitCode
from asyncjobs.model.clock import now_ms
from asyncjobs.model.codec import BadRecord, read_fields
from asyncjobs.model.ends import ENDS
from asyncjobs.model.job import Priority, State
from asyncjobs.store.apart import apart
from asyncjobs.store.inspect import QueueCounts, QueueFlow, WorkerEntry
from asyncjobs.store.seam import Backend, StoreInfo

__all__ = ["stats"]

SHORTEST_S: Final = 0.1
"""The shortest interval of --watch; each refresh asks the store."""
MOST_SHOWN: Final = 200
"""How much of a worker's name or host is shown, in characters: the worker chose it."""
_EPILOG = """\b
Exit codes:
  0  shown
  1  a queue cannot be read; the store failed meanwhile
  2  wrong usage or configuration
  3  the store cannot be reached, or has another layout
"""


@click.command(epilog=_EPILOG)
@click.option(
    "--watch",
    type=Duration(),
    is_flag=False,
    flag_value="2s",
    metavar="[DURATION]",
    help="Refresh until Ctrl-C, every 2s or at this interval.",
)
@store_options
@click.pass_context
def stats(
    ctx: click.Context, /, watch: float | None, url: str | None, prefix: str, *, as_json: bool
) -> None:
    """Show queues, rates and workers.

    Rates are jobs per second over the last minute. Does not import the app.
    """
    if watch is not None and watch < SHORTEST_S:
        raise click.BadParameter(f"it must be at least {SHORTEST_S:g}s", ctx, param_hint="--watch")

    async def question(store: Backend, info: StoreInfo) -> int:
        if watch is not None:
            await _watch(store, info, watch, as_json=as_json)
            return ExitCode.CLEAN
        view = await _look(store)
        if as_json:
            show_json(view.fields(info))
        else:
            show(*view.parts(info))
        return ExitCode.failed_if(view.refused)

    ctx.exit(ask(url, prefix, question, as_json=as_json))


async def _watch(store: Backend, info: StoreInfo, interval_s: float, *, as_json: bool) -> None:
    """Show the view again and again until Ctrl-C. If the store is away, wait for it."""
    with stop_signals() as stop, Screen() as screen:
        while not stop.is_set():
            try:
                view = await _look(store)
            except StoreUnavailable as error:
                # Who watches a store most often does so while it restarts. The view stays, and
                # what is wrong is told below it.
                click.echo(f"Error: {hanging(str(error))}", err=True)
            else:
                if as_json:
                    show_json(view.fields(info))
                else:
                    screen.update(*view.parts(info))
            try:
                async with asyncio.timeout(interval_s):
                    await stop.wait()
            except TimeoutError:
                continue


@dataclass(frozen=True, slots=True)
class _Worker:
    """One worker: its lease, and the queues that it takes jobs from."""

    lease: str
    queues: list[str]
    left_s: float
    about: dict[str, Any]

    @property
    def age_s(self) -> float:
        """The age of the lease. Its id starts with the time at which it was made."""
        try:
            made_ms = int(self.lease[:12], 16)
        except ValueError:
            return 0.0
        # It is this machine's clock against the worker's: where they differ, nothing is negative.
        return max(now_ms() - made_ms, 0) / 1000

    def shown(self, name: str) -> str:
        """A fact that the worker gave about itself, such as its host."""
        value = self.about.get(name)
        if value is None:
            return "?"
        # Anybody who can write to the store may have written it: cut first, then made harmless.
        return clean(str(value)[:MOST_SHOWN])


@dataclass(frozen=True, slots=True)
class _View:
    """Everything that the command shows, as it was at one moment."""

    counts: Sequence[QueueCounts]
    flows: Sequence[QueueFlow]
    workers: Sequence[_Worker]
    refused: dict[str, StoreError]
    pauses: dict[str, list[QueuePause]]

    def fields(self, info: StoreInfo) -> dict[str, Any]:
        return {
            "at": datetime.now(UTC),
            "store": {"name": info.name, "version": info.version, "address": info.address},
            "queues": [
                _queue_fields(count, flow)
                for count, flow in zip(self.counts, self.flows, strict=True)
            ],
            "workers": [
                {
                    "worker": worker.about.get("worker"),
                    "host": worker.about.get("host"),
                    "pid": worker.about.get("pid"),
                    "queues": worker.queues,
                    "concurrency": worker.about.get("concurrency"),
                    "lease": worker.lease,
                    "lease_age_s": round(worker.age_s, 3),
                    "lease_left_s": round(worker.left_s, 3),
                }
                for worker in self.workers
            ],
            "paused": [
                {"queue": queue, **pause_fields(pause)}
                for queue, pauses in self.pauses.items()
                for pause in pauses
            ],
            "refused": {queue: str(error) for queue, error in self.refused.items()},
        }

    def parts(self, info: StoreInfo) -> list[Part]:
        head = f"store: {describe_store(info)}"
        # Above the tables: a queue that could not be read is missing in all of them.
        problems: list[Part] = [*refusals(self.refused), *describe_pauses(self.pauses)]
        if not self.counts:
            none = "no queue yet: nothing was enqueued, and no worker has started"
            return [head, *(problems or [none])]
        rates = "jobs per second, over the last minute:"
        tables: list[Part] = [self._queues(), "", rates, self._rates(), "", self._workers()]
        return [head, *problems, "", *tables]

    def _queues(self) -> Table:
        priorities = [priority.name.lower() for priority in Priority]
        # Most queues have none, and a terminal has room for ten columns.
        has_held = any(count.held for count in self.counts)
        numbers = [*priorities, "running", "scheduled", "dead", "workers", "oldest"]
        if has_held:
            numbers.insert(numbers.index("dead"), "held")
        rows = []
        for count, flow in zip(self.counts, self.flows, strict=True):
            dead = "0"
            if count.dead:
                dead = paint(str(count.dead), ENDS[State.DEAD].color)
            living = [*count.ready, count.running, count.scheduled]
            if has_held:
                living.append(count.held)
            row = (clean(count.queue), *map(str, living), dead, str(count.workers))
            rows.append((*row, _oldest(flow)))
        return Table(("queue", *numbers), rows, frozenset(numbers))

    def _rates(self) -> Table:
        names = ["enqueued", *ENDS, "rescheduled"]
        rows = [(clean(flow.queue), *map(_rate, _rates(flow).values())) for flow in self.flows]
        return Table(("queue", *names), rows, frozenset(names))

    def _workers(self) -> Part:
        if not self.workers:
            return "no worker; start one: asyncjobs worker APP"
        columns = ("worker", "host", "pid", "queues", "concurrency", "lease age", "lease ends")
        rows = [
            (
                worker.shown("worker"),
                worker.shown("host"),
                worker.shown("pid"),
                clean(", ".join(worker.queues)),
                worker.shown("concurrency"),
                ago(worker.age_s),
                _lease_end(worker.left_s),
            )
            for worker in self.workers
        ]
        return Table(columns, rows, frozenset({"pid", "concurrency", "lease age", "lease ends"}))


def _lease_end(left_s: float) -> str:
    if left_s > 0:
        return f"in {ago(left_s)}"
    return paint("over", "red")


async def _look(store: Backend) -> _View:
    # A queue that cannot be read is left out of the next question.
    counts = await apart(store.inspect.queues.counts, await store.inspect.queues.names())
    flows = await apart(store.inspect.queues.flow, list(counts.answers))

    async def workers_of(queues: Sequence[str]) -> list[list[WorkerEntry]]:
        found: dict[str, list[WorkerEntry]] = {queue: [] for queue in queues}
        for entry in await store.inspect.workers(queues):
            found[entry.queue].append(entry)
        return list(found.values())

    workers = await apart(workers_of, list(flows.answers))
    # Last, for it is the only one that a store without the capability cannot answer.
    pauses, unread = await pauses_of(store, list(flows.answers))
    return _View(
        [counts.answers[queue] for queue in flows.answers],
        list(flows.answers.values()),
        _by_lease([entry for entries in workers.answers.values() for entry in entries]),
        counts.refused | flows.refused | workers.refused | unread,
        pauses,
    )


def _by_lease(entries: Sequence[WorkerEntry]) -> list[_Worker]:
    found: dict[str, _Worker] = {}
    # A worker has a lease in each of its queues, all under one id unless it has lost some of them.
    for entry in entries:
        left_s = (entry.end_ms - entry.now_ms) / 1000
        worker = found.setdefault(entry.lease, _Worker(entry.lease, [], left_s, _about(entry.info)))
        worker.queues.append(entry.queue)
    return sorted(found.values(), key=lambda worker: (worker.shown("worker"), worker.lease))


def _about(raw: bytes) -> dict[str, Any]:
    try:
        return read_fields(raw)
    except BadRecord:
        # One worker of a later release, or a foreign entry, must not hide all others.
        return {}


def _rates(flow: QueueFlow) -> dict[str, float]:
    """Jobs per second, in the order of the columns."""
    numbers = {
        "enqueued": flow.enqueued,
        **{state.value: flow.ended[state] for state in ENDS},
        "rescheduled": flow.rescheduled,
    }
    return {name: number / 60 for name, number in numbers.items()}


def _rate(rate: float) -> str:
    """With few digits, but enough that one job a minute is not shown as 0."""
    if rate == 0:
        return "0"
    if rate >= 100:
        return f"{rate:,.0f}"
    return f"{rate:.2f}"


def _since_s(flow: QueueFlow, moment_ms: int | None) -> float | None:
    if moment_ms is None:
        return None
    return max(flow.now_ms - moment_ms, 0) / 1000


def _oldest(flow: QueueFlow) -> str:
    oldest_s = _since_s(flow, flow.oldest_ready_ms)
    if oldest_s is None:
        return "-"
    return ago(oldest_s)


def _queue_fields(count: QueueCounts, flow: QueueFlow) -> dict[str, Any]:
    return {
        "queue": count.queue,
        "ready": {
            priority.name.lower(): number
            for priority, number in zip(Priority, count.ready, strict=True)
        },
        "running": count.running,
        "scheduled": count.scheduled,
        "held": count.held,
        "dead": count.dead,
        "workers": count.workers,
        "oldest_ready_s": _since_s(flow, flow.oldest_ready_ms),
        "outbox": flow.outbox,
        "oldest_outbox_s": _since_s(flow, flow.oldest_outbox_ms),
        "per_second": {name: round(rate, 3) for name, rate in _rates(flow).items()},
    }
