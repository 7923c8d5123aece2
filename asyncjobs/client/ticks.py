"""What is done with a stored schedule by hand: resume it, fire it now, make up for its past."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TypeVar

from asyncjobs.errors import ScheduleNotFound, UsageError
from asyncjobs.guard.texts import shown
from asyncjobs.jobs.rule import Definition, NewerDefinition, Rule
from asyncjobs.jobs.tick import job_of_tick
from asyncjobs.jobs.zones import load_zones_of
from asyncjobs.model.clock import new_id
from asyncjobs.model.codec import BadRecord
from asyncjobs.model.envelope import NewerEnvelope
from asyncjobs.model.headers import TickMark
from asyncjobs.model.refs import JobRef
from asyncjobs.model.schedules import ScheduleRef, tick_job_id
from asyncjobs.store.answers import Placed
from asyncjobs.store.schedules import MOST_TICKS, Resume, ScheduleRecord, Tick, TickVerdict
from asyncjobs.store.seam import Backend

__all__ = [
    "MOST_BACKFILLED",
    "Backfill",
    "BackfillPlan",
    "Triggered",
    "definition_of",
    "every_record",
    "found",
    "next_ticks",
    "plan_backfill",
    "resume",
    "run_backfill",
    "store_now_ms",
    "trigger",
]

MOST_BACKFILLED: Final = 1_000
"""The most ticks of one backfill. More are probably a wrong year."""
PAGE: Final = 500
TRIES: Final = 5
"""How often a schedule is read anew when somebody changes it at the same moment."""

T = TypeVar("T")


class Backfill(NamedTuple):
    """What a backfill has done. `fired`: the ticks that made jobs. `ran`: those that had run
    before, as far as the store remembers, and were left out. `skipped`: those of a unique job
    function whose key another job held."""

    fired: int
    ran: int
    skipped: int = 0


class Triggered(NamedTuple):
    """The job that a schedule has made by hand, and the name of its job function.

    `place`: the job in the place of one whose unique key was taken, and what became of it; then
    `ref` is that job."""

    ref: JobRef
    name: str
    place: Placed | None = None


async def found(store: Backend, id: str) -> ScheduleRecord:
    """The schedule with this id. Raises ScheduleNotFound."""
    (record,) = await store.schedules.get([id])
    if record is None:
        raise ScheduleNotFound(
            f"no schedule has the id {shown(id)}; asyncjobs schedules list shows them"
        )
    await load_zones_of([record.definition])
    return record


async def every_record(store: Backend, queues: Sequence[str]) -> list[ScheduleRecord]:
    """All schedules of these queues, sorted by queue and id."""
    records: list[ScheduleRecord] = []
    after: ScheduleRef | None = None
    while True:
        page = await store.schedules.page(queues, after=after, limit=PAGE)
        await load_zones_of(record.definition for record in page)
        records += page
        if len(page) < PAGE:
            return records
        after = page[-1].ref


def definition_of(record: ScheduleRecord) -> Definition:
    """The definition of a stored schedule. Raises UsageError if this release cannot read it."""
    return _readable(record, lambda: Definition.decode(record.definition, record.ref.queue))


async def store_now_ms(store: Backend, queue: str) -> int:
    """The store's clock. That of this process may be ahead or behind, and would lose or repeat a
    tick."""
    # Any answer with a time would do. This one reads no more than one schedule.
    return (await store.schedules.due([queue], 1)).now_ms


async def resume(store: Backend, id: str) -> bool:
    """Let a paused schedule go on with its next tick after now. False if it was not paused.

    Raises ScheduleNotFound, and UsageError for one that this release cannot read.
    """
    # The next tick is worked out here and counts only for the version that was read.
    for _ in range(TRIES):
        record = await found(store, id)
        if record.paused is None:
            return False
        rule = definition_of(record).rule
        next_ms = rule.next_after(await store_now_ms(store, record.ref.queue))
        if (await store.schedules.resume([Resume(id, record.version, next_ms)]))[0]:
            return True
    raise UsageError(f"the schedule {id} was changed at the same moment by others; try again")


async def trigger(store: Backend, id: str) -> Triggered:
    """Make a job of the schedule now, whatever its times, its pause and its overlap say.

    Raises ScheduleNotFound, and UsageError for one that this release cannot read.
    """
    record = await found(store, id)
    now_ms = await store_now_ms(store, record.ref.queue)
    definition = definition_of(record)
    # An id of its own: the tick of this very moment may come by itself as well.
    tick = _tick(record, definition, now_ms, now_ms, new_id())
    ran = await store.schedules.run(id, [tick])
    if ran is None:
        raise ScheduleNotFound(f"the schedule {id} was deleted at this moment")
    place = ran.places.get(0)
    ref = tick.job.ref
    if place is not None:
        ref = place.ref
    return Triggered(ref, definition.call.name, place)


class BackfillPlan(NamedTuple):
    """The ticks that a backfill is about, by its schedule as it was read."""

    record: ScheduleRecord
    definition: Definition
    ticks: list[int]


async def plan_backfill(store: Backend, id: str, start_ms: int, end_ms: int) -> BackfillPlan:
    """Find all ticks from `start_ms` to before `end_ms`. Stores nothing.

    Raises ScheduleNotFound, and UsageError for more than MOST_BACKFILLED ticks, for a span that
    is not over, and for a schedule that this release cannot read.
    """
    record = await found(store, id)
    definition = definition_of(record)
    if end_ms > await store_now_ms(store, record.ref.queue):
        raise UsageError(
            f"backfill of {id}: its end is in the future; ticks that are to come fire by themselves"
        )
    ticks = await _ticks_between(definition.rule, start_ms, end_ms)
    if len(ticks) > MOST_BACKFILLED:
        raise UsageError(
            f"backfill of {id}: there are more than {MOST_BACKFILLED:,} ticks in this time; give "
            "a shorter one, several times if all of them are meant"
        )
    return BackfillPlan(record, definition, ticks)


async def run_backfill(store: Backend, plan: BackfillPlan) -> Backfill:
    """Make the jobs of these ticks, except of those that ran. Raises ScheduleNotFound."""
    record = plan.record
    id = record.ref.id
    # The jobs say that they were enqueued now, whatever their ticks are.
    now_ms = await store_now_ms(store, record.ref.queue)
    verdicts: list[TickVerdict] = []
    for first in range(0, len(plan.ticks), MOST_TICKS):
        made = [
            _tick(record, plan.definition, tick_ms, now_ms, tick_job_id(id, tick_ms))
            for tick_ms in plan.ticks[first : first + MOST_TICKS]
        ]
        answer = await store.schedules.run(id, made)
        if answer is None:
            raise ScheduleNotFound(
                f"the schedule {id} was deleted at this moment; {len(verdicts):,} of its ticks "
                "were handled before"
            )
        # Each batch is one atomic step. What was made stays if the next one fails, and a second
        # backfill leaves it out.
        verdicts += answer.verdicts
    kinds = (TickVerdict.FIRED, TickVerdict.RAN, TickVerdict.SKIPPED)
    return Backfill(*(verdicts.count(kind) for kind in kinds))


async def _ticks_between(rule: Rule, start_ms: int, end_ms: int) -> list[int]:
    """The ticks from `start_ms` to before `end_ms`: all of them, or one more than may be."""
    ticks: list[int] = []
    tick_ms = rule.next_after(start_ms - 1)
    while tick_ms is not None and tick_ms < end_ms and len(ticks) <= MOST_BACKFILLED:
        ticks.append(tick_ms)
        if len(ticks) % MOST_TICKS == 0:
            # A worker in this process must get to its jobs meanwhile.
            await asyncio.sleep(0)
        tick_ms = rule.next_after(tick_ms)
    return ticks


def next_ticks(record: ScheduleRecord, now_ms: int, number: int) -> tuple[str, list[int]]:
    """The zone of a schedule, and its next ticks; of a paused one those that it would have.

    Raises UsageError for a schedule that this release cannot read.
    """
    rule = definition_of(record).rule
    most = number
    if record.left is not None:
        most = min(number, record.left)
    tick_ms = record.next_ms
    # The store knows no next tick of a paused one, but its calendar does.
    if record.paused is not None:
        tick_ms = rule.next_after(now_ms)
    ticks: list[int] = []
    while tick_ms is not None and len(ticks) < most:
        ticks.append(tick_ms)
        tick_ms = rule.next_after(tick_ms)
    return rule.zone, ticks


def _tick(
    record: ScheduleRecord, definition: Definition, tick_ms: int, now_ms: int, job_id: str
) -> Tick:
    mark = TickMark(record.ref.id, tick_ms, definition.rule.zone)
    job = _readable(record, lambda: job_of_tick(definition.call, job_id, mark, now_ms))
    return Tick(tick_ms, job)


def _readable(record: ScheduleRecord, read: Callable[[], T]) -> T:
    try:
        return read()
    except (BadRecord, NewerDefinition, NewerEnvelope) as error:
        raise UsageError(
            f"this release cannot read the schedule {record.ref.id} ({error}); use the release "
            "that has stored it, or store it anew"
        ) from error
