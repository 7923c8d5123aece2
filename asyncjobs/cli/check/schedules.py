"""What `asyncjobs check` says of schedules: which are late, and which nobody declares any more."""

from __future__ import annotations

from typing import Final, NamedTuple

from asyncjobs.cli.schedules.reading import read_all
from asyncjobs.cli.shared.render import ago, clean
from asyncjobs.client.ticks import store_now_ms
from asyncjobs.store.schedules import ScheduleRecord
from asyncjobs.store.seam import Backend

__all__ = ["Findings", "look_at_schedules"]

LATE_MS: Final = 90_000
"""A tick that is older was fired by nobody. Workers look at least each 30 s, and a queue that has
refused is tried again after 60 s."""
MOST_NAMED: Final = 10


class Findings(NamedTuple):
    """What is wrong with the schedules, and what is only worth knowing."""

    problems: list[str]
    warnings: list[str]


async def look_at_schedules(store: Backend) -> Findings:
    """Judge all schedules. Empty for a store without any."""
    findings = Findings([], [])
    if not store.capabilities.schedules:
        return findings
    found = await read_all(store)
    for queue, why in found.refused.items():
        findings.problems.append(f"the schedules of queue {queue!r} cannot be read: {why}")
    records = found.records
    if not records:
        return findings
    # By the store's clock: that of this machine may make every schedule look late.
    now_ms = await store_now_ms(store, records[0].ref.queue)
    late = [
        _late(record, now_ms - record.next_ms)
        for record in records
        if record.next_ms is not None and now_ms - record.next_ms > LATE_MS
    ]
    findings.problems.extend(_first(late))
    # A pause by hand is meant. One that a deploy has caused may be a surprise.
    lapsed = [
        f"schedule {clean(record.ref.id)!r} is paused: {clean(record.paused or '')}"
        for record in records
        if record.is_lapsed
    ]
    findings.warnings.extend(_first(lapsed))
    return findings


def _late(record: ScheduleRecord, late_ms: int) -> str:
    queue = clean(record.ref.queue)
    return (
        f"schedule {clean(record.ref.id)!r} is late by {ago(late_ms / 1000)}: no worker of queue "
        f"{queue!r} fires it; start one: asyncjobs worker APP --queues {queue}. If one runs, its "
        "log says why the schedule does not fire"
    )


def _first(texts: list[str]) -> list[str]:
    """The first few. Hundreds would push everything else off the screen."""
    if len(texts) <= MOST_NAMED:
        return texts
    more = len(texts) - MOST_NAMED
    return [*texts[:MOST_NAMED], f"{more:,} more schedules like these; asyncjobs schedules list"]
