"""Keeps the schedules of the code in the store, for as long as workers run that code."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from asyncjobs.errors import AsyncJobsError, StoreError, StoreUnavailable
from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.jobs.declared import DeclaredSchedule
from asyncjobs.jobs.rule import Definition
from asyncjobs.jobs.tick import ScheduledCall, scheduled_call
from asyncjobs.model.schedules import ScheduleRef
from asyncjobs.store.schedules import NewSchedule, Put, Schedules

__all__ = ["GRACE_S", "RENEW_S", "Declaring"]

logger = GuardedLog("asyncjobs.worker")

RENEW_S: Final = 60.0
"""How often a worker says that its code has its schedules."""
GRACE_S: Final = 3 * RENEW_S
"""A schedule that nobody has declared for so long is paused. A restart of a worker takes less, so a
rolling deploy pauses nothing that the new version has, too."""
LAPSED: Final = (
    "no running worker has it in its code any more; it goes on when one has, and "
    "asyncjobs schedules delete removes it"
)


@dataclass(frozen=True, slots=True)
class _Own:
    """A schedule of this worker's code, as it is stored."""

    ref: ScheduleRef
    definition: Definition
    encoded: bytes
    version: str


class Declaring:
    """Stores the schedules that the code declares in these queues, and renews their marks.

    The last worker that has started with another definition wins, once no worker runs the one
    before. Schedules that no code has any more are paused, with a reason, and never deleted.
    """

    def __init__(
        self, store: Schedules, declared: Sequence[DeclaredSchedule], queues: Collection[str]
    ) -> None:
        self._store = store
        self._queues = frozenset(queues)
        self._declared = declared
        self._own: dict[str, list[_Own]] | None = None
        self._lapse_from_s = time.monotonic() + GRACE_S
        self._due_s = 0.0
        self._told: set[tuple[str, str]] = set()

    @property
    def due_s(self) -> float:
        """When to run next, in monotonic seconds."""
        return self._due_s

    @property
    def queues(self) -> frozenset[str]:
        """The queues for which the code declares schedules."""
        return frozenset(self._by_queue())

    async def run(self, others: Collection[str]) -> None:
        """Renew the marks, store what differs, and pause what nobody declares.

        `others`: queues of this worker that have schedules, perhaps from other code.
        Raises StoreUnavailable. What a queue refuses is logged once.
        """
        for queue, own in self._by_queue().items():
            try:
                await self._renew(queue, own)
            except StoreUnavailable:
                raise
            except StoreError as error:
                self._tell_refused(queue, error)
        # Those that have the schedules may start as well, after a night without any worker.
        # rule:23 a worker that has just started pauses no schedule
        if time.monotonic() >= self._lapse_from_s:
            for queue in sorted({*others, *self._by_queue()}):
                await self._lapse(queue)
        self._due_s = time.monotonic() + RENEW_S

    def _by_queue(self) -> dict[str, list[_Own]]:
        """The schedules of the code, as they are stored. Made once, when all modules are there."""
        if self._own is None:
            self._own = {}
            for declared in self._declared:
                if (own := self._made(declared)) is not None:
                    self._own.setdefault(own.ref.queue, []).append(own)
        return self._own

    def _made(self, declared: DeclaredSchedule) -> _Own | None:
        # A worker of that queue declares it. This one would not fire it either.
        known = declared.function.settings.queues
        if known and self._queues.isdisjoint(known):
            return None
        try:
            call = scheduled_call(
                declared.function, declared.args, declared.kwargs, declared.rule.overlap
            )
        except AsyncJobsError as error:
            # Checked when it was declared. A user's value may have changed since.
            logger.error("schedule %r is not stored: %s", declared.id, error)
            return None
        if call.queue in self._queues:
            return self._own_of(declared, call)
        if not known:
            # No worker knows this queue by itself, so perhaps none serves it.
            logger.warning(
                "schedule %r goes to queue %r, which this worker does not serve; name the queue "
                "with --queues, or in QueueBy(..., among=[...])",
                declared.id,
                call.queue,
            )
        return None

    @staticmethod
    def _own_of(declared: DeclaredSchedule, call: ScheduledCall) -> _Own:
        definition = Definition(declared.rule, call)
        ref = ScheduleRef(call.queue, declared.id)
        return _Own(ref, definition, definition.encode(), definition.version)

    async def _renew(self, queue: str, own: Sequence[_Own]) -> None:
        # Nearly always all of them are there as they should be, and this is the only request.
        marked = await self._store.declare([(each.ref, each.version) for each in own])
        rest = [each for each, is_marked in zip(own, marked, strict=True) if not is_marked]
        if not rest:
            return
        # The clock of this machine may be ahead, and the next tick would be lost.
        # rule:23 the store's clock says from when a schedule counts
        now_ms = (await self._store.due([queue], 1)).now_ms
        new = [self._new(each, now_ms) for each in rest]
        for each, verdict in zip(rest, await self._put(queue, new), strict=True):
            if verdict is not None:
                self._tell(each, verdict)

    async def _put(self, queue: str, new: Sequence[NewSchedule]) -> list[Put | None]:
        """Store them; None for one that is refused. It may come from a queue that is spoiled."""
        # A worker of the version before may start late in a deploy.
        # rule:23 an older version does not put its schedules back while the newer one runs
        fresh_ms = round(GRACE_S * 1000)
        try:
            return [*await self._store.put(new, fresh_ms=fresh_ms)]
        except StoreUnavailable:
            raise
        except StoreError as error:
            if len(new) == 1:
                self._tell_refused(queue, error)
                return [None]
        # rule:23 a schedule that is refused does not keep the others out
        return [verdict for each in new for verdict in await self._put(queue, [each])]

    @staticmethod
    def _new(own: _Own, now_ms: int) -> NewSchedule:
        rule = own.definition.rule
        next_ms = rule.next_after(now_ms)
        return NewSchedule(own.ref, own.encoded, own.version, next_ms, True, rule.limit)

    def _tell(self, own: _Own, verdict: Put) -> None:
        if verdict is not Put.OLDER:
            logger.debug("schedule %s: %s", own.ref, verdict)
        elif (own.ref.id, own.version) not in self._told:
            self._told.add((own.ref.id, own.version))
            logger.info(
                "schedule %s stays as a newer worker has declared it; it is replaced when no "
                "worker declares that any more",
                own.ref,
            )

    async def _lapse(self, queue: str) -> None:
        try:
            lapsed = await self._store.lapse([queue], round(GRACE_S * 1000), LAPSED)
        except StoreUnavailable:
            raise
        except StoreError as error:
            self._tell_refused(queue, error)
            return
        for ref in lapsed:
            logger.warning("schedule %s is paused: %s", ref, LAPSED)

    def _tell_refused(self, queue: str, error: StoreError) -> None:
        key = (queue, type(error).__name__)
        if key not in self._told:
            self._told.add(key)
            logger.error(
                "the schedules of queue %r cannot be renewed; this is logged once: %s", queue, error
            )
