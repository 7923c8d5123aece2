"""The part of a job's context that enqueues jobs with its success."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TypeVar

from asyncjobs.errors import UsageError
from asyncjobs.guard.texts import shown
from asyncjobs.jobs.effects import AttemptEffects, FindEffects
from asyncjobs.jobs.handle import JobHandle
from asyncjobs.jobs.stepwise import Stepwise
from asyncjobs.model.settlement import MOST_EFFECT_JOBS
from asyncjobs.store.seam import Backend

__all__ = ["BoundCall", "Causing", "Keeper"]

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Keeper(Protocol):
    """Makes the jobs of calls, for an attempt that keeps them. The sender of an app is one."""

    async def keep(self, call: Any, find: FindEffects) -> JobHandle[Any]:
        """Keep one job."""
        ...

    async def keep_many(self, calls: Sequence[Any], find: FindEffects) -> list[JobHandle[Any]]:
        """Keep many jobs."""
        ...

    async def expand(self, work: Any, flow: Any, find: FindEffects) -> list[str]:
        """Keep the jobs of nodes that a job adds to its flow; their names."""
        ...

    def keep_from_thread(self, call: Any, find: FindEffects) -> JobHandle[Any]:
        """Keep one job, from code that does not run on an event loop."""
        ...


class Callee(Protocol[R_co]):
    """The job function of a call, as far as it is needed here."""

    @property
    def sender(self) -> Keeper: ...

    def handle(self, id: str) -> JobHandle[R_co]: ...


class BoundCall(Protocol[R_co]):
    """A call that was made by `f.bind(...)`."""

    @property
    def function(self) -> Callee[R_co]: ...


class Causing(Stepwise):
    """The part of a job's context that keeps jobs for its success."""

    __slots__ = ("_own_effects",)

    _own_effects: AttemptEffects

    @property
    def effects_so_far(self) -> AttemptEffects | None:
        """What the success of this attempt causes; None if the job has never asked for it."""
        try:
            return self._own_effects
        except AttributeError:
            return None

    def effects_in(self, store: Backend) -> AttemptEffects:
        """The same, made when the job first asks. `store`: that of its worker."""
        try:
            return self._own_effects
        except AttributeError:
            self._own_effects = AttemptEffects(self.ref, store)
            return self._own_effects

    async def enqueue(self, call: BoundCall[R], /) -> JobHandle[R]:
        """Enqueue a job that is stored if and when this attempt succeeds, in the same step:
        `await ctx.enqueue(ship.bind(order.id))`.

        It is dropped if the attempt fails, is cancelled or loses its lease, and if it snoozes or
        gives its slot away: the job comes back and makes it anew. So a retry leaves no doubles
        behind, and no job runs for a parent that has not done its work.

        call: made by `f.bind(...)`. The arguments are checked and encoded now.

        Returns the handle. Its `disposition` is `pending`: nothing is stored yet. If a job with
        its id or its unique key lives when this attempt succeeds, that one goes on instead.

        An attempt may keep 1,000 jobs of 4 MiB together. `f.enqueue(...)` stores a job at once,
        whatever becomes of this attempt.

        Raises UsageError for what is no call of this app, for a job too many, after the end of the
        attempt, in a plain call and with isolation='process'; PayloadTooLarge, EncodeError,
        MissingCapability and Aborted like `f.enqueue`.
        """
        return await _sender(call).keep(call, self._effects)

    async def enqueue_many(self, calls: Iterable[BoundCall[R]], /) -> list[JobHandle[R]]:
        """The same for many calls: all of them are kept, or none. Returns their handles in the
        order of the calls. See `enqueue`."""
        listed: list[BoundCall[R]] = []
        for each in calls:
            listed.append(each)
            # There may be no end of them.
            if len(listed) > MOST_EFFECT_JOBS:
                break
        if not listed:
            return []
        return await _sender(listed[0]).keep_many(listed, self._effects)

    def enqueue_sync(self, call: BoundCall[R], /) -> JobHandle[R]:
        """`enqueue` for a sync job, which has a thread. Raises like `enqueue`, and UsageError on a
        running event loop, which it would block."""
        return _sender(call).keep_from_thread(call, self._effects)

    def _effects(self) -> AttemptEffects:
        """Raises UsageError where nothing can be kept."""
        return self.seat.effects()


def _sender(call: Any) -> Keeper:
    """The sender of its app. Raises UsageError and NotBound."""
    function = getattr(call, "function", None)
    if function is None or not hasattr(function, "bind"):
        raise UsageError(f"ctx.enqueue() takes a call, not {shown(call)}; write f.bind(...)")
    keeper: Keeper = function.sender
    return keeper
