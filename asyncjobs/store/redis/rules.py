"""Schedules as the scripts lua/cron*.lua take and return them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from asyncjobs.guard.untrusted import LAST_MS, MOST_COUNT
from asyncjobs.model.ids import id_bytes, id_text
from asyncjobs.model.refs import JobRef
from asyncjobs.model.schedules import Overlap, ScheduleRef, tick_job_id
from asyncjobs.model.terms import Terms
from asyncjobs.store.redis.keys import StoreKeys
from asyncjobs.store.redis.link import Command
from asyncjobs.store.redis.placing import effect_args, read_met
from asyncjobs.store.redis.scripts import Script
from asyncjobs.store.schedules import (
    Fire,
    Fired,
    NewSchedule,
    Ran,
    ScheduleRecord,
    ScheduleRun,
    Tick,
    TickVerdict,
    key_of_tick,
)
from asyncjobs.store.seam import StoreSettings

__all__ = [
    "fire_command",
    "place_of",
    "put_command",
    "read_fired",
    "read_ran",
    "read_rule",
    "read_run",
    "read_taken",
    "run_command",
]

_VERDICTS: Final = {
    "F": TickVerdict.FIRED,
    "S": TickVerdict.SKIPPED,
    "O": TickVerdict.OVER,
    "R": TickVerdict.RAN,
}
_ACTIVE: Final = b""
_LAPSED: Final = b"l"


def put_command(
    script: Script,
    keys: StoreKeys,
    pinned: bytes,
    new: NewSchedule,
    fresh_ms: int,
    carried: tuple[Sequence[bytes], Sequence[bytes]] = ((), ()),
) -> Command:
    """The call that stores a schedule. `carried`: the fields and the jobs of the same schedule in
    the queue that it fed before."""
    fields, jobs = carried
    of_queue = keys.queue(new.ref.queue)
    return script.command(
        of_queue,
        pinned,
        id_bytes(new.ref.id),
        new.definition,
        new.version,
        b"1" if new.is_code else b"",
        _text(new.next_ms),
        _text(new.left),
        fresh_ms,
        place_of(new),
        len(fields),
        *fields,
        *jobs,
        more_keys=(of_queue.rule(new.ref.id), of_queue.ran(new.ref.id)),
    )


def place_of(new: NewSchedule) -> str:
    """Its queue and its version in one word: a rolling deploy may change either."""
    return f"{new.ref.queue}/{new.version}"


def fire_command(
    script: Script, keys: StoreKeys, pinned: bytes, settings: StoreSettings, fire: Fire
) -> Command:
    """The call that uses up ticks."""
    return script.command(
        keys.queue(fire.ref.queue),
        pinned,
        id_bytes(fire.ref.id),
        fire.version,
        fire.expected_ms,
        _text(fire.next_ms),
        fire.last_ms,
        fire.missed,
        fire.overlap.value,
        settings.id_ttl_ms,
        settings.history,
        len(fire.ticks),
        *(_item(fire.ref, tick) for tick in fire.ticks),
        *_jobs(fire.ref, fire.ticks, fire.overlap),
        more_keys=_tick_keys(keys, fire.ref, fire.ticks),
    )


def run_command(
    script: Script, keys: StoreKeys, pinned: bytes, ref: ScheduleRef, ticks: Sequence[Tick]
) -> Command:
    """The call that stores the jobs of ticks beside the plan."""
    return script.command(
        keys.queue(ref.queue),
        pinned,
        len(ticks),
        *(_item(ref, tick) for tick in ticks),
        *_jobs(ref, ticks, Overlap.ALLOW),
        more_keys=_tick_keys(keys, ref, ticks),
    )


def read_fired(fire: Fire, reply: Sequence[Any]) -> Fired:
    """The answer of lua/cron_fire.lua."""
    # Nothing has happened: it is not as it was read.
    if not reply:
        return Fired(fire.ref, is_ours=False)
    letters, next_ms, lag_ms, left, cancelled, met = reply
    return Fired(
        fire.ref,
        True,
        _read_verdicts(letters),
        _number(next_ms, LAST_MS),
        _number(lag_ms, LAST_MS) or 0,
        _number(left, MOST_COUNT),
        tuple(JobRef(fire.ref.queue, id_text(job)) for job in cancelled),
        places=read_met(fire.ref.queue, met),
    )


def read_ran(ref: ScheduleRef, reply: Sequence[Any]) -> Ran:
    """The answer of lua/cron_run.lua."""
    letters, met = reply
    return Ran(_read_verdicts(letters), read_met(ref.queue, met))


def _read_verdicts(letters: bytes) -> list[TickVerdict]:
    """A letter for each tick."""
    return [_VERDICTS[letter] for letter in letters.decode()]


def read_taken(reply: Any) -> tuple[Sequence[bytes], Sequence[bytes]] | None:
    """What a schedule takes along to another queue: its fields and its jobs, as `put_command`
    wants them. None, and it stays where it is, if what has replaced `place_of` is declared."""
    if reply == b"older":
        return None
    # It is gone.
    if not isinstance(reply, list):
        return (), ()
    flat, jobs = reply
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    # It was taken out of `next`, which its new queue has to know.
    fields[b"next"] = fields.pop(b"moved", fields.get(b"next", b""))
    return [part for pair in fields.items() for part in pair], jobs


def read_rule(ref: ScheduleRef, fields: Sequence[bytes | None] | None) -> ScheduleRecord | None:
    """The fields of a rule in the order of lua/cron.lua. What is no number counts as none: it can
    only come from a foreign writer."""
    if fields is None:
        return None
    definition, version, code, state, reason, *numbers = fields
    next_ms, last_ms, declared_ms, fired, missed, skipped, lag_ms, left = numbers
    # The reason may be empty, so it does not say whether the schedule is paused.
    paused = None
    if (state or b"") != _ACTIVE:
        paused = _shown(reason)
    return ScheduleRecord(
        ref,
        definition or b"",
        _shown(version),
        is_code=code == b"1",
        paused=paused,
        is_lapsed=state == _LAPSED,
        next_ms=_number(next_ms, LAST_MS),
        last_ms=_number(last_ms, LAST_MS),
        declared_ms=_number(declared_ms, LAST_MS),
        fired=_number(fired, MOST_COUNT) or 0,
        missed=_number(missed, MOST_COUNT) or 0,
        skipped=_number(skipped, MOST_COUNT) or 0,
        lag_ms=_number(lag_ms, LAST_MS) or 0,
        left=_number(left, MOST_COUNT),
    )


def read_run(ref: ScheduleRef, item: bytes) -> ScheduleRun | None:
    """A job that a schedule has made, as `_item` has written it; None for foreign bytes."""
    time, _, job = item.partition(b" ")
    # Another job has taken over its call: behind the id that it was to have, whose length is here.
    time, _, length = time.partition(b"=")
    job = job[_number(length, MOST_COUNT) or 0 :]
    tick_ms = _number(time, LAST_MS)
    if tick_ms is None:
        return None
    return ScheduleRun(tick_ms, id_text(job) if job else tick_job_id(ref.id, tick_ms))


def _item(ref: ScheduleRef, tick: Tick) -> bytes:
    """A tick in the list of jobs. The id of its job is left out when it follows from the tick:
    the list is long, and there is one for each schedule."""
    if tick.job.id == tick_job_id(ref.id, tick.tick_ms):
        return b"%d" % tick.tick_ms
    return b"%d %s" % (tick.tick_ms, id_bytes(tick.job.id))


def _jobs(ref: ScheduleRef, ticks: Sequence[Tick], overlap: Overlap) -> list[bytes | str | int]:
    args: list[bytes | str | int] = []
    for place, tick in enumerate(ticks, 1):
        job = tick.job
        unique = key_of_tick(ref, tick, overlap)
        if unique is not None:
            job = job._replace(terms=(job.terms or Terms())._replace(unique=unique))
        # An id that another worker may make as well has to be looked for.
        args += effect_args(place, job._replace(has_new_id=False), ref.queue)
    return args


def _tick_keys(keys: StoreKeys, ref: ScheduleRef, ticks: Sequence[Tick]) -> tuple[bytes, ...]:
    of_queue = keys.queue(ref.queue)
    results = (of_queue.result(tick.job.id) for tick in ticks)
    return (of_queue.rule(ref.id), of_queue.ran(ref.id), *results)


def _text(number: int | None) -> bytes:
    return b"" if number is None else b"%d" % number


def _number(stored: bytes | None, most: int) -> int | None:
    """A whole number; None for anything else."""
    # The length first, for a foreign writer's number may have millions of digits.
    if not stored or not stored.isdigit() or len(stored) > len(str(most)):
        return None
    return min(int(stored), most)


def _shown(stored: bytes | None) -> str:
    return (stored or b"").decode("utf-8", "backslashreplace")
