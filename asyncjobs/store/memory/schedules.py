"""The schedules of a store in memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from asyncjobs.model.refs import JobRef
from asyncjobs.model.schedules import Overlap, ScheduleRef
from asyncjobs.model.terms import Terms
from asyncjobs.store.answers import CancelCall, Placed, QueueChanged
from asyncjobs.store.checks import check_ticks
from asyncjobs.store.memory.queue import Queue
from asyncjobs.store.memory.queues import Queues
from asyncjobs.store.memory.rules import Rule
from asyncjobs.store.schedules import (
    MOST_RUNS,
    DueSchedules,
    Fire,
    Fired,
    NewSchedule,
    Put,
    Ran,
    Resume,
    ScheduleRecord,
    ScheduleRun,
    Tick,
    TickVerdict,
    key_of_tick,
)
from asyncjobs.store.seam import Capabilities

__all__ = ["MemorySchedules"]


class MemorySchedules:
    """See `Schedules`. The rules stand beside the queues, which own the jobs."""

    def __init__(self, queues: Queues, capabilities: Capabilities) -> None:
        self._queues = queues
        self._capabilities = capabilities
        self._rules = queues.rules

    async def put(self, schedules: Sequence[NewSchedule], *, fresh_ms: int = 0) -> list[Put]:
        self._queues.raise_broken(new.ref.queue for new in schedules)
        now = self._queues.now_ms()
        verdicts = [self._put(new, now, fresh_ms) for new in schedules]
        for queue in {new.ref.queue for new in schedules}:
            self._tell_changed(queue)
        return verdicts

    def _put(self, new: NewSchedule, now: int, fresh_ms: int) -> Put:
        # The queue is listed from now on.
        self._queues.queue(new.ref.queue)
        self._queues.note_used(new.ref.queue)
        rule = self._rules.get(new.ref.id)
        if rule is None:
            self._rules[new.ref.id] = Rule(new, now)
            return Put.NEW
        return rule.put(new, now, fresh_ms)

    async def declare(self, declared: Sequence[tuple[ScheduleRef, str]]) -> list[bool]:
        self._queues.raise_broken(ref.queue for ref, _ in declared)
        now = self._queues.now_ms()
        answer = []
        for ref, version in declared:
            rule = self._rules.get(ref.id)
            answer.append(rule is not None and rule.declare(ref, version, now))
        return answer

    async def lapse(self, queues: Sequence[str], age_ms: int, reason: str) -> list[ScheduleRef]:
        self._queues.raise_broken(queues)
        now = self._queues.now_ms()
        return [rule.ref for rule in self._of(queues) if rule.lapse(age_ms, reason, now)]

    async def get(self, ids: Sequence[str]) -> list[ScheduleRecord | None]:
        return [None if rule is None else rule.record for rule in self._sound(ids)]

    async def queues(self) -> list[str]:
        return sorted({rule.ref.queue for rule in self._rules.values()})

    async def page(
        self, queues: Sequence[str], *, after: ScheduleRef | None = None, limit: int = 100
    ) -> list[ScheduleRecord]:
        self._queues.raise_broken(queues)
        rules = [rule for rule in self._of(queues) if after is None or rule.ref > after]
        return [rule.record for rule in rules[:limit]]

    async def due(self, queues: Sequence[str], limit: int) -> DueSchedules:
        now = self._queues.now_ms()
        known = [name for name in queues if name in self._queues.by_name]
        found, away = self._queues.reach(known)
        records: list[ScheduleRecord] = []
        next_ms: dict[str, int] = {}
        for queue in found:
            # Everything is looked through: a store in memory has few schedules.
            times = sorted(
                (rule.record.next_ms, rule.ref.id)
                for rule in self._of([queue.name])
                if rule.record.next_ms is not None
            )
            due = [id for ms, id in times if ms <= now][:limit]
            records += [self._rules[id].record for id in due]
            if len(times) > len(due):
                next_ms[queue.name] = times[len(due)][0]
        return DueSchedules(now, records, next_ms, away)

    async def fire(self, fires: Sequence[Fire]) -> list[Fired]:
        for fire in fires:
            check_ticks(fire.ref, fire.ticks, self._capabilities, fire.overlap)
        now = self._queues.now_ms()
        broken = self._queues.broken
        return [
            self._fire(fire, now)
            if fire.ref.queue not in broken
            else Fired(fire.ref, is_ours=False, refused=broken[fire.ref.queue])
            for fire in fires
        ]

    def _fire(self, fire: Fire, now: int) -> Fired:
        rule = self._rules.get(fire.ref.id)
        # rule:23 a tick is used up once, in memory
        if rule is None or rule.ref != fire.ref or not rule.is_due(fire, now):
            return Fired(fire.ref, is_ours=False)
        queue = self._queues.queue(fire.ref.queue)
        # Before anything is stored, or the jobs of this fire would be in their own way.
        living = rule.last_jobs(queue.lives)
        verdicts = rule.plan(fire, any(map(queue.waits, living)), bool(living))
        cancelled: list[JobRef] = []
        if fire.overlap is Overlap.CANCEL_RUNNING and TickVerdict.FIRED in verdicts:
            cancelled = [self._cancel(queue, id, now) for id in living]
        # Of the others only the count remains.
        places = [n for n, verdict in enumerate(verdicts) if verdict is TickVerdict.FIRED]
        if fire.overlap is Overlap.QUEUE_ONE and places and living:
            # One of a trigger, or of a time when another overlap counted, has no key to wait for.
            own = key_of_tick(rule.ref, fire.ticks[0], fire.overlap)
            assert own is not None
            # rule:23 the one that waits does so until the one that runs has ended, in memory
            queue.locks.lend(living[-1], own, now)
        ticks = [_with_key(fire.ref, tick, fire.overlap) for tick in fire.ticks]
        met = self._store(queue, ticks, places, verdicts, now)
        rule.note_fire(fire, verdicts, met, now)
        record = rule.record
        return Fired(
            fire.ref,
            True,
            verdicts,
            record.next_ms,
            record.lag_ms,
            record.left,
            tuple(cancelled),
            places=met,
        )

    async def run(self, id: str, ticks: Sequence[Tick]) -> Ran | None:
        (rule,) = self._sound([id])
        if rule is None:
            return None
        check_ticks(rule.ref, ticks, self._capabilities)
        now = self._queues.now_ms()
        queue = self._queues.queue(rule.ref.queue)
        ran = set(rule.ticks)
        # rule:23 a tick that ran is not run once more, in memory
        places = [place for place, tick in enumerate(ticks) if tick.job.id not in ran]
        verdicts = [TickVerdict.RAN] * len(ticks)
        for place in places:
            verdicts[place] = TickVerdict.FIRED
        met = self._store(queue, ticks, places, verdicts, now)
        for place, (tick, verdict) in enumerate(zip(ticks, verdicts, strict=True)):
            if verdict is TickVerdict.FIRED:
                rule.note_run(tick, met.get(place))
        return Ran(verdicts, met)

    async def runs(self, id: str, limit: int = MOST_RUNS) -> list[ScheduleRun]:
        (rule,) = self._sound([id])
        if rule is None:
            return []
        return list(rule.runs)[::-1][:limit]

    async def pause(self, ids: Sequence[str], reason: str) -> list[bool]:
        return [rule is not None and rule.pause(reason) for rule in self._sound(ids)]

    async def resume(self, resumes: Sequence[Resume]) -> list[bool]:
        rules = self._sound([resume.id for resume in resumes])
        goes_on = []
        for rule, resume in zip(rules, resumes, strict=True):
            goes_on.append(rule is not None and rule.resume(resume))
            if rule is not None and goes_on[-1]:
                self._tell_changed(rule.ref.queue)
        return goes_on

    async def delete(self, ids: Sequence[str]) -> list[bool]:
        self._sound(ids)
        return [self._rules.pop(id, None) is not None for id in ids]

    def _tell_changed(self, queue: str) -> None:
        """A next tick may be nearer now. Workers look for it only now and then by themselves."""
        self._queues.control.tell(queue, QueueChanged(queue))

    def _of(self, queues: Sequence[str]) -> list[Rule]:
        """The rules of these queues, sorted by queue and id."""
        wanted = frozenset(queues)
        rules = [rule for rule in self._rules.values() if rule.ref.queue in wanted]
        return sorted(rules, key=lambda rule: rule.ref)

    def _sound(self, ids: Iterable[str]) -> list[Rule | None]:
        """The rules with these ids. Raises the error of a queue that is broken."""
        rules = [self._rules.get(id) for id in ids]
        self._queues.raise_broken(rule.ref.queue for rule in rules if rule is not None)
        return rules

    def _store(
        self,
        queue: Queue,
        ticks: Sequence[Tick],
        places: Sequence[int],
        verdicts: list[TickVerdict],
        now: int,
    ) -> dict[int, Placed]:
        """Store the jobs of the ticks at `places`. One whose id is there ran before. Returns what
        became of unique jobs that did not go their usual way."""
        self._queues.note_used(queue.name)
        stored = queue.add([ticks[place].job for place in places], now)
        met: dict[int, Placed] = {}
        for place, placed in zip(places, stored, strict=True):
            if placed is None:
                continue
            if placed == Placed(ticks[place].job.ref, "there"):
                verdicts[place] = TickVerdict.RAN
                continue
            met[place] = placed
            # rule:23 a tick whose key is taken is skipped, in memory
            if placed.how == "there":
                verdicts[place] = TickVerdict.SKIPPED
        return met

    def _cancel(self, queue: Queue, id: str, now: int) -> JobRef:
        """Cancel a job that lives: remove it, or ask its worker to stop it."""
        job = JobRef(queue.name, id)
        _, holder = queue.cancel(id, None, 0, now)
        if holder is not None:
            self._queues.control.tell(queue.name, CancelCall(holder, job))
        return job


def _with_key(ref: ScheduleRef, tick: Tick, overlap: Overlap) -> Tick:
    """The tick, with the unique key that its job has to hold."""
    unique = key_of_tick(ref, tick, overlap)
    if unique is None:
        return tick
    terms = (tick.job.terms or Terms())._replace(unique=unique)
    return tick._replace(job=tick.job._replace(terms=terms))
