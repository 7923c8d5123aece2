"""What users see of a schedule: `Schedule`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from asyncjobs.guard.untrusted import LAST_MS
from asyncjobs.jobs.rule import Definition, NewerDefinition
from asyncjobs.jobs.tick import FromTick
from asyncjobs.jobs.times import in_zone
from asyncjobs.model.codec import BadRecord
from asyncjobs.model.envelope import Envelope, NewerEnvelope
from asyncjobs.model.job import Priority
from asyncjobs.policy.redaction import Mask, mask_of_call
from asyncjobs.store.schedules import ScheduleRecord

__all__ = ["Schedule", "schedule_of"]


@dataclass(frozen=True, slots=True)
class Schedule:
    """What the store knows of a schedule at one moment. What it does not know is None.

    id: its id, unique in the store.
    queue: the queue that its jobs go to.
    name: the name of its job function.
    text: its times in English.
    times: its cron expression, its interval such as `every 90s`, or its only time.
    tz: the IANA name of its time zone. All times below are in this zone.
    state: `active`; `paused`; or `over`, if there is no further tick.
    reason: why it is paused, or why this release cannot read it.
    source: `code` if a decorator declares it, else `runtime`.
    next_at: the next tick.
    last_at: the last tick that was used up, with or without a job.
    fired: how many jobs it has made, those of `trigger` and `backfill` included.
    missed: ticks that were too old to be caught up.
    skipped: ticks without a job, because an earlier one had not ended.
    lag_s: how long after its tick the last job was stored, in seconds.
    left: how many jobs it may still make; None without a limit.
    catch_up: which ticks fire after a time without workers.
    overlap: what happens to a tick while an earlier job has not ended.
    window_s: how old a tick may be to be caught up, in seconds.
    jitter_s: by how much a job may come later than its tick, in seconds.
    start: no tick is before it.
    end: no tick is after it.
    priority: the priority of its jobs.
    args: the positional arguments of its jobs. Placeholders are members of `FromTick`.
    kwargs: the keyword arguments.
    declared_at: when a worker last declared it in code.
    mask: what is sensitive in its arguments, for `redacted()`.
    """

    id: str
    queue: str
    name: str = ""
    text: str = ""
    times: str = ""
    tz: str = "UTC"
    state: Literal["active", "paused", "over"] = "active"
    reason: str | None = None
    source: Literal["code", "runtime"] = "runtime"
    next_at: datetime | None = None
    last_at: datetime | None = None
    fired: int = 0
    missed: int = 0
    skipped: int = 0
    lag_s: float = 0.0
    left: int | None = None
    catch_up: str = ""
    overlap: str = ""
    window_s: float = 0.0
    jitter_s: float = 0.0
    start: datetime | None = None
    end: datetime | None = None
    priority: Priority | None = None
    args: Sequence[Any] | None = field(default=None, repr=False)
    kwargs: dict[str, Any] | None = field(default=None, repr=False)
    declared_at: datetime | None = None
    mask: Mask | None = field(default=None, repr=False, compare=False)

    def redacted(self) -> Schedule:
        """A copy with masks for sensitive values, for logs and screens."""
        if self.mask is None:
            return self
        args, kwargs = self.mask.arguments()
        return replace(self, args=args, kwargs=kwargs)


def schedule_of(record: ScheduleRecord) -> Schedule:
    """What the store knows of a schedule, as users see it."""
    zone = "UTC"
    known: dict[str, Any] = {}
    try:
        definition = Definition.decode(record.definition, record.ref.queue)
        zone = definition.rule.zone
        known = _of_definition(definition)
    except (BadRecord, NewerDefinition, NewerEnvelope) as error:
        # A user who asks about it still gets its state and its counters.
        known["reason"] = f"this release cannot read it: {error}"
    # The pause first: it is why nothing comes.
    if record.paused is not None:
        known["reason"] = record.paused
    return Schedule(
        record.ref.id,
        record.ref.queue,
        tz=zone,
        state=_state(record),
        source="code" if record.is_code else "runtime",
        next_at=_at(record.next_ms, zone),
        last_at=_at(record.last_ms, zone),
        fired=record.fired,
        missed=record.missed,
        skipped=record.skipped,
        lag_s=record.lag_ms / 1000,
        left=record.left,
        declared_at=_at(record.declared_ms, zone),
        **known,
    )


def _state(record: ScheduleRecord) -> Literal["active", "paused", "over"]:
    if record.paused is not None:
        return "paused"
    if record.next_ms is None:
        return "over"
    return "active"


def _of_definition(definition: Definition) -> dict[str, Any]:
    rule = definition.rule
    envelope = Envelope.decode(definition.call.raw)
    args: list[Any] = [*envelope.args]
    kwargs = {**envelope.kwargs}
    # Shown as a user has written them. An unknown word stays as it is.
    for place, word in envelope.headers.fills():
        if isinstance(place, int) and place < len(args):
            args[place] = _placeholder(word)
        elif isinstance(place, str):
            kwargs[place] = _placeholder(word)
    return {
        "name": envelope.name,
        "text": rule.text,
        "times": rule.times,
        "catch_up": rule.catch_up.value,
        "overlap": rule.overlap.value,
        "window_s": rule.window_ms / 1000,
        "jitter_s": rule.jitter_ms / 1000,
        "start": _at(rule.start_ms, rule.zone),
        "end": _at(rule.end_ms, rule.zone),
        "priority": Priority(definition.call.priority),
        "args": args,
        "kwargs": kwargs,
        "mask": mask_of_call(envelope.headers, args, kwargs),
    }


def _placeholder(word: str) -> str:
    try:
        return FromTick(word)
    except ValueError:
        return word


def _at(ms: int | None, zone: str) -> datetime | None:
    if ms is None:
        return None
    # Anyone who can write to the store may have written any number. datetime would raise.
    return in_zone(min(max(ms, 0), LAST_MS), zone)
