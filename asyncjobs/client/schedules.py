"""`app.schedules`: schedules that are made, looked at and changed while programs run."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, Unpack

from asyncjobs.client import ticks
from asyncjobs.client.sender import disposition_of
from asyncjobs.client.ticks import Backfill
from asyncjobs.errors import ConfigError, UsageError
from asyncjobs.guard.texts import shown
from asyncjobs.jobs.function import JobCall, JobFunction
from asyncjobs.jobs.handle import JobHandle, Reader
from asyncjobs.jobs.registry import JobRegistry
from asyncjobs.jobs.rule import (
    Definition,
    Interval,
    PutOptions,
    Rule,
    check_schedule_id,
    cron_rule,
    every_rule,
    once_rule,
)
from asyncjobs.jobs.schedule import Schedule, schedule_of
from asyncjobs.jobs.tick import scheduled_call
from asyncjobs.jobs.times import in_zone
from asyncjobs.jobs.zones import load_zones, load_zones_of
from asyncjobs.model.clock import at_ms
from asyncjobs.model.schedules import ScheduleRef
from asyncjobs.options.checks import check_queue_name, check_whole
from asyncjobs.store.checks import check_needs
from asyncjobs.store.schedules import NewSchedule, ScheduleRecord
from asyncjobs.store.seam import Backend

__all__ = ["Schedules", "new_schedule"]

MOST_UPCOMING: Final = 1_000
NEEDS: Final = {"schedule": "schedules"}
"""The capability that a store must have for schedules."""


class Schedules:
    """The schedules of an app: `app.schedules`. The app must be open.

    Each method raises NotOpen, StoreError, and MissingCapability for a store without schedules.
    """

    def __init__(self, reader: Reader, registry: JobRegistry) -> None:
        """`reader`: the app, which handles ask."""
        self._reader = reader
        self._registry = registry

    async def put(
        self,
        id: str,
        call: JobCall[Any] | JobFunction[..., Any],
        *,
        cron: str | None = None,
        every: Interval | None = None,
        at: datetime | None = None,
        **options: Unpack[PutOptions],
    ) -> Schedule:
        """Store a schedule, or replace the one with this id.

        call: the job function, or `f.bind(...)` with arguments, perhaps placeholders.
        cron: the times as a cron expression.
        every: or as an interval.
        at: or a single time, an aware datetime.
        tz: for `cron`, the IANA name of the time zone; by default UTC.
        Further options are those of `JobRegistry.every`.

        A schedule that changes counts from now: it makes up for nothing. Its counters stay, and so
        does a pause. Deploys leave it alone.

        Raises ConfigError naming the option, ArgumentsError, EncodeError, and UsageError for an id
        that the code declares.
        """
        check_schedule_id(id)
        function, args, kwargs = _parts(call)
        tz = options.get("tz")
        if isinstance(tz, str):
            await load_zones([tz])
        rule = _rule(cron, every, at, options)
        if function.sender.reader is not self._reader:
            raise UsageError(f"{function.name} belongs to another AsyncJobs; use its schedules")
        # Everything is checked and encoded before the store is asked.
        definition = Definition(rule, scheduled_call(function, args, kwargs, rule.overlap))
        store = self._store()
        check_needs(function.name, function.needs, store)
        self._check_not_declared(id, (await store.schedules.get([id]))[0])
        queue = definition.call.queue
        now_ms = await ticks.store_now_ms(store, queue)
        await store.schedules.put([new_schedule(id, definition, now_ms, is_code=False)])
        return await self._found(id)

    def _check_not_declared(self, id: str, record: ScheduleRecord | None) -> None:
        # The code of this process counts even if no worker runs it yet; the mark in the store
        # counts for the code of others. A lapsed one is anybody's.
        is_declared = any(schedule.id == id for schedule in self._registry.schedules())
        if is_declared or (record is not None and record.is_code and not record.is_lapsed):
            raise UsageError(
                f"the code declares the schedule {id!r}, and workers would put it back; change it "
                "there, or use another id"
            )

    async def get(self, id: str) -> Schedule | None:
        """The schedule with this id; None if there is none."""
        (record,) = await self._store().schedules.get([id])
        if record is None:
            return None
        await load_zones_of([record.definition])
        return schedule_of(record)

    async def list(self, queue: str | None = None) -> list[Schedule]:
        """All schedules, or those of one queue, sorted by queue and id. Raises ConfigError."""
        store = self._store()
        if queue is not None:
            queues = [check_queue_name(queue)]
        else:
            queues = await store.schedules.queues()
        return [schedule_of(record) for record in await ticks.every_record(store, queues)]

    async def pause(self, id: str, reason: str = "") -> Schedule:
        """Let a schedule fire no more until it is resumed. Its pause outlives deploys.

        reason: shown with the schedule.

        Raises ScheduleNotFound.
        """
        # The answer does not say whether there is one, so it is read below.
        await self._store().schedules.pause([id], reason or "paused by hand")
        return await self._found(id)

    async def resume(self, id: str) -> Schedule:
        """Let a paused schedule go on with its next tick. It makes up for nothing; `backfill` does.

        Raises ScheduleNotFound, and UsageError for a schedule that this release cannot read.
        """
        await ticks.resume(self._store(), id)
        return await self._found(id)

    async def trigger(self, id: str) -> JobHandle[Any]:
        """Make a job of the schedule now, and return its handle.

        Its times, a pause, the overlap and the limit do not matter. `ctx.scheduled_for` is now. If
        the job function is unique, the handle's `disposition` says what became of the call, and
        the handle may be that of another job.
        Raises like `resume`.
        """
        ref, name, place = await ticks.trigger(self._store(), id)
        disposition = disposition_of(place)
        return JobHandle(self._reader, (ref,), disposition=disposition, name=name)

    async def backfill(self, id: str, start: datetime, end: datetime) -> Backfill:
        """Make the jobs of all ticks from `start` to before `end`, except of those that ran.

        The store remembers the last 10,000 ticks of a schedule that ran. All jobs are ready at
        once. Returns how many jobs were made, how many ticks had run, and how many were skipped for
        a unique key that another job held.

        Raises ScheduleNotFound, and UsageError for more than 1,000 ticks or for an end in the
        future. Nothing is stored then.
        """
        start_ms = at_ms(start, field="start")
        end_ms = at_ms(end, field="end")
        store = self._store()
        return await ticks.run_backfill(
            store, await ticks.plan_backfill(store, id, start_ms, end_ms)
        )

    async def delete(self, id: str) -> bool:
        """Delete a schedule; its jobs stay. Returns whether there was one.

        Raises UsageError for one that the code declares: workers would store it again.
        """
        store = self._store()
        self._check_not_declared(id, (await store.schedules.get([id]))[0])
        # What it has made stays: jobs belong to their queue, not to their schedule.
        return (await store.schedules.delete([id]))[0]

    async def upcoming(self, id: str, n: int = 5) -> Sequence[datetime]:
        """The next `n` ticks of a schedule in its time zone; of a paused one those it would have.

        Raises ScheduleNotFound, ConfigError, and UsageError like `resume`.
        """
        check_whole(n, field="n", minimum=1, maximum=MOST_UPCOMING)
        store = self._store()
        record = await ticks.found(store, id)
        now_ms = await ticks.store_now_ms(store, record.ref.queue)
        # In the schedule's own zone, in which its author thinks.
        zone, found = ticks.next_ticks(record, now_ms, n)
        return [in_zone(tick_ms, zone) for tick_ms in found]

    def _store(self) -> Backend:
        store = self._reader.opened()
        check_needs("of this schedule", NEEDS, store)
        return store

    async def _found(self, id: str) -> Schedule:
        return schedule_of(await ticks.found(self._store(), id))


def new_schedule(id: str, definition: Definition, now_ms: int, *, is_code: bool) -> NewSchedule:
    """The schedule to store. It counts from `now_ms`, by the store's clock."""
    rule = definition.rule
    # From now on, never from the last tick: a changed expression makes up for nothing.
    return NewSchedule(
        ScheduleRef(definition.call.queue, id),
        definition.encode(),
        definition.version,
        rule.next_after(now_ms),
        is_code,
        rule.limit,
    )


def _parts(call: Any) -> tuple[JobFunction[..., Any], tuple[Any, ...], dict[str, Any]]:
    if isinstance(call, JobFunction):
        return call, (), {}
    if isinstance(call, JobCall):
        return call.function, call.args, call.kwargs
    raise UsageError(f"put() takes a job function or f.bind(...), not {shown(call)}")


def _rule(
    cron: str | None, every: Interval | None, at: datetime | None, options: PutOptions
) -> Rule:
    given: dict[str, Any] = {**options}
    if sum(value is not None for value in (cron, every, at)) != 1:
        raise ConfigError("put() needs one of cron=, every= and at=, which say when it fires")
    if cron is not None:
        return cron_rule(cron, given)[0]
    # Silently ignored, it would let somebody believe in a local time.
    if given.pop("tz", None) is not None:
        raise ConfigError("tz= is for cron=; an interval has no time zone, and at= has its own")
    if every is not None:
        return every_rule(every, given)[0]
    assert at is not None
    return once_rule(at, given)[0]
