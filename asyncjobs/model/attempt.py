"""One execution of a job, as its events and its middleware see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from asyncjobs.model.headers import NO_META
from asyncjobs.model.refs import JobRef

__all__ = ["AttemptInfo", "BatchInfo", "StopAsked"]


class StopAsked(NamedTuple):
    """An attempt was asked to stop, at `mono_s` (monotonic seconds).

    `reason` is `timeout`, `cancel`, `shutdown` or `lease lost`.
    """

    reason: str
    mono_s: float


class _Fields(NamedTuple):
    ref: JobRef
    name: str
    number: int
    max_attempts: int
    priority: int
    worker: str
    enqueued_ms: int
    scheduled_ms: int | None
    ready_ms: int
    began_ms: int | None
    tracing: str
    trace: Any
    stops: list[StopAsked]
    tags: tuple[str, ...] = ()
    meta: Mapping[str, str] = NO_META


class AttemptInfo(_Fields):
    """One attempt: which execution of which job it is, and what is known when it begins.

    All events and all middleware of one attempt get the same object, so it can be the key of a
    dict. Two attempts are never equal, even if they have the same number: a lost lease spends no
    attempt. It holds no arguments.

    `name` is the job function. `number` counts from 1. Times are milliseconds since the epoch:
    `ready_ms` and `began_ms` by the store's clock, `enqueued_ms` and `scheduled_ms` by the
    client's. `began_ms` is None until a sync function has its thread. `trace` is what the job
    carries of a trace, as stored and unchecked. `stops` lists each time that the attempt was asked
    to stop, oldest first. Only this list grows. `tags` and `meta` are those of the job.
    """

    __slots__ = ()

    @property
    def queue_time_ms(self) -> int:
        """How long the job was ready before the attempt began; 0 before it begins."""
        if self.began_ms is None:
            return 0
        return max(self.began_ms - self.ready_ms, 0)

    @property
    def stop_asked(self) -> StopAsked | None:
        """The last time that it was asked to stop; None if it was not."""
        if not self.stops:
            return None
        return self.stops[-1]

    # Compare by identity. A tuple compares its fields, which two attempts may share.
    __eq__ = object.__eq__  # pyright: ignore[reportAssignmentType]
    __ne__ = object.__ne__
    __hash__ = object.__hash__


class BatchInfo(NamedTuple):
    """One call of a batch consumer: the name of its job function, a queue, and its attempts in the
    order of the items."""

    name: str
    queue: str
    attempts: Sequence[AttemptInfo]
