"""One schedule as a store in memory keeps it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from asyncjobs.model.schedules import Overlap, ScheduleRef
from asyncjobs.store.answers import Placed
from asyncjobs.store.schedules import (
    MOST_REPLACED,
    MOST_RUNS,
    Fire,
    NewSchedule,
    Put,
    Resume,
    ScheduleRecord,
    ScheduleRun,
    Tick,
    TickVerdict,
)

__all__ = ["LOOKED_AT", "Rule"]

LOOKED_AT: Final = 100
"""How many of the last jobs are looked at, to see whether one of them still lives."""


class Rule:
    """What is known of one schedule, and how it changes. Knows no queue and stores no job."""

    __slots__ = ("lapsed_ms", "record", "replaced", "runs", "ticks")

    def __init__(self, new: NewSchedule, now: int) -> None:
        self.record = ScheduleRecord(
            new.ref,
            new.definition,
            new.version,
            new.is_code,
            next_ms=new.next_ms,
            left=new.left,
        )
        self.replaced: list[tuple[str, str]] = []
        """The queues and versions before these ones, the newest last."""
        self.runs: deque[ScheduleRun] = deque(maxlen=MOST_RUNS)
        """The jobs that it has made, the newest last."""
        self.lapsed_ms: int | None = None
        """The tick that was next when it lapsed."""
        self.ticks: deque[str] = deque(maxlen=MOST_RUNS)
        """The ids that the jobs of these ticks were to have. Another job may have taken over the
        call."""
        self._mark(new, now)

    @property
    def ref(self) -> ScheduleRef:
        return self.record.ref

    def put(self, new: NewSchedule, now: int, fresh_ms: int) -> Put:
        """Bring it up to date; see `Schedules.put`."""
        record = self.record
        before = (record.ref.queue, record.version)
        place = (new.ref.queue, new.version)
        # rule:23 a replaced version does not come back while the newer one is declared, in memory
        if new.is_code and place in self.replaced and self._is_fresh(now, fresh_ms):
            return Put.OLDER
        if before != place:
            # A roll-back makes the present one an old one, and an old one the present one.
            others = [each for each in self.replaced if each != place]
            self.replaced = [*others, before][-MOST_REPLACED:]
        if new.version == record.version:
            # A definition that is the same keeps its next time: each deploy puts it again.
            is_moved = new.ref != record.ref
            self.record = record._replace(ref=new.ref, is_code=new.is_code)
            # A worker may only have been away, as in a slow restart: what it has missed is late.
            if record.is_lapsed:
                # rule:23 a lapsed schedule loses no tick, in memory
                self._go_on(self.lapsed_ms)
            self._mark(new, now)
            return Put.CHANGED if is_moved else Put.SAME
        self.record = record._replace(
            ref=new.ref,
            definition=new.definition,
            version=new.version,
            is_code=new.is_code,
            left=new.left,
        )
        # rule:23 a schedule that somebody has paused stays paused when it changes, in memory
        if record.paused is None or record.is_lapsed:
            self._go_on(new.next_ms)
        self._mark(new, now)
        return Put.CHANGED

    def declare(self, ref: ScheduleRef, version: str, now: int) -> bool:
        """See `Schedules.declare`."""
        record = self.record
        if not record.is_code or record.is_lapsed or (record.ref, record.version) != (ref, version):
            return False
        self.record = record._replace(declared_ms=now)
        return True

    def lapse(self, age_ms: int, reason: str, now: int) -> bool:
        """See `Schedules.lapse`."""
        record = self.record
        # One that was paused by hand stays so: no deploy may resume it later.
        if not record.is_code or record.paused is not None or self._is_fresh(now, age_ms):
            return False
        self.lapsed_ms = record.next_ms
        self.record = record._replace(paused=reason, is_lapsed=True, next_ms=None)
        return True

    def pause(self, reason: str) -> bool:
        """See `Schedules.pause`."""
        # Over a lapse, for a worker that declares the schedule again ends only that.
        if self.record.paused is not None and not self.record.is_lapsed:
            return False
        self.record = self.record._replace(paused=reason, is_lapsed=False, next_ms=None)
        return True

    def resume(self, resume: Resume) -> bool:
        """See `Schedules.resume`."""
        if self.record.paused is None or self.record.version != resume.version:
            return False
        self._go_on(resume.next_ms)
        return True

    def is_due(self, fire: Fire, now: int) -> bool:
        """Whether this may fire now: the schedule is as it was read, and its tick has come."""
        record = self.record
        is_as_read = (record.version, record.next_ms) == (fire.version, fire.expected_ms)
        # rule:23 the store's clock says whether a tick has come, in memory
        return is_as_read and fire.expected_ms <= now

    def plan(self, fire: Fire, waiting: bool, living: bool) -> list[TickVerdict]:
        """Which ticks fire. `living` and `waiting`: whether an earlier job lives, or waits."""
        ran = set(list(self.ticks)[-LOOKED_AT:])
        # rule:23 a tick that has run by hand does not fire, in memory
        due = [place for place, tick in enumerate(fire.ticks) if tick.job.id not in ran]
        verdicts = [TickVerdict.RAN] * len(fire.ticks)
        for place, verdict in zip(due, self._plan(fire, len(due), waiting, living), strict=True):
            verdicts[place] = verdict
        return verdicts

    def _plan(self, fire: Fire, number: int, waiting: bool, living: bool) -> list[TickVerdict]:
        """What becomes of so many ticks that have not run."""
        left = self.record.left
        most = number if left is None else min(left, number)
        if fire.overlap is Overlap.ALLOW:
            return [TickVerdict.FIRED] * most + [TickVerdict.OVER] * (number - most)
        if most == 0:
            return [TickVerdict.OVER] * number
        # A tick that does not fire is used up all the same, or it would fire when the job ends.
        verdicts = [TickVerdict.SKIPPED] * number
        # Of several ticks at once one fires: the job of the first would be in the way of the next.
        if fire.overlap is Overlap.CANCEL_RUNNING:
            verdicts[-1] = TickVerdict.FIRED
        elif not (living if fire.overlap is Overlap.SKIP else waiting):
            verdicts[0] = TickVerdict.FIRED
        return verdicts

    def note_fire(
        self,
        fire: Fire,
        verdicts: list[TickVerdict],
        places: Mapping[int, Placed],
        now: int,
    ) -> None:
        """Use up the ticks of this fire, of which these became what `verdicts` say."""
        record = self.record
        fired = verdicts.count(TickVerdict.FIRED)
        left = record.left
        if left is not None:
            left -= fired
        # A fire without a job says nothing about how late jobs are made.
        lag_ms = record.lag_ms
        for place, (tick, verdict) in enumerate(zip(fire.ticks, verdicts, strict=True)):
            if verdict is TickVerdict.FIRED:
                self._note(tick, places.get(place))
                lag_ms = max(now - tick.tick_ms, 0)
        next_ms = fire.next_ms
        # rule:23 after the last tick of a limit there is no next one, in memory
        if left == 0:
            next_ms = None
        self.record = record._replace(
            next_ms=next_ms,
            last_ms=fire.last_ms,
            fired=record.fired + fired,
            missed=record.missed + fire.missed,
            skipped=record.skipped + verdicts.count(TickVerdict.SKIPPED),
            lag_ms=lag_ms,
            left=left,
        )

    def note_run(self, tick: Tick, place: Placed | None) -> None:
        """A job was stored for a tick beside the plan."""
        self._note(tick, place)
        self.record = self.record._replace(fired=self.record.fired + 1)

    def _note(self, tick: Tick, place: Placed | None) -> None:
        id = tick.job.id
        if place is not None:
            id = place.ref.id
        self.runs.append(ScheduleRun(tick.tick_ms, id))
        self.ticks.append(tick.job.id)

    def last_jobs(self, lives: Callable[[str], bool]) -> list[str]:
        """The ids of those of its last jobs that live."""
        # Older ones are not looked at: no store shall walk over thousands of ids at each tick.
        recent = list(self.runs)[-LOOKED_AT:]
        return [run.job_id for run in recent if lives(run.job_id)]

    def _go_on(self, next_ms: int | None) -> None:
        self.record = self.record._replace(paused=None, is_lapsed=False, next_ms=next_ms)

    def _mark(self, new: NewSchedule, now: int) -> None:
        # What people put is theirs: it does not lapse when a deploy leaves it out.
        declared_ms = now if new.is_code else None
        self.record = self.record._replace(declared_ms=declared_ms)

    def _is_fresh(self, now: int, age_ms: int) -> bool:
        declared_ms = self.record.declared_ms
        return declared_ms is not None and declared_ms > now - age_ms
