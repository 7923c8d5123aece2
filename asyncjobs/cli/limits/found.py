"""The keys of limits in a store, as commands show them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from asyncjobs.cli.shared.render import Table, ago, clean, moment
from asyncjobs.client.limits import info_of_limit
from asyncjobs.errors import StoreError, StoreUnavailable
from asyncjobs.store.checks import missing
from asyncjobs.store.limits import LimitRecord
from asyncjobs.store.seam import Backend

__all__ = ["Found", "check_gates", "every_queue", "fields", "find", "look", "named", "table"]

PAGE = 500


class Found(NamedTuple):
    """The keys that were asked for, when that was, and the queues that cannot be read."""

    records: list[LimitRecord]
    now_ms: int
    refused: dict[str, StoreError]


def check_gates(store: Backend) -> None:
    """Raises MissingCapability for a store that keeps no limits."""
    if not store.capabilities.gates:
        raise missing("gates", store.address)


async def find(store: Backend, queues: Sequence[str], pattern: str | None) -> Found:
    """The keys of all limits whose name fits the pattern; those that most jobs wait at first."""
    check_gates(store)
    records: dict[tuple[str, str, str], LimitRecord] = {}
    now_ms = 0

    async def read(queue: str) -> None:
        nonlocal now_ms
        after: str | None = None
        while True:
            page = await store.limits.page(queue, after, PAGE)
            now_ms = max(now_ms, page.now_ms)
            for record in page.limits:
                # A store may name a key twice while limits change.
                if pattern is None or fnmatchcase(record.limit, pattern):
                    records[queue, record.limit, record.key] = record
            after = page.after
            if after is None:
                return

    refused = await every_queue(store, queues, read)
    order = sorted(records.values(), key=lambda each: (-each.waiting, each.limit, each.key))
    return Found(order, now_ms, refused)


async def look(
    store: Backend, queues: Sequence[str], name: str, key: str
) -> tuple[list[LimitRecord], dict[str, StoreError]]:
    """One key in each queue that knows the limit, and the queues that cannot be read."""
    check_gates(store)
    records: list[LimitRecord] = []

    async def ask(queue: str) -> None:
        record = await store.limits.look(queue, name, key)
        if record is not None:
            records.append(record)

    return records, await every_queue(store, queues, ask)


async def every_queue(
    store: Backend, queues: Sequence[str], act: Callable[[str], Awaitable[object]]
) -> dict[str, StoreError]:
    """Do it in each of these queues, or in all; the queues that have refused it, and why."""
    refused: dict[str, StoreError] = {}
    for queue in queues or await store.inspect.queues.names():
        try:
            await act(queue)
        except StoreUnavailable:
            # That is no fault of this queue: the others would fail in the same way.
            raise
        except StoreError as error:
            refused[queue] = error
    return refused


def named(record: LimitRecord) -> str:
    """A limit with its key, for people."""
    return f"{record.limit} {record.key}".rstrip()


def fields(record: LimitRecord) -> dict[str, Any]:
    """A key as JSON."""
    info = info_of_limit(record)
    return {
        "name": info.name,
        "key": info.key,
        "queue": info.queue,
        "rule": info.rule,
        "is_set": info.is_set,
        "running": info.running,
        "waiting": info.waiting,
        "oldest": info.oldest,
        "opens": info.opens,
    }


def table(records: Sequence[LimitRecord], now_ms: int) -> Table:
    """Keys as a table."""
    columns = ("limit", "key", "queue", "rule", "running", "waiting", "oldest", "opens")
    rows = [_row(record, now_ms) for record in records]
    return Table(columns, rows, frozenset({"running", "waiting"}))


def _row(record: LimitRecord, now_ms: int) -> tuple[str, ...]:
    info = info_of_limit(record)
    oldest = ""
    if record.oldest_ms is not None:
        oldest = ago((now_ms - record.oldest_ms) / 1000)
    return (
        clean(info.name),
        clean(info.key),
        clean(info.queue),
        f"{info.rule} (set)" if info.is_set else info.rule,
        f"{info.running:,}",
        f"{info.waiting:,}",
        oldest,
        "" if info.opens is None else moment(info.opens),
    )
