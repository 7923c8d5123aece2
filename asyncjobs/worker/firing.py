"""Fires the schedules of a worker's queues when their ticks have come."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Collection, Sequence
from itertools import groupby
from typing import Final

from asyncjobs.errors import StoreError, StoreUnavailable
from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.jobs.rule import Definition, NewerDefinition
from asyncjobs.jobs.tick import job_of_tick
from asyncjobs.jobs.zones import load_zones_of
from asyncjobs.model import events
from asyncjobs.model.backoff import Pauses
from asyncjobs.model.codec import BadRecord
from asyncjobs.model.envelope import NewerEnvelope, name_in
from asyncjobs.model.events import Events
from asyncjobs.model.headers import TickMark
from asyncjobs.model.schedules import ScheduleRef, tick_job_id
from asyncjobs.policy.catch_up import due_ticks, jitter_ms
from asyncjobs.store.schedules import (
    Fire,
    Fired,
    ScheduleRecord,
    Schedules,
    Tick,
    TickVerdict,
)

__all__ = ["Firing", "plan_fire"]

logger = GuardedLog("asyncjobs.worker")

LOOK_S: Final = 30.0
"""The longest time between two looks at queues that have schedules. A signal may be lost."""
LIMIT: Final = 100
"""How many due schedules of a queue one look brings."""
MOST_BROKEN: Final = 1_000
STEP: Final = 10
"""Schedules that are planned and fired in one go. Then the event loop has its turn."""
STUCK_MS: Final = 5_000
"""The pause before a worker looks again that could fire nothing of what is due."""
AGAIN_S: Final = (0.02, 0.2)
"""The pause, at random, before a worker looks again that was too late for a tick."""
REFUSED_S: Final = (2.0, 60.0)
"""The shortest and the longest pause after a queue has refused to fire."""


def plan_fire(record: ScheduleRecord, now_ms: int) -> Fire | None:
    """What to do with the ticks of a schedule that have come; None if none has. Pure.

    Any worker may do it: the call stands in the record, and need not be in the worker's code.
    Raises BadRecord, NewerDefinition or NewerEnvelope for one that this release cannot read.
    """
    if record.next_ms is None:
        return None
    definition = Definition.decode(record.definition, record.ref.queue)
    rule = definition.rule
    due = due_ticks(
        rule.calendar,
        record.next_ms,
        now_ms,
        catch_up=rule.catch_up,
        window_ms=rule.window_ms,
        end_ms=rule.end_ms,
        left=record.left,
    )
    last_ms = due.last_ms
    # Its end has passed: nothing is left to fire, and it is taken off the list of due ones.
    if last_ms is None:
        last_ms = record.next_ms
    ticks = [_tick(record.ref, definition, tick_ms, now_ms) for tick_ms in due.ticks]
    return Fire(
        record.ref,
        record.version,
        record.next_ms,
        due.next_ms,
        last_ms,
        ticks,
        due.missed,
        rule.overlap,
    )


def _tick(ref: ScheduleRef, definition: Definition, tick_ms: int, now_ms: int) -> Tick:
    rule = definition.rule
    mark = TickMark(ref.id, tick_ms, rule.zone)
    job = job_of_tick(definition.call, tick_job_id(ref.id, tick_ms), mark, now_ms)
    if rule.jitter_ms:
        at_ms = tick_ms + jitter_ms(ref.id, tick_ms, rule.jitter_ms)
        # A debounced job waits at least until its quiet time is over.
        if job.delay_ms:
            at_ms = max(at_ms, now_ms + job.delay_ms)
        job = job._replace(at_ms=at_ms)
    return Tick(tick_ms, job)


class Firing:
    """Looks for due schedules, and fires them. Any number of workers do so at once: the store
    gives each tick to one of them.

    Owns the times of the next looks. A schedule or a queue that fails does not stop the others.
    """

    def __init__(self, store: Schedules, hub: Events) -> None:
        self._store = store
        self._events = hub
        self._due_s = 0.0
        self._broken: set[tuple[ScheduleRef, str]] = set()
        self._refused: dict[str, _Refusal] = {}

    @property
    def due_s(self) -> float:
        """When to look next, in monotonic seconds."""
        return self._due_s

    def hasten(self) -> None:
        """A schedule was stored or changed: look at once."""
        self._due_s = 0.0

    async def run(self, queues: Collection[str]) -> None:
        """Fire what is due in these queues. Raises StoreUnavailable."""
        try:
            await self._look(queues)
        except StoreUnavailable:
            # Nobody knows what is due, or what has fired: look again with the next try.
            self.hasten()
            raise

    async def _look(self, queues: Collection[str]) -> None:
        began_s = time.monotonic()
        # Before the question: a signal that comes meanwhile must count.
        self._due_s = began_s + LOOK_S
        asked = [queue for queue in sorted(queues) if self._may_ask(queue, began_s)]
        # All of them have refused lately.
        if not asked:
            return
        answer = await self._store.due(asked, LIMIT + len(self._broken))
        heard_s = time.monotonic()
        for queue, error in answer.away.items():
            self._refuse(queue, error)
        next_ms = list(answer.next_ms.values())
        records = list(answer.records)
        # One with due schedules may still refuse to fire them, and so wait longer each time.
        for queue in {*asked} - {*answer.away} - {record.ref.queue for record in records}:
            self._refused.pop(queue, None)
        await load_zones_of(record.definition for record in records)
        # Workers that look at the same moment begin with different ones.
        random.shuffle(records)
        is_late = has_fired = False
        # rule:23 of more due schedules than one step all are fired
        for first in range(0, len(records), STEP):
            for fired in await self._fire(records[first : first + STEP], answer.now_ms):
                if fired.next_ms is not None:
                    next_ms.append(fired.next_ms)
                is_late = is_late or not fired.is_ours
                has_fired = has_fired or fired.is_ours
            await asyncio.sleep(0)
        in_ms = [ms - answer.now_ms for ms in next_ms]
        if records and not has_fired:
            # More are due than one look brings, and none of these can fire here.
            # rule:23 schedules that cannot fire here keep no worker busy
            in_ms = [STUCK_MS, *(ms for ms in in_ms if ms > 0)]
        self._come_back(heard_s, in_ms, is_late=is_late)

    def _come_back(self, heard_s: float, in_ms: Sequence[int], *, is_late: bool) -> None:
        """Look again when the next tick has come."""
        due_s = self._due_s
        if in_ms:
            due_s = min(due_s, heard_s + max(min(in_ms), 0) / 1000)
        # Another worker has fired, and this one does not know when the next tick is.
        if is_late:
            due_s = min(due_s, time.monotonic() + random.uniform(*AGAIN_S))
        self._due_s = due_s

    async def _fire(self, records: Sequence[ScheduleRecord], now_ms: int) -> list[Fired]:
        fires = [fire for fire in (self._plan(each, now_ms) for each in records) if fire]
        # A queue that refuses, because it has no memory left for example, refuses alone.
        fires.sort(key=lambda fire: fire.ref.queue)
        answers: list[Fired] = []
        for queue, group in groupby(fires, key=lambda fire: fire.ref.queue):
            own = list(group)
            try:
                fired = await self._store.fire(own)
            except StoreUnavailable:
                raise
            except StoreError as error:
                # rule:23 a queue that refuses to fire does not stop the others
                self._refuse(queue, error)
                continue
            for fire, answer in zip(own, fired, strict=True):
                if answer.is_ours:
                    self._tell(fire, answer)
            refused = [answer.refused for answer in fired if answer.refused is not None]
            if refused:
                self._refuse(queue, refused[0])
            else:
                self._refused.pop(queue, None)
            answers += [answer for answer in fired if answer.refused is None]
        return answers

    def _plan(self, record: ScheduleRecord, now_ms: int) -> Fire | None:
        key = (record.ref, record.version)
        try:
            fire = plan_fire(record, now_ms)
        except (BadRecord, NewerDefinition, NewerEnvelope) as error:
            self._tell_broken(key, error)
        except Exception as error:
            # One bad schedule must not stop all others, whatever is wrong with it.
            self._tell_broken(key, error)
            logger.debug("schedule %s", record.ref, exc_info=True)
        else:
            return fire
        return None

    def _tell_broken(self, key: tuple[ScheduleRef, str], error: Exception) -> None:
        # Each look meets it again. It is not paused: workers of a newer release may fire it.
        if key in self._broken or len(self._broken) >= MOST_BROKEN:
            return
        self._broken.add(key)
        logger.error(
            "schedule %s does not fire here, and this is logged once: %s; store it anew, or delete "
            "it, unless workers of a newer release fire it",
            key[0],
            error,
        )

    # -- queues that refuse ---------------------------------------------------------------

    def _may_ask(self, queue: str, now_s: float) -> bool:
        refusal = self._refused.get(queue)
        if refusal is None or refusal.until_s <= now_s:
            return True
        self._due_s = min(self._due_s, refusal.until_s)
        return False

    def _refuse(self, queue: str, error: StoreError) -> None:
        refusal = self._refused.get(queue)
        if refusal is None:
            logger.error("schedules of queue %r do not fire, tried again: %s", queue, error)
            refusal = self._refused[queue] = _Refusal()
        refusal.until_s = time.monotonic() + refusal.pauses.next_s()
        self._due_s = min(self._due_s, refusal.until_s)

    # -- events ---------------------------------------------------------------------------

    def _tell(self, fire: Fire, fired: Fired) -> None:
        ref = fire.ref
        if fire.missed:
            logger.warning("schedule %s: ticks that were missed: %d", ref, fire.missed)
        if not self._events.active:
            return
        name = ""
        made = [n for n, each in enumerate(fired.verdicts) if each is TickVerdict.FIRED]
        if fire.ticks:
            name = name_in(fire.ticks[0].job.envelope)
        for place in made:
            tick_ms, job = fire.ticks[place]
            # The store says how late the last one was, and the others were so much later.
            lag_ms = fired.lag_ms + fire.ticks[made[-1]].tick_ms - tick_ms
            # Another job may have taken over the call.
            made_ref, _ = fired.places.get(place, (job.ref, ""))
            self._events.emit(
                events.CronEnqueued(ref.id, ref.queue, name, made_ref, tick_ms, lag_ms / 1000)
            )
        if fire.missed:
            self._events.emit(events.CronMissed(ref.id, ref.queue, name, fire.missed))
        skipped = [n for n, each in enumerate(fired.verdicts) if each is TickVerdict.SKIPPED]
        # Without a holder an earlier job of the schedule was in the way.
        holders = Counter(fired.places.get(n, (None, ""))[0] for n in skipped)
        for holder, number in holders.items():
            self._events.emit(events.CronSkipped(ref.id, ref.queue, name, number, holder))


class _Refusal:
    """A queue that does not fire its schedules, and when to try it again."""

    __slots__ = ("pauses", "until_s")

    def __init__(self) -> None:
        self.pauses = Pauses(*REFUSED_S)
        self.until_s = 0.0
