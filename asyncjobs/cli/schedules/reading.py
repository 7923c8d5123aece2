"""What the commands for schedules read from the store, and how they show one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from asyncjobs.cli.shared.store_command import Question, ask, fail
from asyncjobs.client.ticks import every_record
from asyncjobs.errors import StoreError, StoreUnavailable
from asyncjobs.guard.nearness import nearest
from asyncjobs.host.exits import ExitCode
from asyncjobs.jobs.schedule import Schedule
from asyncjobs.store.checks import no_schedules
from asyncjobs.store.schedules import ScheduleRecord
from asyncjobs.store.seam import Backend, StoreInfo

__all__ = ["Found", "ask_schedules", "fields", "priority_name", "read_all", "unknown"]


class Found(NamedTuple):
    """The schedules that were asked for, and the queues that cannot be read."""

    records: list[ScheduleRecord]
    refused: dict[str, StoreError]


def ask_schedules(url: str | None, prefix: str, question: Question, *, as_json: bool) -> int:
    """`ask`, of a store that keeps schedules. Any other one is wrong usage."""

    async def asked(store: Backend, info: StoreInfo) -> int:
        if not store.capabilities.schedules:
            return fail(ExitCode.USAGE, no_schedules(store.address), as_json=as_json)
        return await question(store, info)

    return ask(url, prefix, asked, as_json=as_json)


async def read_all(store: Backend, queues: Sequence[str] = ()) -> Found:
    """The schedules of these queues, or of all, sorted by queue and id. One queue that cannot be
    read does not hide the others."""
    found = Found([], {})
    for queue in queues or await store.schedules.queues():
        try:
            found.records.extend(await every_record(store, [queue]))
        except StoreUnavailable:
            raise
        except StoreError as error:
            found.refused[queue] = error
    return found


async def unknown(store: Backend, id: str) -> str:
    """The error for an id that no schedule has."""
    # Rare enough, so it may read everything for the sake of a good message.
    known = [record.ref.id for record in (await read_all(store)).records]
    if near := nearest(id, known):
        return f"no schedule has the id {id!r}; did you mean {near!r}?"
    return f"no schedule has the id {id!r}; asyncjobs schedules list shows them"


def priority_name(schedule: Schedule) -> str | None:
    """The name of the priority of its jobs."""
    if schedule.priority is None:
        return None
    return schedule.priority.name.lower()


def fields(schedule: Schedule) -> dict[str, Any]:
    """The schedule as JSON. Sensitive values are masked."""
    shown = schedule.redacted()
    return {
        "id": shown.id,
        "queue": shown.queue,
        "function": shown.name,
        "times": shown.times,
        "text": shown.text,
        "tz": shown.tz,
        "state": shown.state,
        "reason": shown.reason,
        "source": shown.source,
        "next_at": _iso(shown.next_at),
        "last_at": _iso(shown.last_at),
        "fired": shown.fired,
        "missed": shown.missed,
        "skipped": shown.skipped,
        "lag_s": shown.lag_s,
        "left": shown.left,
        "catch_up": shown.catch_up,
        "window_s": shown.window_s,
        "overlap": shown.overlap,
        "jitter_s": shown.jitter_s,
        "start": _iso(shown.start),
        "end": _iso(shown.end),
        "priority": priority_name(shown),
        "args": shown.args,
        "kwargs": shown.kwargs,
        "declared_at": _iso(shown.declared_at),
    }


def _iso(at: datetime | None) -> str | None:
    if at is None:
        return None
    return at.isoformat()
